"""A user's script that names all that is public, for type checkers to read.

``assert_type`` has mypy and pyright fail where an editor would know less, or
something else. test_package.py runs each function, and sees that nothing public is
missing.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, assert_type

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, SGDClassifier, SGDRegressor
from sklearn.utils.metadata_routing import MetadataRequest, MetadataRouter

import sk_batchnorm
from sk_batchnorm import BatchNorm1dTransformer, concatenate, fold, show_versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

X: NDArray[np.float64] = np.arange(24.0).reshape(8, 3) ** 1.5
y = [0, 1, 0, 1, 0, 1, 1, 0]


class OwnTransformer(BatchNorm1dTransformer):
    """Methods that return the transformer return its own type."""


def transformer() -> None:
    assert_type(sk_batchnorm.__version__, str)
    show_versions()
    bn = BatchNorm1dTransformer(
        3,
        eps=1e-5,
        momentum=None,
        affine=True,
        track_running_stats=True,
        halflife=100.0,
        variance="total",
        bias_correction=True,
        weight_init=[1.0, 2.0, 3.0],
        bias_init=0.5,
        with_mean=True,
        batch_size=4,
        clip=10,
        handle_missing="mean",
        n_jobs=None,
        copy=False,
    )
    assert_type(bn.fit(X, y, sample_weight=np.ones(8)), BatchNorm1dTransformer)
    assert_type(bn.partial_fit(X, sample_weight=2.0), BatchNorm1dTransformer)
    timed = BatchNorm1dTransformer(halflife=timedelta(hours=1), variance="auto")
    dates = np.datetime64("2026-01-01") + np.arange(8)
    assert_type(timed.fit(X, times=dates), BatchNorm1dTransformer)
    assert_type(timed.partial_fit(X, times=dates + 8), BatchNorm1dTransformer)
    later = OwnTransformer(halflife=100).fit(X)
    assert_type(concatenate([later, later]), OwnTransformer)
    assert_type(OwnTransformer().fit(X).partial_fit(X), OwnTransformer)
    assert_type(bn.transform(X, copy=True), Any)
    assert_type(bn.inverse_transform(X, copy=True), Any)
    Z: NDArray[np.float64] = bn.fit_transform(X)
    assert Z.shape == X.shape

    # None if nothing is tracked, but no script that tracks has to ask.
    print(bn.running_mean_.round(), bn.running_var_.max(), bn.num_batches_tracked_ + 1)
    print(bn.weight_.shape, bn.bias_.shape)
    if hasattr(bn, "feature_names_in_"):
        print(bn.feature_names_in_.tolist())
    assert_type(bn.n_features_in_, int)
    assert_type(bn.get_feature_names_out(), NDArray[np.object_])


def training() -> None:
    bn = BatchNorm1dTransformer()
    Y = bn.forward(X)
    assert_type(Y, NDArray[np.floating])
    assert_type(bn.backward(Y - 1), NDArray[np.floating])
    bn.weight_ -= 0.1 * bn.weight_grad_
    bn.bias_ -= 0.1 * bn.bias_grad_
    state = bn.state_dict()
    assert_type(state, dict[str, NDArray[Any]])
    assert_type(OwnTransformer().load_state_dict(state), OwnTransformer)
    assert_type(OwnTransformer().fit(X).reset_running_stats(), OwnTransformer)
    assert_type(OwnTransformer().fit(X).reset_parameters(), OwnTransformer)


def scikit_learn() -> None:
    bn = OwnTransformer()
    assert_type(bn.set_output(transform="default"), OwnTransformer)
    parameters: dict[str, Any] = bn.get_params()
    same: OwnTransformer = bn.set_params(**parameters)
    request: MetadataRequest = same.get_metadata_routing()
    print(request)
    with config_context(enable_metadata_routing=True):
        assert_type(bn.set_fit_request(sample_weight=True), OwnTransformer)
        assert_type(bn.set_partial_fit_request(sample_weight="w"), OwnTransformer)
        assert_type(bn.set_partial_fit_request(times=True), OwnTransformer)


def folding() -> None:
    bn = BatchNorm1dTransformer().fit(X)
    assert_type(fold(bn, Ridge().fit(bn.transform(X), y)), Ridge)


def functional() -> None:
    from sk_batchnorm.functional import batch_norm, batch_norm_backward

    mean, var = np.zeros(3), np.ones(3)
    Y = batch_norm(X, mean, var, [1.0, 1.0, 1.0], None, True, 0.1, eps=0.0)
    assert_type(Y, NDArray[np.floating])
    grad_input, grad_weight, grad_bias = batch_norm_backward(
        Y, X, None, None, training=True
    )
    assert_type(grad_input, NDArray[np.floating])
    assert_type(grad_weight, NDArray[np.float64])
    assert_type(grad_bias, NDArray[np.float64])


def pipeline() -> None:
    from sk_batchnorm.pipeline import (
        StreamingFeatureUnion,
        StreamingPipeline,
        make_streaming_pipeline,
        make_streaming_union,
    )

    steps = [("bn", BatchNorm1dTransformer()), ("clf", SGDClassifier())]
    pipe = StreamingPipeline(steps, memory=None, verbose=False)
    assert_type(pipe.partial_fit(X, y, classes=[0, 1]), StreamingPipeline)
    print(pipe[0].running_mean_, pipe.named_steps["bn"].running_var_, pipe.predict(X))
    router: MetadataRouter = pipe.get_metadata_routing()
    print(router)
    assert_type(fold(pipe), StreamingPipeline)
    made = make_streaming_pipeline(BatchNorm1dTransformer(), SGDClassifier())
    assert_type(made, StreamingPipeline)
    assert_type(made.fit(X, y, sample_weight=np.ones(8)), StreamingPipeline)
    timed = StreamingPipeline([("bn", BatchNorm1dTransformer(halflife=3))])
    print(timed.fit_transform(X, times=np.arange(8)))

    union = StreamingFeatureUnion(
        [("bn", BatchNorm1dTransformer()), ("pass", "passthrough")], n_jobs=None
    )
    assert_type(union.partial_fit(X, y, np.ones(8)), StreamingFeatureUnion)
    assert_type(union.fit(X, sample_weight=np.ones(8)), StreamingFeatureUnion)
    assert_type(union.fit_transform(X), Any)
    union_router: MetadataRouter = union.get_metadata_routing()
    print(union_router)
    same = make_streaming_union(BatchNorm1dTransformer(), n_jobs=1, verbose=False)
    assert_type(same, StreamingFeatureUnion)


def compose() -> None:
    from sk_batchnorm.compose import (
        FitOnce,
        StreamingColumnTransformer,
        StreamingTransformedTargetRegressor,
        make_streaming_column_transformer,
    )

    once = FitOnce(PCA(1))
    assert_type(once.partial_fit(X), FitOnce)
    assert_type(once.fit(X), FitOnce)
    print(once.set_output(transform="default").fit_transform(X))
    print(FitOnce(KMeans(2)).fit_predict(X))
    print(once.get_metadata_routing(), once.components_, once.transform(X))

    table = StreamingColumnTransformer(
        [("bn", BatchNorm1dTransformer(), [0]), ("once", FitOnce(PCA(1)), [1, 2])],
        remainder="drop",
    )
    assert_type(table.partial_fit(X, y, np.ones(8)), StreamingColumnTransformer)
    assert_type(table.fit(X, sample_weight=np.ones(8)), StreamingColumnTransformer)
    assert_type(table.fit_transform(X), Any)
    router: MetadataRouter = table.get_metadata_routing()
    print(router, table.named_transformers_["bn"].running_mean_)
    made = make_streaming_column_transformer(
        (BatchNorm1dTransformer(), [0]), remainder="passthrough"
    )
    assert_type(made, StreamingColumnTransformer)

    model = StreamingTransformedTargetRegressor(
        SGDRegressor(), transformer=BatchNorm1dTransformer(bias_correction=True)
    )
    target = X[:, 0]
    assert_type(
        model.partial_fit(X, target, sample_weight=np.ones(8)),
        StreamingTransformedTargetRegressor,
    )
    assert_type(model.fit(X, target), StreamingTransformedTargetRegressor)
    target_router: MetadataRouter = model.get_metadata_routing()
    print(target_router, model.predict(X), model.regressor_, model.transformer_)


def model_selection() -> None:
    from sk_batchnorm.model_selection import (
        make_prequential_scorer,
        prequential_predict,
    )
    from sk_batchnorm.pipeline import make_streaming_pipeline

    pipe = make_streaming_pipeline(BatchNorm1dTransformer(halflife=4), SGDClassifier())
    fitted = pipe.fit(X, y)
    weight = np.ones(8)
    prequential_predict(fitted, X, y, batch_size=2, sample_weight=weight)
    prequential_predict(fitted, X, y, batch_size=2, method="decision_function")
    scorer = make_prequential_scorer("roc_auc", batch_size=2)
    print(scorer(fitted, X, y, sample_weight=weight))
    with config_context(enable_metadata_routing=True):
        scorer = scorer.set_score_request(sample_weight=True, times="at")
    print(scorer.get_metadata_routing())


def plot() -> None:
    from sk_batchnorm.plot import RunningStatsDisplay

    bn = BatchNorm1dTransformer(batch_size=2)
    display = RunningStatsDisplay.from_estimator(
        bn, X, features=[0, 2], n_cols=1, line_kw={"linewidth": 3}
    )
    assert_type(display, RunningStatsDisplay)
    assert_type(display.plot(errorbar_kw=None), RunningStatsDisplay)
    figure: Figure = display.figure_
    figure.set_layout_engine("tight")
    print(display.axes_[0, 0].get_title(), display.bounding_ax_ is None)
    print(display.errorbars_.size, display.lines_.size, display.bands_.size)
    print(display.batch_mean.mean(), display.running_mean[-1], display.bounds[-1])
    again = RunningStatsDisplay(
        batch_mean=display.batch_mean,
        batch_std=display.batch_std,
        running_mean=display.running_mean,
        running_std=display.running_std,
        bounds=display.bounds,
        feature_names=["a", "b"],
    )
    assert_type(again.plot(ax=display.axes_), RunningStatsDisplay)


def torch_door() -> None:
    import torch

    from sk_batchnorm.torch import from_torch, to_torch

    layer = to_torch(BatchNorm1dTransformer().fit(X), dtype=torch.float64, device="cpu")
    assert_type(layer, torch.nn.BatchNorm1d)
    assert_type(from_torch(layer), BatchNorm1dTransformer)


def onnx_door() -> None:
    import sk_batchnorm.onnx

    assert not sk_batchnorm.onnx.__all__  # imported for what it does to skl2onnx


def dask_door() -> None:
    import dask.array as da

    from sk_batchnorm.dask import DaskBatchNorm1dTransformer

    chunks: Any = da.ones((8, 3), chunks=(4, 3))
    bn = DaskBatchNorm1dTransformer(batch_size=2)
    assert_type(bn.fit(chunks), DaskBatchNorm1dTransformer)
    assert_type(bn.partial_fit(chunks), DaskBatchNorm1dTransformer)
    assert_type(bn.transform(chunks), Any)
    assert_type(bn.inverse_transform(chunks), Any)
    assert_type(bn.fit_transform(chunks), Any)
    assert_type(bn.to_local(), BatchNorm1dTransformer)
