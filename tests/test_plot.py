"""The display's numbers are those of a stream, and its picture shows its numbers."""

import sys
from datetime import timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.pipeline import make_pipeline

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm._compat import InvalidParameterError
from sk_batchnorm.plot import RunningStatsDisplay

from .laws import unchanged

mpl = pytest.importorskip("matplotlib")
mpl.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal([1.0, -20.0, 300.0], [0.5, 4.0, 30.0], (100, 3))
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
BN = BatchNorm1dTransformer(batch_size=10, bias_correction=True)
NUMBERS = ("batch_mean", "batch_std", "running_mean", "running_std")

draw = RunningStatsDisplay.from_estimator


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def assert_same_numbers(display, expected, **tolerance):
    for name in NUMBERS:
        got, wanted = getattr(display, name), getattr(expected, name)
        assert_allclose(got, wanted, err_msg=name, **tolerance)


def drawn(axes):
    """Axes that there are in a grid."""
    return [ax for ax in axes.flat if ax is not None]


# The numbers


@given(
    st.integers(2, 60),
    st.integers(2, 20),
    st.sampled_from([0.0, 0.3, 1.0, None]),
    st.sampled_from(["within", "total"]),
    st.booleans(),
    st.sampled_from([None, 3, np.inf]),
    st.floats(0, 0.9),
    st.integers(0, 2**32 - 1),
)
def test_running_statistics_are_those_of_partial_fit(
    n_rows, batch_size, momentum, variance, bias_correction, halflife, missing, seed
):
    variance = "total" if halflife else variance
    rng = np.random.default_rng(seed)
    data = rng.normal(5.0, 3.0, (n_rows + batch_size, 2))
    data[rng.random(data.shape) < missing] = np.nan
    data[:3] = [[0.0, 1.0], [2.0, 5.0], [4.0, 3.0]]  # else a warning of no value
    bn = BatchNorm1dTransformer(
        momentum=momentum,
        variance=variance,
        bias_correction=bias_correction,
        halflife=halflife,
        batch_size=batch_size,
    )
    if len(data) < 2 * batch_size:
        return  # a single mini-batch
    display = draw(bn, data)
    plt.close(display.figure_)
    parts = np.array_split(np.arange(len(data)), len(data) // batch_size)
    stops = [int(part[-1]) + 1 for part in parts]
    assert display.bounds.tolist() == [0, *stops]
    fewest = 2 if variance == "within" else 1
    for k, (start, stop) in enumerate(zip([0, *stops], stops, strict=False)):
        batch = data[start:stop]
        bn.partial_fit(batch)
        assert_array_equal(display.running_mean[k], bn.running_mean_)
        assert_array_equal(display.running_std[k], np.sqrt(bn.running_var_))
        enough = np.isfinite(batch).sum(axis=0) >= fewest
        assert_array_equal(np.isfinite(display.batch_mean[k]), enough)
        assert_array_equal(np.isfinite(display.batch_std[k]), enough)
        observed = batch[:, enough]
        # Sums in another order than NumPy's, of values around 5.
        assert_allclose(
            display.batch_mean[k][enough], np.nanmean(observed, axis=0), atol=1e-13
        )
        std = np.nanstd(observed, axis=0, ddof=fewest - 1)
        assert_allclose(display.batch_std[k][enough], std, rtol=1e-12, atol=1e-13)


def test_the_clone_starts_afresh_and_changes_nothing():
    fitted = BatchNorm1dTransformer(batch_size=10, bias_correction=True).fit(X + 7)
    with unchanged(fitted, BN):
        assert_same_numbers(draw(fitted, X), draw(BN, X), rtol=0)


def test_sparse_is_as_dense():
    data = np.where(X > 0, X, 0.0)
    bn = BatchNorm1dTransformer(batch_size=10, with_mean=False)
    # Zeros are counted, not summed.
    assert_same_numbers(draw(bn, sparse.csr_array(data)), draw(bn, data), rtol=1e-12)


def test_other_namespaces_are_as_numpy():
    xp = pytest.importorskip("array_api_strict")
    with config_context(array_api_dispatch=True):
        display = draw(BN, xp.asarray(X))
    assert_same_numbers(display, draw(BN, X), rtol=1e-12)


def test_a_channel_of_three_dimensions_is_a_feature():
    signals = RNG.normal(3.0, 2.0, (40, 2, 5))
    flat = signals.transpose(0, 2, 1).reshape(-1, 2)
    display = draw(BN, signals)
    rows = draw(BatchNorm1dTransformer(batch_size=50, bias_correction=True), flat)
    assert_same_numbers(display, rows, rtol=1e-13)  # blocks of another shape
    assert display.bounds.tolist() == [0, 10, 20, 30, 40]
    assert [ax.get_ylabel() for ax in drawn(display.axes_)] == ["x0", "x1"]


# Features and their names


def test_the_first_six_features_are_drawn_by_default():
    wide = RNG.normal(size=(40, 9))
    display = draw(BN, wide)
    assert display.feature_names == ["x0", "x1", "x2", "x3", "x4", "x5"]
    assert display.running_mean.shape == (4, 6)
    assert len(drawn(display.axes_)) == 6


def test_features_are_drawn_in_their_order():
    wide = RNG.normal(size=(40, 9))
    features = [8, "x0", 3, np.int64(7), 1, 2, 4, 5]
    display = draw(BN, wide, features=features)
    order = [8, 0, 3, 7, 1, 2, 4, 5]
    assert display.feature_names == [f"x{i}" for i in order]
    assert len(drawn(display.axes_)) == len(features)
    everything = draw(BN, wide, features=range(9))
    for name in NUMBERS:
        expected = getattr(everything, name)[:, order]
        assert_array_equal(getattr(display, name), expected)


@pytest.mark.parametrize("frame", [FRAME, pl.DataFrame(dict(FRAME.items()))])
@pytest.mark.parametrize("feature", ["b", ["b"], 1])
def test_features_of_a_dataframe_have_its_names(frame, feature):
    display = draw(BN, frame, features=feature)
    (ax,) = drawn(display.axes_)
    assert ax.get_ylabel() == "b"
    assert_array_equal(display.running_mean, draw(BN, X, features=1).running_mean)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("d", "no feature named 'd'. Its features are a, b, c."),
        (["a", "x0"], "no feature named 'x0'"),
        ([0, 3], "no feature 3: their indices go from 0 to 2"),
        (-1, "no feature -1"),
        ([0.5], "indices or names; got 0.5"),
        ([True, False, True], "indices or names; got True"),
        ([], "features is empty"),
    ],
)
def test_unknown_features(features, message):
    with pytest.raises(ValueError, match=message):
        draw(BN, FRAME, features=features)
    with pytest.raises(ValueError, match="x8, x9, \\.\\.\\.\\.$"):  # not all of them
        draw(BN, RNG.normal(size=(40, 11)), features="y")
    assert not plt.get_fignums()


