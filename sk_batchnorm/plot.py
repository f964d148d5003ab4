"""RunningStatsDisplay: see how running statistics follow a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from sk_batchnorm._compat import check_parameters
from sk_batchnorm._inputs import Input, cut
from sk_batchnorm._kernels.numpy import Floats, ignore_float_errors
from sk_batchnorm._rule import rule_of
from sk_batchnorm._running_stats import RunningStats
from sk_batchnorm._transformer import BatchNorm1dTransformer
from sk_batchnorm._validation import (
    NAMELESS_ERRORS,
    check_input,
    check_times,
    naming_features,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["RunningStatsDisplay"]

# So many axes still fit one figure.
_FEATURES_BY_DEFAULT = 6


class RunningStatsDisplay:
    """Mini-batches of a stream, and the running statistics that follow them.

    For each feature, the mean ± standard deviation of every mini-batch is drawn
    against the running mean ± running standard deviation. If the half-life is too
    long, or the momentum too small, the line lags behind the mini-batches; if the
    half-life is too short, or the momentum too large, it repeats their noise.

    It is recommended to use :meth:`from_estimator` to create a display. All
    parameters are stored as attributes.

    Read more in the :ref:`user guide <choosing_halflife>`.

    Parameters
    ----------
    batch_mean, batch_std : ndarray of shape (n_batches, n_features)
        Mean and standard deviation of each mini-batch; NaN where it has too few
        observed values of the feature.

    running_mean, running_std : ndarray of shape (n_batches, n_features)
        Running mean and standard deviation after each mini-batch.

    bounds : ndarray of shape (n_batches + 1,)
        Mini-batch k holds the samples from ``bounds[k]`` up to
        ``bounds[k + 1]``.

    feature_names : sequence of str, of length n_features
        Names of the features that are drawn.

    Attributes
    ----------
    figure_ : matplotlib Figure
        Figure that holds the axes.

    bounding_ax_ : matplotlib Axes or None
        The Axes that the grid has replaced. None if the features were drawn into
        Axes that were passed.

    axes_ : ndarray of matplotlib Axes
        Of the shape (n_rows, n_cols) of the grid, with None for empty cells; or of
        the shape of the axes that were passed.

    errorbars_ : ndarray of matplotlib ErrorbarContainer
        The mini-batches. Like the next two, it has the shape of `axes_`, with None
        where `axes_` has None.

    lines_ : ndarray of matplotlib Line2D
        The running means.

    bands_ : ndarray of matplotlib PolyCollection
        One running standard deviation on either side.

    See Also
    --------
    sk_batchnorm.BatchNorm1dTransformer : What learns the statistics.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> from sk_batchnorm.plot import RunningStatsDisplay
    >>> X = np.random.default_rng(0).normal(size=(2000, 2)).cumsum(axis=0)
    >>> bn = BatchNorm1dTransformer(halflife=200, batch_size=50)
    >>> display = RunningStatsDisplay.from_estimator(bn, X)
    >>> display.running_mean.shape, display.axes_.shape
    ((40, 2), (1, 2))
    """

    figure_: Figure | Any  # Any: a SubFigure, for those who drew into one
    bounding_ax_: Axes | None
    axes_: NDArray[np.object_]
    errorbars_: NDArray[np.object_]
    lines_: NDArray[np.object_]
    bands_: NDArray[np.object_]

    def __init__(
        self,
        *,
        batch_mean: NDArray[np.float64],
        batch_std: NDArray[np.float64],
        running_mean: NDArray[np.float64],
        running_std: NDArray[np.float64],
        bounds: NDArray[np.int64],
        feature_names: Sequence[str],
    ) -> None:
        self.batch_mean = batch_mean
        self.batch_std = batch_std
        self.running_mean = running_mean
        self.running_std = running_std
        self.bounds = bounds
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        transformer: BatchNorm1dTransformer,
        X: Any,
        *,
        times: ArrayLike | None = None,
        features: int | str | Iterable[int | str] | None = None,
        ax: Axes | ArrayLike | None = None,
        n_cols: int = 2,
        line_kw: dict[str, Any] | None = None,
        fill_between_kw: dict[str, Any] | None = None,
        errorbar_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Stream X through a clone of a transformer and draw what it learns.

        X is cut by the transformer's `batch_size`, as by
        :meth:`~sk_batchnorm.BatchNorm1dTransformer.fit` without a half-life. The
        clone has not learned anything yet, and learns from the mini-batches one
        after the other, as by
        :meth:`~sk_batchnorm.BatchNorm1dTransformer.partial_fit`. So with PyTorch's
        rule, without `bias_correction`, the picture begins near mean 0 and variance 1.

        Parameters
        ----------
        transformer : BatchNorm1dTransformer
            Fitted or not. It is not changed.

        X : {array-like, sparse matrix} of shape (n_samples, n_features) or \
array-like of shape (n_samples, n_channels, n_timepoints)
            The stream, in the order of time; more than one mini-batch.

        times : array-like of shape (n_samples,), default=None
            Times of the samples, as for
            :meth:`~sk_batchnorm.BatchNorm1dTransformer.fit`.

        features : int, str or iterable of these, default=None
            Indices or names of the features to draw, in this order. None draws
            the first 6 features, or all if there are fewer.

        ax : matplotlib Axes or array-like of Axes, default=None
            Where to draw; see :meth:`plot`.

        n_cols : int, default=2
            Largest number of columns in the grid of axes.

        line_kw, fill_between_kw, errorbar_kw : dict, default=None
            Style of the running mean, of the running standard deviation and of
            the mini-batches; see :meth:`plot`.

        Returns
        -------
        RunningStatsDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the transformer is another estimator.
        ValueError
            If there is no such feature, if X is a single mini-batch or not what
            the transformer learns from, if it tracks no running statistics, or
            if the axes do not fit the features.
        InvalidParameterError
            If a parameter of the transformer is out of range.
        """
        _check_matplotlib(f"{cls.__name__}.from_estimator")
        display = cls(**_stream(transformer, X, times, features))
        return display.plot(
            ax,
            n_cols=n_cols,
            line_kw=line_kw,
            fill_between_kw=fill_between_kw,
            errorbar_kw=errorbar_kw,
        )

    def plot(
        self,
        ax: Axes | ArrayLike | None = None,
        *,
        n_cols: int = 2,
        line_kw: dict[str, Any] | None = None,
        fill_between_kw: dict[str, Any] | None = None,
        errorbar_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            - None makes a figure with a grid of axes, one for each feature, and
              a legend above them.
            - A single Axes is drawn into if there is one feature. If there are
              several, a grid takes its place, as in scikit-learn's
              ``PartialDependenceDisplay``.
            - An array-like holds one Axes for each feature, such as `axes_` of
              another display.

            If axes were passed, the legend is in the first one, or above the grid.

        n_cols : int, default=2
            Largest number of columns in the grid of axes.

        line_kw : dict, default=None
            Keywords for the ``matplotlib.axes.Axes.plot`` of the running mean.

        fill_between_kw : dict, default=None
            Keywords for the ``matplotlib.axes.Axes.fill_between`` of the
            running standard deviation. It takes the line's colour.

        errorbar_kw : dict, default=None
            Keywords for the ``matplotlib.axes.Axes.errorbar`` of the
            mini-batches.

        Returns
        -------
        RunningStatsDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the axes do not fit the features, or n_cols is below 1.
        """
        _check_matplotlib(f"{type(self).__name__}.plot")
        axes, bounding = _arrange(ax, len(self.feature_names), n_cols)
        cells = [cell for cell in np.ndindex(axes.shape) if axes[cell] is not None]
        artists = np.full((3, *axes.shape), None, dtype=object)
        for feature, cell in enumerate(cells):
            artists[:, *cell] = self._draw(
                axes[cell], feature, line_kw, fill_between_kw, errorbar_kw
            )
            if _is_lowest(axes, cell):
                # As fit cuts them, which differ by one at most.
                sizes = np.unique(np.diff(self.bounds))
                n_samples = " or ".join(map(str, sizes))
                # In cells as narrow as those of a bounding Axes, on two lines.
                gap = " " if bounding is None or ax is None else "\n"
                axes[cell].set_xlabel(f"Mini-batch of{gap}{n_samples} samples")
        first = axes[cells[0]]
        labelled = first.get_legend_handles_labels()
        if ax is None:
            first.figure.legend(
                *labelled, loc="outside upper center", ncols=3, columnspacing=1.5
            )
        elif bounding is not None:
            bounding.legend(*labelled, loc="center", fontsize="small")
        else:
            # Axes smaller than it keep their size.
            first.legend(fontsize="small").set_in_layout(False)
        self.figure_, self.axes_, self.bounding_ax_ = first.figure, axes, bounding
        self.errorbars_, self.lines_, self.bands_ = artists
        return self

    def _draw(
        self,
        ax: Axes,
        feature: int,
        line_kw: dict[str, Any] | None,
        fill_between_kw: dict[str, Any] | None,
        errorbar_kw: dict[str, Any] | None,
    ) -> tuple[Any, Any, Any]:
        """Draw one feature; the mini-batches lie behind."""
        import matplotlib as mpl
        from matplotlib.collections import PolyCollection
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        number = np.arange(1, len(self.running_mean) + 1)
        thin = min(1.0, 100 / len(number))  # as many mini-batches lie close
        style = {
            "fmt": ".",
            "color": mpl.rcParams["text.color"],  # legible on any background
            "alpha": 0.5,
            "markersize": max(2.0, 6 * thin),
            "elinewidth": thin,
            "zorder": 1,
            "label": "mini-batch: mean ± std",
        }
        errorbar = ax.errorbar(
            number,
            self.batch_mean[:, feature],
            self.batch_std[:, feature],
            **_style(style, errorbar_kw, Line2D),
        )
        color = mpl.colors.to_hex("C0")  # "C0" itself may mean another when rendered
        style = {"color": color, "linewidth": 2, "label": "running mean"}
        mean, std = self.running_mean[:, feature], self.running_std[:, feature]
        (line,) = ax.plot(number, mean, **_style(style, line_kw, Line2D))
        style = {
            "color": line.get_color(),
            "alpha": 0.3,
            "label": "± running std",
        }
        style = _style(style, fill_between_kw, PolyCollection)
        band = ax.fill_between(number, mean - std, mean + std, **style)
        ax.set_ylabel(self.feature_names[feature])
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        return errorbar, line, band


def _check_matplotlib(caller: str) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} requires matplotlib, which comes with the extra `plot`: "
            'pip install "sk-batchnorm[plot]"'
        ) from error


@ignore_float_errors
def _stream(
    transformer: BatchNorm1dTransformer,
    X: Any,
    times: ArrayLike | None,
    features: int | str | Iterable[int | str] | None,
) -> dict[str, Any]:
    """The numbers of a display."""
    if not isinstance(transformer, BatchNorm1dTransformer):
        raise TypeError(
            "RunningStatsDisplay draws a BatchNorm1dTransformer; got "
            f"{type(transformer).__name__}. Of a Pipeline pass that step, with the "
            "data that reach it."
        )
    learner = clone(transformer)
    check_parameters(learner)
    if not learner.track_running_stats:
        raise ValueError(
            "track_running_stats=False keeps no running statistics to draw."
        )
    data = check_input(learner, X, "partial_fit", reset=True).by_rows()
    shape = data.array.shape
    groups = cut(shape, learner.batch_size)
    bounds = np.array([0, *(end for group in groups for end in group[1:])])
    if len(bounds) == 2:
        raise ValueError(
            f"X of {shape[0]} samples is a single mini-batch, as batch_size="
            f"{learner.batch_size}: there is nothing to follow. Set a smaller "
            "batch_size, or pass more of the stream."
        )
    names = list(map(str, learner.get_feature_names_out()))
    chosen = _indices(features, names)
    steps = _steps(learner, data, check_times(learner, times, data), bounds)
    try:
        numbers = np.array([[values[chosen] for values in step] for step in steps])
    except NAMELESS_ERRORS as error:
        raise naming_features(error, data, None, names) from None
    batch_mean, batch_std, running_mean, running_std = numbers.transpose(1, 0, 2)
    return {
        "batch_mean": batch_mean,
        "batch_std": batch_std,
        "running_mean": running_mean,
        "running_std": running_std,
        "bounds": bounds,
        "feature_names": [names[feature] for feature in chosen],
    }


def _steps(
    learner: BatchNorm1dTransformer,
    data: Input,
    times: NDArray[Any] | None,
    bounds: NDArray[np.int64],
) -> Iterator[tuple[Floats, Floats, Floats, Floats]]:
    """Mean and standard deviation of each mini-batch, and the running ones."""
    rule = rule_of(
        learner.momentum, learner.variance, learner.bias_correction, learner.halflife
    )
    running = RunningStats.start(data.array.shape[1])
    for start in range(len(bounds) - 1):
        moments = data.moments(bounds[start : start + 2], n_jobs=learner.n_jobs)
        batch = learned = RunningStats.of(moments, rule)
        if rule.halflife is not None:
            rows = data.rows(bounds[start], bounds[start + 1])
            some = None if times is None else times[bounds[start] : bounds[start + 1]]
            faded, clock = rows.faded_moments(rule, None, some, learner.n_jobs)
            learned = RunningStats.of(faded, rule, clock)
        running = running.then(learned, rule)
        yield batch.mean, np.sqrt(batch.var), running.mean, np.sqrt(running.var)


def _indices(
    features: int | str | Iterable[int | str] | None, names: list[str]
) -> list[int]:
    """Indices of the features to draw."""
    if features is None:
        return list(range(len(names)))[:_FEATURES_BY_DEFAULT]
    several: Any = [features] if isinstance(features, str | Integral) else features
    indices = [_index(feature, names) for feature in several]
    if not indices:
        raise ValueError("features is empty: name at least one, or pass None.")
    return indices


def _index(feature: int | str, names: list[str]) -> int:
    if isinstance(feature, str):
        if feature not in names:
            raise ValueError(
                f"X has no feature named {feature!r}. Its features are "
                f"{_listed(names)}."
            )
        return names.index(feature)
    if isinstance(feature, bool | np.bool_) or not isinstance(feature, Integral):
        raise ValueError(
            f"features must be indices or names; got {feature!r} among them."
        )
    if not 0 <= feature < len(names):
        raise ValueError(
            f"X has no feature {feature}: their indices go from 0 to {len(names) - 1}."
        )
    return int(feature)


def _listed(names: list[str]) -> str:
    few = names[:10]
    return ", ".join(few) + (", ..." if len(names) > len(few) else "")


def _arrange(
    ax: Axes | ArrayLike | None, n_features: int, n_cols: int
) -> tuple[Any, Axes | None]:
    """Axes for the features, and the one whose place a grid of them takes."""
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    if n_cols < 1:
        raise ValueError(f"n_cols must be at least 1; got {n_cols}.")
    n_cols = min(n_cols, n_features)
    n_rows = -(-n_features // n_cols)
    if ax is None:
        size = 5.5 * n_cols, 2.4 * n_rows + 0.6
        _, ax = plt.subplots(figsize=size, layout="constrained")
        return _grid(ax, n_features, n_rows, n_cols), ax
    if n_features == 1 or not isinstance(ax, Axes):
        axes = np.asarray(ax, dtype=object)
        n_axes = sum(each is not None for each in axes.flat)
        if n_axes != n_features:
            raise ValueError(
                f"ax must hold one Axes for each of {n_features} features; got "
                f"{n_axes}."
            )
        return axes, None
    return _grid(ax, n_features, n_rows, n_cols, legend_row=True), ax


def _grid(
    bounding: Axes,
    n_features: int,
    n_rows: int,
    n_cols: int,
    *,
    legend_row: bool = False,
) -> Any:
    """Axes with a common x, whose ticks have labels where nothing is below.

    With legend_row, the bounding Axes shrink to a row above them.
    """
    cell = bounding.get_subplotspec()
    if cell is None or not bounding.axison:
        raise ValueError(
            "A grid can't take the place of this Axes, as it is no subplot or holds a "
            f"grid already. Pass {n_features} Axes, such as axes_ of another display."
        )
    bounding.set_axis_off()
    axes: Any = np.full((n_rows, n_cols), None, dtype=object)
    heights = [0.3] * legend_row + [1.0] * n_rows
    specs = cell.subgridspec(len(heights), n_cols, height_ratios=heights)
    if legend_row:
        bounding.set_subplotspec(specs[0, :])
    for i in range(n_features):
        spec = specs[i + legend_row * n_cols]
        axes.flat[i] = bounding.figure.add_subplot(spec, sharex=axes[0, 0])
        axes.flat[i].tick_params(labelbottom=i + n_cols >= n_features)
    return axes


def _is_lowest(axes: Any, cell: tuple[int, ...]) -> bool:
    """Whether no axes of a grid are below."""
    below = (cell[0] + 1, *cell[1:]) if axes.ndim > 1 else ()
    return not below or below[0] == len(axes) or axes[below] is None


def _style(
    default: dict[str, Any], given: dict[str, Any] | None, artist: Any
) -> dict[str, Any]:
    """Keywords in which those of the caller win, under any alias such as `lw`."""
    from matplotlib.cbook import normalize_kwargs

    return default | normalize_kwargs(given or {}, artist)
