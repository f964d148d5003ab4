"""
==============================
Learning from drifting sensors
==============================

A linear classifier learns handwritten digits from a stream of images, in which
each of the 64 pixels is a sensor whose gain and offset change with time. What
should scale the readings: nothing, ``StandardScaler``, for which the first image
weighs as much as the last, or ``BatchNorm1dTransformer``, which forgets?

The images are real (``load_digits``, each seen once). The drift is simulated: a
reading x becomes gain * x + offset.
"""

import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer

X, y = load_digits(return_X_y=True)
n_images, n_pixels = X.shape
BATCH_SIZE, SEEDS = 24, range(5)
SCENARIOS = ["no drift", "slow drift", "sudden change"]

# %%
# Under the slow drift each sensor swings, as with the temperature around it, in
# a period and phase of its own. In the sudden change all sensors are replaced
# halfway through the stream. Offsets are in grey levels; the images have 0 to 16.


def drift(scenario, rng):
    """Draw how far each pixel has drifted by each image, from 0 at the first."""
    time = np.linspace(0, 1, n_images)[:, np.newaxis]
    if scenario == "slow drift":
        period, phase = rng.uniform(1, 3, n_pixels), rng.uniform(0, 1, n_pixels)
        wave = np.sin(2 * np.pi * (time / period + phase))
        return wave - wave[0]
    return (scenario == "sudden change") * (time > 0.5) * rng.normal(size=n_pixels)


def stream(scenario, seed):
    """Cut the images, in random order, into mini-batches of drifting readings."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_images)
    gain, offset = np.exp(0.5 * drift(scenario, rng)), 8 * drift(scenario, rng)
    readings, n_batches = gain * X[order] + offset, n_images // BATCH_SIZE
    return np.array_split(readings, n_batches), np.array_split(y[order], n_batches)


# %%
# ``BatchNorm1dTransformer`` takes part twice: with a half-life, and with its defaults,
# which are PyTorch's rule. Both forget at the same rate: with ``momentum=0.1``, 6.6
# mini-batches of 24 images have halved what was learned before. But PyTorch's running
# variance averages the variances *within* the mini-batches, and its start at mean 0 and
# variance 1 fades slowly. With a half-life, the variance also counts how much the means
# of the mini-batches vary, as they do in a drift, and there is no start.
#
# Each mini-batch is first classified with what was known before it came; then
# the scaler learns from it, then the classifier. All classifiers have the same
# settings. Their learning rate is constant, so that they too can follow a drift.

# Of what PyTorch's rule costs here, the table tells.
warnings.filterwarnings("ignore", "PyTorch's start|The variance of feature")

OURS, PYTORCH = "Half-life of 160 images", "PyTorch's rule"
SCALERS = {
    "No scaling": StandardScaler(with_mean=False, with_std=False),  # changes nothing
    "StandardScaler": StandardScaler(),
    OURS: BatchNorm1dTransformer(halflife=160),
    PYTORCH: BatchNorm1dTransformer(),
}


def prequential_accuracy(scenario, seed):
    """Return, for each scaling, the accuracy in % on each mini-batch."""
    sgd = SGDClassifier(learning_rate="constant", eta0=0.01, random_state=seed)
    models = {name: (clone(scaler), clone(sgd)) for name, scaler in SCALERS.items()}
    accuracy = {name: [] for name in SCALERS}
    for images, digits in zip(*stream(scenario, seed), strict=True):
        for name, (scaler, classifier) in models.items():
            if hasattr(classifier, "classes_"):  # not before the first mini-batch
                predicted = classifier.predict(scaler.transform(images))
                accuracy[name].append(100 * np.mean(predicted == digits))
            scaler.partial_fit(images)
            classifier.partial_fit(scaler.transform(images), digits, np.unique(y))
    return accuracy


runs = {s: [prequential_accuracy(s, seed) for seed in SEEDS] for s in SCENARIOS}
print(f"Correct digits in %, mean ± standard deviation over {len(SEEDS)} seeds\n")
print(" " * 27, *(f"{scenario:>15}" for scenario in SCENARIOS))
for name in SCALERS:
    means = [[np.mean(run[name]) for run in runs[s]] for s in SCENARIOS]
    cells = [f"{np.mean(m):8.1f} ± {np.std(m, ddof=1):4.1f}" for m in means]
    print(f"{name:27}", *cells)

# %%
# Without drift, the half-life and ``StandardScaler`` are equally good: forgetting
# gains nothing there. Under both drifts, the half-life is a little better.
# PyTorch's rule is worse than ``StandardScaler`` everywhere, and under the slow drift
# even worse than no scaling: a corner pixel, where there is hardly ever any ink, hardly
# varies within a mini-batch; its drift, divided by so little, drowns the other pixels.

WINDOW, PIXEL = 5, 19  # mini-batches in the rolling mean; a pixel near the middle
COLORS = {"No scaling": "#777777", "StandardScaler": "#D55E00"}
COLORS |= {OURS: "#0072B2", PYTORCH: "#E69F00"}
batches, _ = stream("slow drift", seed=SEEDS[0])
n_seen = np.cumsum([len(images) for images in batches])
plt.rc("font", size=12)
figure, (top, bottom) = plt.subplots(2, figsize=(9, 8), layout="constrained")
for name, color in COLORS.items():
    accuracy = np.mean([run[name] for run in runs["slow drift"]], axis=0)
    rolling = np.convolve(accuracy, np.ones(WINDOW) / WINDOW, "valid")
    top.plot(n_seen[WINDOW:], rolling, color=color, linewidth=2.5, label=name)
for name, attribute in [("StandardScaler", "mean_"), (OURS, "running_mean_")]:
    scaler = clone(SCALERS[name])
    means = [getattr(scaler.partial_fit(x), attribute)[PIXEL] for x in batches]
    bottom.plot(n_seen, means, color=COLORS[name], linewidth=2.5)
means = [images[:, PIXEL].mean() for images in batches]
bottom.plot(n_seen, means, "ko", label="Mean of a mini-batch")
top.set_title(f"Slow drift: last {WINDOW} mini-batches, mean of {len(SEEDS)} seeds")
top.set(ylabel="Correct digits (%)", xlim=bottom.get_xlim())
bottom.set_title("Slow drift: mean of one pixel, and the running means, first seed")
bottom.set(ylabel="Grey level", xlabel=f"Images seen, {BATCH_SIZE} in a mini-batch")
figure.legend(loc="outside upper center", ncols=2)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=120)
    print("\nPicture saved to", sys.argv[1])