# Errors


INFINITE = np.where(X[50] == X, np.inf, X)


@pytest.mark.parametrize(
    ("estimator", "data", "error", "message"),
    [
        *[
            (BatchNorm1dTransformer(batch_size=n), X, ValueError, f"single.*_size={n}")
            for n in (None, 100, 99)
        ],
        (BatchNorm1dTransformer(track_running_stats=False), X, ValueError, "ats=False"),
        (make_pipeline(BN), X, TypeError, "got Pipeline"),
        (BatchNorm1dTransformer(momentum=2.0), X, InvalidParameterError, "momentum"),
        (BatchNorm1dTransformer(4), X, ValueError, "num_features=4"),
        (BN, INFINITE, ValueError, "contains infinity"),
        (BN, sparse.csr_matrix(X), ValueError, "with_mean=False"),
    ],
)
def test_what_can_not_be_drawn(estimator, data, error, message):
    with pytest.raises(error, match=message):
        draw(estimator, data, features=0)
    assert not plt.get_fignums()


def test_without_matplotlib_an_error_names_the_extra(monkeypatch):
    display = draw(BN, X)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for call, caller in [
        (lambda: draw("no transformer", X), "from_estimator"),  # before anything else
        (display.plot, "plot"),
    ]:
        message = rf'RunningStatsDisplay\.{caller} .*pip install "sk-batchnorm\[plot\]"'
        with pytest.raises(ImportError, match=message):
            call()


# The picture


def test_what_is_drawn_are_the_numbers():
    holes = X.copy()
    holes[20:40, 1] = np.nan
    display = draw(BN, holes)
    number = np.arange(1, 11)
    for i, ax in enumerate(drawn(display.axes_)):
        line, errorbar = display.lines_.flat[i], display.errorbars_.flat[i]
        assert line in ax.lines
        assert display.bands_.flat[i] in ax.collections
        assert_array_equal(line.get_xydata().T, [number, display.running_mean[:, i]])
        mean, std = display.batch_mean[:, i], display.batch_std[:, i]
        markers, _, (bars,) = errorbar.lines
        assert_array_equal(markers.get_xydata().T, [number, mean])
        # A bar that is NaN has no ends.
        ends = np.array([bar for bar in bars.get_segments() if len(bar)])
        seen = np.isfinite(mean)
        assert seen.sum() == (8 if i == 1 else 10)
        low, high = (mean - std)[seen], (mean + std)[seen]
        assert_allclose(ends[:, :, 1].T, [low, high], rtol=1e-15)
        (path,) = display.bands_.flat[i].get_paths()
        vertices = {tuple(vertex) for vertex in path.vertices}
        running, spread = display.running_mean[:, i], display.running_std[:, i]
        for edge in (running - spread, running + spread):
            assert set(zip(number, edge, strict=True)) <= vertices


