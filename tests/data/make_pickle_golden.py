"""Write the golden pickles of tests/test_persistence.py.

Run from the repository's root, with this version of the package and the oldest
NumPy and scikit-learn that it supports (NumPy 1 can't read the pickles of
NumPy 2, which can read those of NumPy 1):

    python tests/data/make_pickle_golden.py

The file is named after the version and is never written again: each later
version must read it. It holds, per case, the pickle, rows, what the
transformer makes of them, its parameters as JSON and its state.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn

from sk_batchnorm import BatchNorm1dTransformer, __version__

PATH = Path(__file__).with_name(f"pickle_{__version__}.npz")
NAMES = ["height", "width", "depth"]


def cases() -> dict[str, BatchNorm1dTransformer]:
    """Transformers of every kind of state."""
    rng = np.random.default_rng(31)
    X = rng.normal([1.0, -20.0, 300.0], [0.5, 4.0, 30.0], (32, 3))
    frame = pd.DataFrame(X, columns=NAMES)
    missing = X.copy()
    missing[1:, 0] = np.nan
    of = BatchNorm1dTransformer
    with sklearn.config_context(enable_metadata_routing=True):
        requests = of().set_fit_request(sample_weight=True)
        requests.set_partial_fit_request(sample_weight="weight").fit(X)
    return {
        "default": of().partial_fit(X),
        "fit": of(batch_size=10, variance="total").fit(X),
        "not affine": of(affine=False, momentum=None).fit(X),
        "not tracked": of(track_running_stats=False, weight_init=2.0).fit(X),
        "neither": of(affine=False, track_running_stats=False).fit(X),
        "not centred": of(num_features=3, with_mean=False, n_jobs=2).fit(X),
        "counts of each feature": of().partial_fit(X).partial_fit(missing),
        "initial arrays": of(weight_init=np.arange(1.0, 4.0), bias_init=[3, 4, 5]).fit(
            X
        ),
        "feature names": of(bias_correction=True).partial_fit(frame),
        "set_output": of(copy=False).set_output(transform="pandas").fit(frame),
        "metadata requests": requests,
        "three dimensions": of().fit(X.reshape(4, 8, 3).transpose(0, 2, 1)),
        "loaded": of(eps=0.0).load_state_dict(of().partial_fit(X).state_dict()),
        "half-life": of(halflife=20.0).fit(X),
        "half-life in time": of(halflife=3.5).fit(X, times=np.arange(32.0) ** 1.5),
        "half-life with gaps": of(halflife=20.0).fit(X).partial_fit(missing),
        "limited": of(clip=1.5, handle_missing="mean", bias=False).fit(X),
        "not fitted": of(momentum=0.25),
    }


def main() -> None:
    if PATH.exists():
        raise SystemExit(f"{PATH.name} exists: what a version wrote stays as it is.")
    X = np.random.default_rng(7).normal([1.0, -20.0, 300.0], 10.0, (5, 3))
    arrays = {"X": X, "names": np.array(NAMES)}
    for case, bn in cases().items():
        for protocol in (4, 5):
            pickled = np.frombuffer(pickle.dumps(bn, protocol), dtype=np.uint8)
            arrays[f"{case}/pickle{protocol}"] = pickled
        parameters = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in bn.get_params().items()
        }
        arrays[f"{case}/parameters"] = np.array(json.dumps(parameters))
        if case == "not fitted":
            continue
        named = hasattr(bn, "feature_names_in_")
        arrays[f"{case}/named"] = np.array(named)
        rows = pd.DataFrame(X, columns=NAMES) if named else X
        arrays[f"{case}/output"] = np.array(bn.transform(rows, copy=True))
        for key, value in bn.state_dict().items():
            arrays[f"{case}/state/{key}"] = value
    np.savez_compressed(PATH, **arrays)
    print(f"{PATH.name}: {len(cases())} cases, {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
