"""
============================
Text, a mini-batch at a time
============================

Which library does a docstring come from: NumPy, SciPy or scikit-learn? A linear
classifier learns this from a stream of texts. ``HashingVectorizer`` counts their words
without a vocabulary, into a sparse matrix; one mini-batch in memory is enough.

Does it help to scale the counts? The scaler, too, must have ``partial_fit``, and it
must keep zeros: ``MaxAbsScaler`` does, and the others do with ``with_mean=False``.
"""

import re
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import scipy
import sklearn
from sklearn.base import clone
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from sklearn.utils import gen_batches, shuffle

from sk_batchnorm import BatchNorm1dTransformer

BATCH_SIZE, SEEDS = 200, range(3)

# %%
# The docstrings of the installed libraries stand in for texts that memory can't hold.


def docstrings(library):
    """Yield what stands between triple quotes in the source files."""
    folder = Path(library.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        if not {"tests", "externals", "_lib"} & set(path.relative_to(folder).parts):
            yield from re.findall('"""(.*?)"""', path.read_text("utf-8"), re.DOTALL)


libraries = enumerate([np, scipy, sklearn])
labels = {text: i for i, library in libraries for text in docstrings(library)}
texts = [text for text in labels if len(text.split()) >= 30]  # each once
y = np.array([labels[text] for text in texts])

names = ["numpy", "np", "scipy", "scikit", "learn", "sklearn"]  # they'd tell the answer
hashing = HashingVectorizer(n_features=2**13, norm=None, stop_words=names)
counts = hashing.transform(texts[:BATCH_SIZE])
scaled = BatchNorm1dTransformer(with_mean=False).fit_transform(counts)
print(f"Values stored for a mini-batch of {BATCH_SIZE} of the {len(texts):,} texts:")
print(f"{counts.nnz:,} before scaling, {scaled.nnz:,} after", end="; ")
print(f"a dense matrix would hold {np.prod(counts.shape):,}.\n")

# %%
# ``BatchNorm1dTransformer`` takes part once with PyTorch's rule, and twice with
# ``bias_correction=True``, which leaves out that rule's start at variance 1. Each
# mini-batch is first classified; then the scalers learn from it, then the classifiers.
# The best learning rate depends on the scale, so each scaler is followed by a
# classifier for each rate.

# What it warns of is what is compared: the start, and words rarer than eps.
warnings.filterwarnings("ignore", "PyTorch's start|The variance of feature")

corrected = BatchNorm1dTransformer(with_mean=False, bias_correction=True)
SCALERS = {
    "No scaling": StandardScaler(with_mean=False, with_std=False),  # changes nothing
    "MaxAbsScaler": MaxAbsScaler(),
    "StandardScaler": StandardScaler(with_mean=False),
    "BatchNorm1d, PyTorch's rule": BatchNorm1dTransformer(with_mean=False),
    "BatchNorm1d, eps=1e-5": corrected,  # the default eps
    "BatchNorm1d, eps=0.01": clone(corrected).set_params(eps=0.01),
}
RATES = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3]


def prequential_accuracy(seed):
    """Return the scalers at the end, and the accuracy in % with each and each rate."""
    sgd = SGDClassifier(learning_rate="constant", random_state=seed)
    scalers = [clone(scaler) for scaler in SCALERS.values()]
    classifiers = [[clone(sgd).set_params(eta0=r) for r in RATES] for _ in scalers]
    correct = np.zeros((len(scalers), len(RATES)))
    stream, truth = shuffle(texts, y, random_state=seed)
    for batch in gen_batches(len(stream), BATCH_SIZE):
        counts, target = hashing.transform(stream[batch]), truth[batch]
        for i, scaler in enumerate(scalers):
            if batch.start > 0:  # from the first it can only learn
                X = scaler.transform(counts)
                correct[i] += [np.sum(c.predict(X) == target) for c in classifiers[i]]
            X = scaler.partial_fit(counts).transform(counts)
            for classifier in classifiers[i]:
                classifier.partial_fit(X, target, np.unique(y))
    return scalers, 100 * correct / (len(stream) - BATCH_SIZE)


fitted, runs = zip(*map(prequential_accuracy, SEEDS), strict=True)
means, spread = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1)
print(f"Correct texts in %, mean over {len(SEEDS)} seeds; best ± standard deviation\n")
print(f"{'Learning rate':27}", *(f"{rate:.0e}" for rate in RATES), f"{'best':>7}")
for name, row, deviation in zip(SCALERS, means, spread, strict=True):
    best = f"{row.max():7.1f} ± {deviation[row.argmax()]:.1f}"
    print(f"{name:27}", *(f"{mean:5.1f}" for mean in row), best)

# %%
# A word that occurs in a small share p of the texts has a variance of about p, so that
# its counts are multiplied by about 1 / sqrt(p). `eps` limits this factor to 1 /
# sqrt(eps): 316 for the default, 10 for 0.01. PyTorch's start at variance 1 is a limit,
# too, but it fades.
#
# - At its best rate, every scaling beats no scaling, and ``eps=0.01`` (chosen in
#   hindsight) is the best: a few texts say little about the rarest words.
# - The other four hardly differ. With the default `eps`, ``BatchNorm1dTransformer``
#   gains nothing over ``StandardScaler``: there is no drift, and so nothing to forget.
# - At the largest rates, ``MaxAbsScaler``, which multiplies the least, is better than
#   ``BatchNorm1dTransformer``. Search `eps` and the rate together, on texts like yours.

COLORS = ["#777777", "#E69F00", "#D55E00", "#56B4E9", "#009E73", "#0072B2"]
WORDS = ["the", "array", "sparse", "kernel", "wavelet", "bicubic"]  # ever rarer
found = [[bool(re.search(rf"\b{word}\b", t)) for t in texts] for word in WORDS]
ticks = [f"{w}\n{100 * np.mean(f):.2g}%" for w, f in zip(WORDS, found, strict=True)]
plt.rc("font", size=12)
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 6), layout="constrained")
for i, name in enumerate(SCALERS):
    style = {"color": COLORS[i], "marker": "oDs^vP"[i], "lw": 2.5, "ms": 8}
    left.semilogx(RATES, means[i], label=name, **style)
    right.semilogy(abs(fitted[0][i].transform(hashing.transform(WORDS)).data), **style)
left.set_title("Which library does a docstring come from?")
left.set(xlabel="Learning rate of the classifier", ylabel="Correct texts (%)")
right.set_title("What the scalers multiply a word's count by")
right.set(xlabel="Word, and the share of texts that contain it", ylabel="Multiplier")
right.set_xticks(range(len(WORDS)), ticks)
for axis in [left.xaxis, right.yaxis]:
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
figure.legend(loc="outside upper center", ncols=3)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=120)
    print("\nPicture saved to", sys.argv[1])