def test_a_figure_of_its_own():
    display = draw(BN, FRAME)
    assert display.axes_.shape == (2, 2)
    assert display.axes_[1, 1] is None
    a, b, c = drawn(display.axes_)
    assert [ax.get_ylabel() for ax in (a, b, c)] == ["a", "b", "c"]
    assert all(ax.figure is display.figure_ for ax in (a, b, c))
    assert a.get_shared_x_axes().joined(a, c)
    # The mini-batches are numbered where nothing is below.
    label = "Mini-batch of 10 samples"
    assert [ax.get_xlabel() for ax in (a, b, c)] == ["", label, label]
    ticks = [ax.xaxis.get_major_ticks()[0] for ax in (a, b, c)]
    assert [tick.label1.get_visible() for tick in ticks] == [False, True, True]
    assert not display.bounding_ax_.axison
    # One legend for all.
    (legend,) = display.figure_.legends
    assert len(legend.get_texts()) == 3
    assert all(ax.get_legend() is None for ax in display.figure_.axes)
    for artists in (display.lines_, display.bands_, display.errorbars_):
        assert artists.shape == (2, 2)
        assert artists[1, 1] is None


@pytest.mark.parametrize(
    ("n_cols", "shape"), [(1, (3, 1)), (2, (2, 2)), (3, (1, 3)), (8, (1, 3))]
)
def test_n_cols(n_cols, shape):
    assert draw(BN, X, n_cols=n_cols).axes_.shape == shape
    with pytest.raises(ValueError, match="n_cols must be at least 1; got 0"):
        draw(BN, X, n_cols=0)


@pytest.mark.parametrize(("n_rows", "label"), [(30, "10"), (31, "10 or 11")])
def test_mini_batches_are_numbered_and_measured(n_rows, label):
    display = draw(BN, X[:n_rows], features=0)
    ax = display.axes_[0, 0]
    assert ax.get_xlabel() == f"Mini-batch of {label} samples"
    display.figure_.draw_without_rendering()
    assert_array_equal(ax.get_xticks(), np.round(ax.get_xticks()))


def test_one_axes_for_one_feature():
    figure, (left, right) = plt.subplots(1, 2)
    display = draw(BN, FRAME, features="c", ax=right)
    assert display.figure_ is figure
    assert display.axes_.item() is right
    assert display.bounding_ax_ is None
    assert right.axison
    assert right.get_legend()
    assert not figure.legends
    assert not left.lines


def overlaps(ax, extent):
    return ax.get_window_extent().overlaps(extent)


@pytest.mark.parametrize(("features", "n_cols"), [(["a"], 2), (None, 1), (None, 2)])
def test_the_legend_is_whole(features, n_cols):
    figure = draw(BN, FRAME, features=features, n_cols=n_cols).figure_
    figure.draw_without_rendering()
    (legend,) = figure.legends
    extent = legend.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.x1
    assert extent.y1 <= figure.bbox.y1
    assert not any(overlaps(ax, extent) for ax in figure.axes)


def test_the_legend_stays_in_axes_of_their_own_size():
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    draw(BN, FRAME, features="a", ax=axes[1])
    figure.draw_without_rendering()
    extent = axes[1].get_legend().get_window_extent()
    assert axes[1].get_window_extent().containsx(extent.x0)
    assert axes[1].get_window_extent().containsx(extent.x1)


def test_a_grid_takes_the_place_of_one_axes():
    figure, (left, right) = plt.subplots(1, 2, layout="constrained")
    display = draw(BN, FRAME, ax=right)
    assert display.figure_ is figure
    assert display.bounding_ax_ is right
    assert not right.axison
    figure.draw_without_rendering()  # warns if there is no room for the axes
    for ax in drawn(display.axes_):
        assert ax.get_position().x0 > left.get_position().x1
    # The legend is above the grid, in no neighbour.
    assert not any(ax.get_legend() for ax in drawn(display.axes_))
    legend = right.get_legend().get_window_extent()
    assert not any(overlaps(ax, legend) for ax in (left, *drawn(display.axes_)))
    with pytest.raises(ValueError, match="holds a grid already"):
        display.plot(right)


def test_a_grid_needs_a_subplot():
    ax = plt.figure().add_axes((0.1, 0.1, 0.8, 0.8))
    with pytest.raises(ValueError, match="is no subplot"):
        draw(BN, X, ax=ax)
    assert ax.axison
    assert draw(BN, X, features=0, ax=ax).axes_.item() is ax


def test_axes_for_each_feature():
    _, axes = plt.subplots(3)
    display = draw(BN, FRAME, ax=axes)
    assert_array_equal(display.axes_, axes)
    assert [bool(ax.get_legend()) for ax in axes] == [True, False, False]
    assert all(ax.get_xlabel() for ax in axes)  # not of a grid
    with pytest.raises(ValueError, match="each of 2 features; got 3"):
        draw(BN, FRAME, features=["a", "b"], ax=axes)


def test_two_displays_on_the_same_axes():
    first = draw(BN, X)
    settings = {"batch_size": 10, "bias_correction": True, "momentum": 0.9}
    style = {"c": "C1", "label": "momentum 0.9"}
    second = draw(BatchNorm1dTransformer(**settings), X, ax=first.axes_, line_kw=style)
    assert_array_equal(first.axes_, second.axes_)
    labels = [text.get_text() for text in second.axes_[0, 0].get_legend().texts]
    assert {"running mean", "momentum 0.9"} <= set(labels)


def test_keywords_change_the_style_under_any_alias():
    display = draw(
        BN,
        X,
        features=0,
        line_kw={"c": "red", "lw": 5},
        fill_between_kw={"alpha": 0.5},
        errorbar_kw={"ms": 11, "elinewidth": 4},
    )
    line, band = display.lines_[0, 0], display.bands_[0, 0]
    assert (line.get_color(), line.get_linewidth()) == ("red", 5)
    assert_array_equal(band.get_facecolor(), [[1.0, 0.0, 0.0, 0.5]])  # as the line
    markers, _, (bars,) = display.errorbars_[0, 0].lines
    assert (markers.get_markersize(), bars.get_linewidth()[0]) == (11, 4)


def luminance(color, alpha, ground):
    """Relative luminance (WCAG 2.1) of a colour on an opaque ground."""
    over, under = (np.array(mpl.colors.to_rgb(c)) for c in (color, ground))
    alpha = 1.0 if alpha is None else alpha
    mixed = alpha * over + (1 - alpha) * under
    linear = np.where(mixed <= 0.03928, mixed / 12.92, ((mixed + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


@pytest.mark.parametrize("style", ["default", "dark_background", "grayscale"])
def test_legible_in_light_in_the_dark_and_in_print(style):
    with plt.style.context(style):
        display = draw(BN, X, features=0)
        ground = display.axes_[0, 0].get_facecolor()
    line, band = display.lines_[0, 0], display.bands_[0, 0]
    markers = display.errorbars_[0, 0].lines[0]
    paper = luminance(ground, 1.0, ground)
    on_paper = [
        luminance(artist.get_color(), artist.get_alpha(), ground)
        for artist in (line, markers)
    ]
    shade = luminance(band.get_facecolor()[0], band.get_alpha(), ground)
    # WCAG 2.1, 1.4.11: what is needed to understand a graphic has 3 : 1. Luminance
    # alone, so the same holds without colours.
    assert min(contrast(value, paper) for value in on_paper) >= 3
    # The line on its band, and the band, an area, on the paper.
    assert contrast(on_paper[0], shade) >= 3
    assert contrast(shade, paper) >= 1.25


def test_a_half_life_in_time():
    X = np.random.default_rng(0).normal(size=(60, 2))
    times = np.cumsum(np.random.default_rng(1).integers(0, 9, 60)).astype("M8[m]")
    bn = BatchNorm1dTransformer(halflife=timedelta(hours=1), batch_size=20)
    display = RunningStatsDisplay.from_estimator(bn, X, times=times)
    assert_allclose(display.running_mean[-1], bn.fit(X, times=times).running_mean_)
    with pytest.raises(ValueError, match="pass times of the rows"):
        RunningStatsDisplay.from_estimator(bn, X)


def test_limits_and_fills_are_not_drawn():
    data = np.random.default_rng(0).normal(5.0, 3.0, (60, 2))
    data[::5, 0] = np.nan
    bn = BatchNorm1dTransformer(batch_size=10)
    expected = RunningStatsDisplay.from_estimator(bn, data)
    bn.set_params(clip=0.1, handle_missing="mean")
    assert_same_numbers(RunningStatsDisplay.from_estimator(bn, data), expected)
