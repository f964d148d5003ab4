"""BatchNorm1dTransformer: parameters, docstrings and the order of the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial, wraps
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sk_batchnorm._compat import (
    CALLBACKS,
    CallbackSupportMixin,
    Interval,
    StrOptions,
    callback_context,
    callbacks_of,
    check_parameters,
    empty_array_at,
    output_container,
    place_of,
    placed_like,
    to_numpy,
    with_callbacks,
)
from sk_batchnorm._draft import commit, draft_of
from sk_batchnorm._inputs import Input, cut, plain_input
from sk_batchnorm._kernels.numpy import AffineMap, Floats, ignore_float_errors
from sk_batchnorm._moments import Bounds
from sk_batchnorm._normalize import limited
from sk_batchnorm._rule import VARIANCES, Clock, Count, rule_of
from sk_batchnorm._running_stats import RunningStats
from sk_batchnorm._small import outputs_first, remember, steps_first
from sk_batchnorm._validation import (
    FADED,
    NAMELESS_ERRORS,
    as_real,
    check_feature_names,
    check_gradient,
    check_input,
    check_keys,
    check_loaded,
    check_output,
    check_sample_weight,
    check_stats,
    check_times,
    check_vector,
    has_usual_weight,
    names_in_words,
    naming_features,
    starting_vector,
    state_of,
    to_pickle,
    warn_of_light_weights,
    warn_of_small,
    warn_of_start,
    warn_of_unobserved,
)
from sk_batchnorm.functional import MINI_BATCH, gradients, training_moments

Method = TypeVar("Method", bound=Callable[..., Any])


def _learning(method: Method) -> Method:
    """Ignore float errors in a method, and let its callbacks end whatever happens."""
    with_teardown = with_callbacks(method)

    @wraps(method)
    def learn(self: Any, *args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            run = with_teardown if CALLBACKS in vars(self) else method
            return run(self, *args, **kwargs)

    return cast(Method, learn)


class BatchNorm1dTransformer(
    CallbackSupportMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator
):
    """Normalise features with running statistics that follow the stream.

    This is PyTorch's ``BatchNorm1d`` as a scikit-learn transformer.
    :meth:`partial_fit` is one training step: it moves the running mean and
    variance toward those of the mini-batch by `momentum`. :meth:`transform` is
    eval mode: it normalises with the running statistics, then applies the
    affine map. :meth:`fit` learns from scratch: in one pass, it computes the
    running statistics that repeated training on X would converge to.

    The output is::

        y = (x - running_mean) / sqrt(running_var + eps) * weight + bias

    `clip` and `handle_missing` spare the model behind huge and missing values.

    Read more in the :ref:`user guide <user_guide>`.

    Parameters
    ----------
    num_features : int, default=None
        Number of features that X must have. None infers it from the data.

    eps : float, default=1e-5
        Added to the variance before the square root, in squared units of the
        data: a feature whose standard deviation is below ``sqrt(eps)``, 0.003
        by default, is not brought to unit variance, and a warning names it.
        With ``eps=0`` a feature of zero variance is divided by 1, where zero
        is what rounding may make of a constant: a standard deviation of no
        more than 2.2e-15 times the mean.

    momentum : float in [0, 1] or None, default=0.1
        Weight of the new mini-batch in the running statistics. This is
        PyTorch's convention; Keras's momentum is ``1 - momentum``. None is the
        cumulative average, in which all mini-batches weigh the same.

    affine : bool, default=True
        Whether there are a `weight_` and a `bias_`.

    bias : bool, default=True
        If False there is a `weight_` but no `bias_`, as in PyTorch since 2.13.

    track_running_stats : bool, default=True
        If False nothing is remembered: :meth:`transform` normalises each X by
        its own mean and biased variance, as PyTorch does in eval mode.

    halflife : None, float > 0, timedelta or timedelta64, default=None
        Rows fade by their age, not mini-batches by their number: a row that is a
        `halflife` old weighs half. The age is the number of rows since, or with `times`
        in :meth:`fit` and :meth:`partial_fit` the time since, in their unit or as a
        timedelta where they are dates. So the result does not depend on how the rows
        are cut into mini-batches. ``float("inf")`` forgets nothing. `momentum`,
        `bias_correction` and `batch_size` are then not used.

    variance : {"auto", "within", "total"}, default="auto"
        "auto" is "total" with a `halflife`, else "within". "within" is PyTorch's rule:
        the running variance averages the mini-batches' own unbiased variances. "total"
        adds the spread of the mini-batch means (law of total variance), which makes it
        the exponentially weighted variance of the rows and allows mini-batches of a
        single row. It is the safer choice for a stream that drifts: a feature
        that hardly varies within a mini-batch but drifts from one to the next
        comes out huge under "within".

    bias_correction : bool, default=False
        If True the starting point (mean 0, variance 1) has no weight: the
        running statistics are a normalised exponentially weighted average,
        useful from the first mini-batch on. False is PyTorch's rule, in which
        the start still has the weight ``(1 - momentum)**t`` after t
        mini-batches; with the default momentum, it takes 22 of them to fall
        below 10 %, before which :meth:`transform` warns, and 44 to fall below 1 %.
        :meth:`fit` always corrects the bias.

    weight_init, bias_init : None, float or array-like of shape (n_features,), \
default=None
        Where `weight_` and `bias_` start; None is 1 and 0. Only used if there are
        any.

    with_mean : bool, default=True
        If False the data are scaled but not centred, which keeps sparse data
        sparse; sparse data need it. The running mean is learned all the same.

    batch_size : int or None, default=256
        Number of rows, at least 2, in a mini-batch of :meth:`fit`, which cuts n
        rows into ``n // batch_size`` mini-batches that are as equal as
        ``np.array_split`` makes them. None makes all of X one mini-batch, whose
        rows all weigh the same; `momentum` then has no effect.

    clip : float > 0 or None, default=None
        Limits the normalised value, ``(x - running_mean) / sqrt(running_var + eps)``,
        to [-clip, clip] in :meth:`transform`, before the affine map. So one artefact,
        or the first change of a feature that stood still, can't ruin the model behind.
        With ``with_mean=False`` it is ``x / sqrt(running_var + eps)`` that is limited.
        :meth:`forward` does not clip.

    handle_missing : {"keep", "mean"}, default="keep"
        What a missing value is in the output of :meth:`transform`: NaN, or what the
        running mean would be: the bias, 0 without one. With ``with_mean=False`` the
        running mean is scaled, and clipped, as any value. A feature that was never
        observed has no mean; with "mean", its output is the bias, whatever the value.

    n_jobs : int or None, default=None
        Number of threads for large arrays, as everywhere in scikit-learn: None
        is 1, unless in a ``joblib.parallel_config`` context; -1 is all
        processors. No result depends on it.

    copy : bool, default=True
        If False :meth:`transform` and :meth:`inverse_transform` write into X if
        they can, that is, if X, or the array behind a DataFrame, is writable and
        of dtype float32 or float64.

    Attributes
    ----------
    running_mean_ : ndarray of shape (n_features,), float64
        Running mean of each feature, read-only: each step makes a new array. NaN
        for a feature that was never observed, unless it has PyTorch's start. None
        if ``track_running_stats=False``.

    running_var_ : ndarray of shape (n_features,), float64
        Running variance of each feature, read-only and NaN as the mean is. None if
        ``track_running_stats=False``.

    num_batches_tracked_ : int, or ndarray of shape (n_features,)
        Number of mini-batches learned from since the last reset; an array once
        missing values have made the features differ. None if
        ``track_running_stats=False``.

    weight_, bias_ : ndarray of shape (n_features,), float64
        The affine map. None if ``affine=False``; `bias_` also if ``bias=False``.

    weight_grad_, bias_grad_ : ndarray of shape (n_features,), float64
        Gradients of the affine map from the last :meth:`backward`, before which
        they do not exist. None where `weight_` and `bias_` are.

    n_features_in_ : int
        Number of features seen during fitting.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during fitting. Defined only when X has
        feature names that are all strings.

    See Also
    --------
    sklearn.preprocessing.StandardScaler : Mean and variance of all the data,
        weighing the oldest row like the newest.

    Notes
    -----
    For the mini-batch number t since the last reset, with n samples, mean m,
    unbiased variance s² and biased variance σ², the step is ::

        within:  mean ← (1−f)·mean + f·m
                 var  ← (1−f)·var + f·s²
        total:   d    = m − mean
                 var  ← (1−f)·(var + f·d²) + f·σ²
                 mean ← mean + f·d

    from mean 0 and variance 1, where the factor f is `momentum`, or
    ``momentum / (1 - (1 - momentum)**t)`` with `bias_correction` (its limit
    ``1 / t`` for momentum 0), or ``1 / t`` for ``momentum=None``. "within"
    needs n > 1, "total" a single value. NaN is a missing value, as are None, pd.NA
    and pd.NaT: it is left out, feature by feature, and is NaN in the output, unless
    `handle_missing` is "mean". A feature with too few values in a mini-batch keeps
    its statistics and its count. One that was never observed has the start's as long
    as the start has weight, that is, by PyTorch's rule; else they are NaN, and so is
    its output, unless `handle_missing` is "mean".

    X may be dense of shape (n_samples, n_features), any real dtype; dense of
    shape (n_samples, n_channels, n_timepoints), whose channels are the
    features; or sparse, with ``with_mean=False``.

    A call that raises an error leaves the transformer as it was. The running
    statistics are replaced in one assignment, so that one thread may call
    :meth:`partial_fit` while others call :meth:`transform`. To read a mean and a
    variance that belong together in such a case, take both from one
    :meth:`state_dict`.

    If you change `affine`, `bias`, `track_running_stats`, `weight_init` or `bias_init`
    by ``set_params``, the change takes effect at the next :meth:`fit`,
    :meth:`reset_parameters` or :meth:`load_state_dict`. A change of `eps`,
    `with_mean`, `clip` or `handle_missing` takes effect at the next :meth:`transform`.

    References
    ----------
    .. [1] S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep
       Network Training by Reducing Internal Covariate Shift", ICML 2015,
       arXiv:1502.03167.
    .. [2] T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing
       the sample variance: analysis and recommendations", The American
       Statistician 37(3), 1983.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> X = np.array([[0.0, 10.0], [2.0, 30.0], [4.0, 50.0], [6.0, 70.0]])
    >>> bn = BatchNorm1dTransformer(momentum=0.5, eps=0)
    >>> bn.partial_fit(X[:2]).running_mean_
    array([ 0.5, 10. ])
    >>> bn.partial_fit(X[2:]).running_mean_
    array([ 2.75, 35.  ])
    >>> bn.running_var_
    array([  1.75, 150.25])
    >>> bn.fit(X).transform(X)
    array([[-1.161895  , -1.161895  ],
           [-0.38729833, -0.38729833],
           [ 0.38729833,  0.38729833],
           [ 1.161895  ,  1.161895  ]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "num_features": [Interval(Integral, 1, None, closed="left"), None],
        "eps": [Interval(Real, 0, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="both"), None],
        "affine": ["boolean"],
        "bias": ["boolean"],
        "track_running_stats": ["boolean"],
        "halflife": [
            # First, as NumPy registers timedelta64 among the integers.
            timedelta,
            np.timedelta64,
            Interval(Real, 0, None, closed="right"),
            None,
        ],
        "variance": [StrOptions({"auto", *VARIANCES})],
        "bias_correction": ["boolean"],
        "weight_init": [None, Real, "array-like"],
        "bias_init": [None, Real, "array-like"],
        "with_mean": ["boolean"],
        "batch_size": [Interval(Integral, 2, None, closed="left"), None],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "handle_missing": [StrOptions({"keep", "mean"})],
        "n_jobs": [Integral, None],
        "copy": ["boolean"],
    }

    # `| Any`, here and below: None, or an array of another namespace, only for
    # those who have asked for it. Others need not check for it.
    weight_: NDArray[np.float64] | Any
    bias_: NDArray[np.float64] | Any
    weight_grad_: NDArray[np.float64] | Any
    bias_grad_: NDArray[np.float64] | Any
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    _running_stats: RunningStats | None
    # False after load_state_dict without names: those of X may be any.
    _knows_names: bool = True
    # Warnings that were given once.
    _warned: tuple[str, ...] = ()
    # Of files of versions that had none.
    halflife: Any = None
    clip: Any = None
    handle_missing: Any = "keep"
    # An empty array of the namespace and on the device of what was learned.
    _template: Any = np.empty(0)

    def __init__(
        self,
        num_features: int | None = None,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        bias: bool = True,
        track_running_stats: bool = True,
        halflife: float | timedelta | np.timedelta64 | None = None,
        variance: Literal["auto", "within", "total"] = "auto",
        bias_correction: bool = False,
        weight_init: float | ArrayLike | None = None,
        bias_init: float | ArrayLike | None = None,
        with_mean: bool = True,
        batch_size: int | None = 256,
        clip: float | None = None,
        handle_missing: Literal["keep", "mean"] = "keep",
        n_jobs: int | None = None,
        copy: bool = True,
    ) -> None:
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.bias = bias
        self.track_running_stats = track_running_stats
        self.halflife = halflife
        self.variance = variance
        self.bias_correction = bias_correction
        self.weight_init = weight_init
        self.bias_init = bias_init
        self.with_mean = with_mean
        self.batch_size = batch_size
        self.clip = clip
        self.handle_missing = handle_missing
        self.n_jobs = n_jobs
        self.copy = copy

    @property
    def running_mean_(self) -> NDArray[np.float64] | Any:
        """Running mean of each feature, None if nothing is tracked."""
        stats = self._stats_or_none("running_mean_")
        return None if stats is None else self._placed(stats.mean)

    @property
    def running_var_(self) -> NDArray[np.float64] | Any:
        """Running variance of each feature, None if nothing is tracked."""
        stats = self._stats_or_none("running_var_")
        return None if stats is None else self._placed(stats.var)

    @property
    def num_batches_tracked_(self) -> int | Any:
        """Number of mini-batches since the last reset, None if none is tracked.

        An array of shape (n_features,) once missing values have made the
        features differ.
        """
        stats = self._stats_or_none("num_batches_tracked_")
        if stats is None or isinstance(stats.num_batches, int):
            return None if stats is None else stats.num_batches
        count: Count = self._placed(stats.num_batches)
        return count

    def _stats_or_none(self, attribute: str) -> RunningStats | None:
        try:
            stats: RunningStats | None = vars(self)["_running_stats"]
        except KeyError:
            # An AttributeError too, so that hasattr is False.
            raise NotFittedError(
                f"This {type(self).__name__} has no {attribute} before it has learned: "
                "call fit or partial_fit first."
            ) from None
        return stats

    @_learning
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> Self:
        """Forget everything and learn from X.

        X is cut, in order, into ``n // batch_size`` mini-batches (at least one) that
        are as equal as ``np.array_split`` makes them. They are learned one after the
        other with bias correction. So the last rows weigh most; if the rows are not in
        order of time, pass ``batch_size=None``, which weighs them all alike.
        With ``variance="within"`` and a momentum above 0, a PyTorch layer that
        repeats the same mini-batches again and again converges to the result.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or \
array-like of shape (n_samples, n_channels, n_timepoints)
            At least 2 values of each feature, or 1 with ``variance="total"``. A value
            is that of a sample, or of one of its time points.

        y : None
            Ignored.

        sample_weight : float or array-like of shape (n_samples,), default=None
            Weights of the rows within their mini-batch; all mini-batches weigh alike.
            With ``variance="within"`` they are frequency weights: a row of weight 2
            counts as that row twice, and their sum must be above 1. With "total" their
            scale does not matter. Rows of weight 0 are left out before X is cut.

        times : array-like of shape (n_samples,), default=None
            With `halflife`, when each row was: numbers, or dates of NumPy, pandas or
            polars. They never decrease, within a call and from one to the next. Time
            passes for all features alike; in three dimensions all time points of a
            sample share its time.

        Returns
        -------
        BatchNorm1dTransformer
            The fitted transformer itself.

        Raises
        ------
        ValueError
            If X or sample_weight is not what it must be. The transformer is
            then as it was.
        InvalidParameterError
            If a parameter is out of range.
        """
        check_parameters(self)
        context = callback_context(self, max_subtasks=None)
        draft = draft_of(self)
        data, weight = check_input(draft, X, "fit", reset=True), None
        if sample_weight is not None:
            weight = check_sample_weight(sample_weight, data.array.shape[0])
        draft._start()
        batch_size = self.batch_size if self.halflife is None else None
        if batch_size is not None:
            data = data.by_rows()
        cuts = partial(cut, data.array.shape, batch_size, weight)
        if callbacks_of(self):  # which are told of each mini-batch
            cuts = partial(cuts, n_together=1)
            context.max_subtasks = sum(1 for _ in cuts())
        metadata = {"sample_weight": weight}
        task = {"estimator": self, "X": data.array, "y": y, "metadata": metadata}
        context.call_on_fit_task_begin(**task)
        rule = rule_of(draft.momentum, draft.variance, True, draft.halflife)
        checked_times = check_times(draft, times, data)
        stats = RunningStats.start(draft.n_features_in_)
        for bounds in cuts():
            subtask = _mini_batch_task(self, data, bounds, weight)
            subcontext = context.subcontext(task_name="mini-batch")
            subcontext.call_on_fit_task_begin(**subtask)
            try:
                clock: Clock = 0
                if rule.halflife is None:
                    batches = data.moments(bounds, weight, self.n_jobs)
                else:
                    batches, clock = data.faded_moments(
                        rule, weight, checked_times, self.n_jobs
                    )
                stats = stats.then(RunningStats.of(batches, rule, clock), rule)
            except NAMELESS_ERRORS as error:
                raise draft._named(error, data, weight) from None
            if self.track_running_stats:
                draft._running_stats = stats
            if subcontext.call_on_fit_task_end(
                **subtask, reconstruction_attributes=lambda: vars(draft)
            ):
                break
        warn_of_light_weights(draft, weight)
        warn_of_small(draft, stats)
        warn_of_unobserved(draft, draft._running_stats)
        context.call_on_fit_task_end(
            **task, reconstruction_attributes=lambda: vars(draft)
        )
        return commit(self, draft)

    @steps_first
    @_learning
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> Self:
        """Learn from one mini-batch: all of X, one step of the rule.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or \
array-like of shape (n_samples, n_channels, n_timepoints)
            At least 2 values of each feature, or 1 with ``variance="total"``. A value
            is that of a sample, or of one of its time points.

        y : None
            Ignored.

        sample_weight : float or array-like of shape (n_samples,), default=None
            Weights of the rows, as for :meth:`fit`.

        times : array-like of shape (n_samples,), default=None
            As for :meth:`fit`. A stream has them from its first mini-batch on, or
            never.

        Returns
        -------
        BatchNorm1dTransformer
            The transformer itself.

        Raises
        ------
        ValueError
            If X or sample_weight is not what it must be, or has too few
            samples for the rule. The transformer is then as it was.
        InvalidParameterError
            If a parameter is out of range.
        """
        check_parameters(self)
        has_callbacks = CALLBACKS in vars(self)
        if has_callbacks:
            context = callback_context(self, task_name="partial_fit")
            metadata = {"sample_weight": sample_weight}
            task = {"estimator": self, "X": X, "y": y, "metadata": metadata}
            context.call_on_fit_task_begin(**task)
            check_parameters(self)  # which a callback may have set
        data = plain_input(vars(self), X)
        is_first = data is None and not self.__sklearn_is_fitted__()
        # A later step changes nothing but the running statistics.
        is_draft = is_first or has_callbacks or not self._knows_names
        draft = draft_of(self) if is_draft else self
        if data is None:
            data = check_input(draft, X, "partial_fit", reset=is_first)
        weight = None
        if sample_weight is not None:
            weight = check_sample_weight(sample_weight, data.array.shape[0])
        if is_first:
            draft._start()
        stats = draft._running_stats
        rule = rule_of(
            self.momentum, self.variance, self.bias_correction, self.halflife
        )
        clock: Clock = 0
        try:
            if self.halflife is None and times is None:
                batch = data.moments(None, weight, self.n_jobs)
            else:
                checked_times = check_times(draft, times, data)
                batch, clock = data.faded_moments(
                    rule, weight, checked_times, self.n_jobs
                )
            if stats is not None:
                stats = stats.then(RunningStats.of(batch, rule, clock), rule)
        except NAMELESS_ERRORS as error:
            raise draft._named(error, data, weight) from None
        if weight is not None:
            warn_of_light_weights(draft, weight)
        if is_first:
            warn_of_unobserved(draft, stats)
            warn_of_small(draft, RunningStats.of(batch, MINI_BATCH))
        draft._running_stats = stats
        if not is_draft:
            remember(self, data)
        if has_callbacks:
            context.call_on_fit_task_end(
                **task, reconstruction_attributes=lambda: vars(draft)
            )
        return commit(self, draft) if is_draft else self

    @ignore_float_errors
    def forward(self, X: Any) -> NDArray[np.floating]:
        """Training mode: normalise X by its own statistics, and learn from it.

        This is what ``bn(x)`` does in PyTorch after ``bn.train()``. X is normalised
        by its own mean and biased variance, and the affine map is applied. The
        running statistics take one step, as in :meth:`partial_fit`. What the
        gradient needs is remembered for :meth:`backward`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, \
n_timepoints)
            At least 2 values of each feature, none of them missing.

        Returns
        -------
        ndarray of the shape of X
            float32 where X is float32 or float16, else float64.

        Raises
        ------
        ValueError
            If X is not what it must be, or contains NaN, whose gradient is
            undefined. The transformer is then as it was.
        TypeError
            If X is sparse, or an array of another namespace than NumPy's.
        InvalidParameterError
            If a parameter is out of range.

        Notes
        -----
        `variance`, `momentum` and `bias_correction` only affect the running
        statistics, not the output; `clip` and `handle_missing` affect neither. With
        ``with_mean=False`` the output is not centred. The copy of X that is remembered
        is neither pickled nor cloned.

        References
        ----------
        S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network
        Training by Reducing Internal Covariate Shift", ICML 2015,
        arXiv:1502.03167, algorithm 1.

        Examples
        --------
        >>> from sk_batchnorm import BatchNorm1dTransformer
        >>> bn = BatchNorm1dTransformer(momentum=0.5, eps=0)
        >>> bn.forward([[1.0], [5.0]])
        array([[-1.],
               [ 1.]])
        >>> bn.running_mean_, bn.running_var_
        (array([1.5]), array([4.5]))
        """
        check_parameters(self)
        draft = draft_of(self)
        is_first = not self.__sklearn_is_fitted__()
        data = plain_input(vars(self), X) or check_input(
            draft, X, "forward", reset=is_first, accept_sparse=False
        )
        if not data.is_numpy:
            raise TypeError(
                "forward takes NumPy arrays, and partial_fit and transform arrays of "
                f"other namespaces too; got {type(data.array)}."
            )
        if is_first:
            draft._start()
        stats, weight, bias = state_of(draft)
        rule = rule_of(
            self.momentum, self.variance, self.bias_correction, self.halflife
        )
        try:
            batch = training_moments(data, self.n_jobs)
            learned, clock = batch, 0
            if rule.halflife is not None:
                check_times(draft, None, data)
                learned, clock = data.faded_moments(rule, n_jobs=self.n_jobs)
            if stats is not None:
                later = RunningStats.of(learned, rule, clock)
                draft._running_stats = stats.then(later, rule)
        except NAMELESS_ERRORS as error:
            raise draft._named(error, data) from None
        batch_stats = RunningStats.of(batch, MINI_BATCH)
        Y: NDArray[np.floating] = data.normalized(
            AffineMap(
                batch_stats.mean if self.with_mean else None,
                batch_stats.scale(self.eps, weight),
                bias,
            ),
            copy=True,
            n_jobs=self.n_jobs,
        )
        # Copies, as the caller may go on with the arrays.
        draft._forward = {
            "data": type(data)(data.array.copy()),
            "mean": batch_stats.mean,
            "inverse_std": batch_stats.scale(self.eps, None),
            "weight": None if weight is None else np.array(weight),
            "has_bias": bias is not None,
            "with_mean": self.with_mean,
        }
        commit(self, draft)
        return Y

    @ignore_float_errors
    def backward(self, grad_output: ArrayLike) -> NDArray[np.floating]:
        """Gradient of the last :meth:`forward`.

        Stores the gradients of the affine map in `weight_grad_` and `bias_grad_`,
        with which your optimiser may change `weight_` and `bias_`. They are those of
        this call alone: nothing is added up from call to call.

        Parameters
        ----------
        grad_output : array-like of the shape of X
            Gradient of a loss with respect to the output of :meth:`forward`.

        Returns
        -------
        grad_input : ndarray of the shape of X
            Gradient with respect to X, of the dtype of the output.

        Raises
        ------
        NotFittedError
            Before anything was learned.
        ValueError
            If there was no :meth:`forward` since the last :meth:`backward`, or if
            grad_output has another shape than X, or contains NaN or infinity. The
            transformer is then as it was.

        See Also
        --------
        sk_batchnorm.functional.batch_norm_backward : The formulas.

        References
        ----------
        S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network
        Training by Reducing Internal Covariate Shift", ICML 2015,
        arXiv:1502.03167, section 3.

        Examples
        --------
        One step of gradient descent on half the squared distance to 1 and 2:

        >>> from sk_batchnorm import BatchNorm1dTransformer
        >>> bn = BatchNorm1dTransformer()
        >>> Y = bn.forward([[1.0], [5.0]])
        >>> grad_input = bn.backward(Y - [[1.0], [2.0]])
        >>> bn.bias_ -= 0.1 * bn.bias_grad_
        >>> bn.bias_.round(2)
        array([0.3])
        """
        check_is_fitted(self)
        remembered = vars(self).get("_forward")
        if remembered is None:
            raise ValueError(
                "backward needs a forward before it, and each forward serves one "
                "backward."
            )
        remembered = dict(remembered)
        has_bias = remembered.pop("has_bias")
        grad = check_gradient(grad_output, remembered["data"].array.shape)
        grad_input, grad_weight, grad_bias = gradients(grad, **remembered)
        draft = draft_of(self)
        del draft._forward
        has_weight = remembered["weight"] is not None
        draft.weight_grad_ = self._placed(grad_weight) if has_weight else None
        draft.bias_grad_ = self._placed(grad_bias) if has_bias else None
        commit(self, draft)
        return grad_input

    @outputs_first
    @ignore_float_errors
    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Normalise X with the running statistics and apply the affine map.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or \
array-like of shape (n_samples, n_channels, n_timepoints)
            Data to normalise.

        copy : bool, default=None
            If False the result is written into X if that is possible; None
            takes the constructor's `copy`.

        Returns
        -------
        {ndarray, sparse matrix} of the shape of X
            float32 where X is float32 or float16, else float64; computed in
            float64 and rounded once. Limited by `clip`, and without missing values
            with ``handle_missing="mean"``. A DataFrame if ``set_output`` says so.

        Raises
        ------
        NotFittedError
            Before anything was learned.
        ValueError
            If X does not have the features that were learned from, if it contains
            infinity, if it is sparse and there is a bias or a mean to subtract,
            or if it has fewer than 2 samples with ``track_running_stats=False``.
        InvalidParameterError
            If `eps`, `clip`, `handle_missing` or `copy` is out of range.
        """
        # Of one moment, whatever another thread learns meanwhile.
        view = draft_of(self)
        stats, weight, bias = state_of(view)
        data = plain_input(vars(view), X) or check_input(view, X, "transform")
        if data.no_frame and (container := output_container(self)) != "default":
            raise ValueError(
                f"{data.no_frame} output can't be made a {container} DataFrame: call "
                "set_output(transform='default')."
            )
        if data.is_sparse and bias is not None:
            _refuse_bias(bias)
        try:
            if stats is None:
                stats = self._batch_statistics(data)
            elif not (
                isinstance(stats.start_weight, float) and stats.start_weight <= FADED
            ):
                warn_of_start(self, stats)
            is_limited = self.clip is not None or self.handle_missing != "keep"
            if is_limited:
                data = data.without_duplicates()
            by = AffineMap(
                stats.mean if self.with_mean else None,
                stats.scale(self.eps, weight, data.few_features),
                bias,
            )
            if is_limited:
                by = self._limited(by, weight, stats.mean, data.few_features)
            Y = data.normalized(
                by,
                copy=self.copy if copy is None else copy,
                n_jobs=self.n_jobs,
            )
            remember(view, data)
            return Y
        except NAMELESS_ERRORS as error:
            raise view._named(error, data) from None

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Learn from X, then transform it: ``fit(X).transform(X)``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or \
array-like of shape (n_samples, n_channels, n_timepoints)
            As for :meth:`fit`.

        y : None
            Ignored.

        **fit_params : dict
            `sample_weight`, as for :meth:`fit`.

        Returns
        -------
        {ndarray, sparse matrix} of the shape of X
            As from :meth:`transform`.

        Raises
        ------
        ValueError
            As from :meth:`fit` and :meth:`transform`. The transformer is then as it was
            before both.
        InvalidParameterError
            If a parameter is out of range.
        """
        before = self.__dict__  # which fit replaces and leaves alone
        try:
            return super().fit_transform(X, y, **fit_params)
        except BaseException:
            self.__dict__ = before
            raise

    @ignore_float_errors
    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Undo the normalisation.

        What `clip` and `handle_missing` have done stays done: of a value that was
        clipped, this gives the limit, ``running_mean ± clip * sqrt(running_var +
        eps)``, and of a missing value that was filled the running mean. NaN stays NaN.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or \
array-like of shape (n_samples, n_channels, n_timepoints)
            Normalised data.

        copy : bool, default=None
            If False the result is written into X if that is possible; None
            takes the constructor's `copy`.

        Returns
        -------
        {ndarray, sparse matrix} of the shape of X
            In the units of the data; dtype as for :meth:`transform`.

        Raises
        ------
        NotFittedError
            Before anything was learned.
        ValueError
            If X does not have the features that were learned from, under their names
            if it has any, if it contains infinity, if a weight is 0, or if there are
            no running statistics to invert with (``track_running_stats=False``).
        InvalidParameterError
            If `eps`, `clip`, `handle_missing` or `copy` is out of range.
        """
        view = draft_of(self)
        stats, weight, bias = state_of(view)
        data = plain_input(vars(view), X) or check_output(view, X)
        if stats is None:
            raise ValueError(
                "inverse_transform needs running statistics, and "
                "track_running_stats=False keeps none."
            )
        if weight is not None and not weight.all():
            names = view.get_feature_names_out()[weight == 0]
            raise ValueError(
                "inverse_transform can't undo a weight_ of 0, which "
                f"{names_in_words(names)} has."
            )
        if data.is_sparse and bias is not None:
            _refuse_bias(bias)
        try:
            return data.normalized(
                AffineMap(
                    bias,
                    stats.scale(self.eps, weight, data.few_features, inverse=True),
                    stats.mean if self.with_mean else None,
                ),
                copy=self.copy if copy is None else copy,
                n_jobs=self.n_jobs,
            )
        except NAMELESS_ERRORS as error:
            raise view._named(error, data) from None

    def reset_running_stats(self) -> Self:
        """Set the running mean to 0, the variance to 1 and the count to 0.

        They become None if ``track_running_stats=False`` has been set since.

        Returns
        -------
        BatchNorm1dTransformer
            The transformer itself.

        Raises
        ------
        NotFittedError
            Before anything was learned.
        """
        check_is_fitted(self)
        draft = draft_of(self)
        draft._running_stats = draft._starting_stats()
        return commit(self, draft)

    @ignore_float_errors
    def reset_parameters(self) -> Self:
        """Reset the running statistics, and set `weight_` and `bias_` to their start.

        Returns
        -------
        BatchNorm1dTransformer
            The transformer itself.

        Raises
        ------
        NotFittedError
            Before anything was learned.
        ValueError
            If `weight_init` or `bias_init` is for another number of features.
        InvalidParameterError
            If a parameter is out of range.
        """
        check_is_fitted(self)
        check_parameters(self)
        draft = draft_of(self)
        draft._start()
        return commit(self, draft)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return a copy of what was learned, as arrays under PyTorch's names.

        Returns
        -------
        dict of str to ndarray
            "weight" and "bias" if there are any; "running_mean",
            "running_var" and "num_batches_tracked" if they are tracked; and
            "total_weight", from 0 to 1, if `momentum` has changed under
            `bias_correction`, so that their number does not tell it. With `halflife`
            always "total_weight", and "clock": the rows seen, or the last time.

        Raises
        ------
        NotFittedError
            Before anything was learned.

        Examples
        --------
        >>> from sk_batchnorm import BatchNorm1dTransformer
        >>> bn = BatchNorm1dTransformer(momentum=0.5)
        >>> checkpoint = bn.partial_fit([[0.0], [2.0]]).state_dict()
        >>> checkpoint["running_mean"], checkpoint["num_batches_tracked"]
        (array([0.5]), array(1))
        >>> resumed = BatchNorm1dTransformer(momentum=0.5)
        >>> resumed.load_state_dict(checkpoint).running_mean_
        array([0.5])
        """
        attributes = vars(self)  # of one moment
        if "_running_stats" not in attributes:
            check_is_fitted(self)
        state: dict[str, NDArray[Any]] = {}
        for key in ("weight", "bias"):
            if (values := attributes[f"{key}_"]) is not None:
                state[key] = np.array(to_numpy(values), dtype=np.float64)
        stats = attributes["_running_stats"]
        if stats is not None:
            state |= {
                "running_mean": stats.mean.copy(),
                "running_var": stats.var.copy(),
                "num_batches_tracked": np.array(stats.num_batches, dtype=np.int64),
            }
            is_corrected = self.bias_correction and self.halflife is None
            if is_corrected and not has_usual_weight(stats, self.momentum):
                state["total_weight"] = np.array(stats.weight)
            if self.halflife is not None:
                state["total_weight"] = np.array(stats.weight)
                state["clock"] = np.array(stats.clock)
        return state

    @ignore_float_errors
    def load_state_dict(
        self, state: Mapping[str, Any], feature_names: ArrayLike | None = None
    ) -> Self:
        """Load a state dict, ours or PyTorch's.

        The transformer is fitted afterwards. A state dict does not contain the
        parameters: construct the transformer with those that belong to it.

        Parameters
        ----------
        state : mapping of str to array-like
            Exactly the keys that :meth:`state_dict` has for this `affine`, `bias` and
            `track_running_stats`. Without "num_batches_tracked", as PyTorch wrote it
            before version 0.4.1, the count is 0; without "total_weight", all
            mini-batches were learned by today's `momentum`. The values may be anything
            that NumPy can convert, and PyTorch's tensors on the CPU, of any dtype, with
            a gradient or without; they are copied to float64. A mean and a variance may
            both be NaN where the count is 0: that feature was never observed.

        feature_names : array-like of str of shape (n_features,), default=None
            `feature_names_in_`, which a state dict does not hold. With None, names that
            the transformer has are kept. If it has none, a DataFrame may have any
            names, and the first one of :meth:`partial_fit` or :meth:`forward` brings
            them.

        Returns
        -------
        BatchNorm1dTransformer
            The transformer itself.

        Raises
        ------
        ValueError
            If a key is missing or unknown, a shape is wrong, a number is not
            finite, or a variance or the number of batches is negative, or if
            feature_names are not as many different strings as there are features. The
            transformer is then as it was.
        InvalidParameterError
            If a parameter is out of range.

        Examples
        --------
        >>> from sk_batchnorm import BatchNorm1dTransformer
        >>> state = {"running_mean": [5.0], "running_var": [4.0]}  # of old PyTorch
        >>> bn = BatchNorm1dTransformer(affine=False, eps=0)
        >>> bn.load_state_dict(state, feature_names=["volts"]).running_mean_
        array([5.])
        >>> bn.get_feature_names_out()
        array(['volts'], dtype=object)
        """
        check_parameters(self)
        affine_keys = ["weight", "bias"][: bool(self.affine) * (1 + bool(self.bias))]
        stats_keys = ["running_mean", "running_var"] * bool(self.track_running_stats)
        if stats_keys and self.halflife is not None:
            stats_keys += ["total_weight", "clock"]
        keys = affine_keys + stats_keys
        optional = ["num_batches_tracked", "total_weight"] if stats_keys else []
        check_keys(state, keys, optional=optional)

        n_features = getattr(self, "n_features_in_", self.num_features)
        if n_features is None:
            if not keys:
                raise ValueError(
                    "An empty state does not tell the number of features; pass "
                    "num_features, or fit the transformer first."
                )
            n_features = as_real(keys[0], state[keys[0]]).size

        draft = draft_of(self)
        draft.n_features_in_ = n_features
        draft._template = self._template  # of its own, for scikit-learn to move
        draft.__dict__.pop("_forward", None)
        if feature_names is not None:
            draft.feature_names_in_ = check_feature_names(feature_names, n_features)
        if not hasattr(draft, "feature_names_in_"):
            draft._knows_names = False
        draft.weight_ = draft.bias_ = None
        for key in affine_keys:
            values = check_vector(key, state[key], (n_features,), copy=True)
            setattr(draft, f"{key}_", self._placed(values))
        draft._running_stats = None
        if self.track_running_stats:
            draft._running_stats = check_stats(
                state, n_features, self.momentum, copy=True
            )
        return commit(self, draft)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        # What backward would need is a mini-batch of data, not something learned.
        state.pop("_forward", None)
        # So that a file can be read without the library of the arrays, and by skops.
        for name in _ARRAYS & state.keys():
            state[name] = to_numpy(state[name])
        template = state.get("_template")
        if template is not None and not isinstance(template, np.ndarray):
            state["_template"] = place_of(template)
        if state.get("_running_stats") is not None:
            state["_running_stats"] = to_pickle(state["_running_stats"])
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        loaded = dict(state)
        if "_running_stats" in loaded:  # it had learned
            loaded["_running_stats"] = check_loaded(loaded)
        if isinstance(place := loaded.get("_template"), tuple):
            template = loaded["_template"] = empty_array_at(*place)
            for name in _LEARNED_ARRAYS & loaded.keys():
                if loaded[name] is not None:
                    loaded[name] = placed_like(template, loaded[name])
        self.__dict__ = loaded

    def __copy__(self) -> Self:
        # Unlike a pickle, it leaves arrays of other namespaces where they are.
        copied = draft_of(self)
        copied.__dict__.pop("_forward", None)
        return copied

    def __sklearn_is_fitted__(self) -> bool:
        return "_running_stats" in vars(self)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = not self.with_mean
        tags.input_tags.three_d_array = True
        tags.array_api_support = True
        return tags

    def _placed(self, values: NDArray[Any]) -> Any:
        """``values`` in the namespace and on the device of what was learned from."""
        return placed_like(self._template, values)

    def _start(self) -> None:
        """Set everything learned to where it starts, for n_features_in_."""
        n_features = self.n_features_in_
        weight = bias = None
        if self.affine:
            weight = starting_vector("weight_init", self.weight_init, 1.0, n_features)
            weight = self._placed(weight)
            if self.bias:
                bias = starting_vector("bias_init", self.bias_init, 0.0, n_features)
                bias = self._placed(bias)
        self.weight_, self.bias_ = weight, bias
        for name in _OF_THE_PAST:
            self.__dict__.pop(name, None)
        self._running_stats = self._starting_stats()

    def _starting_stats(self) -> RunningStats | None:
        if not self.track_running_stats:
            return None
        return RunningStats.start(self.n_features_in_)

    def _batch_statistics(self, data: Input) -> RunningStats:
        """Statistics of X itself, where nothing is tracked."""
        if data.n_values < 2:
            raise ValueError(
                "transform with track_running_stats=False needs more than 1 sample; "
                "got n_samples=1."
            )
        return RunningStats.of(data.moments(n_jobs=self.n_jobs), MINI_BATCH)

    def _limited(
        self,
        by: AffineMap,
        weight: Floats | None,
        mean: Floats,
        features: NDArray[np.integer] | None,
    ) -> AffineMap:
        """An affine map of all features, or of some, with `clip`, `handle_missing`."""
        if features is not None:
            weight = None if weight is None else weight[features]
            mean = mean[features]
        is_filled = self.handle_missing == "mean"
        return limited(by, self.clip, weight, mean if is_filled else None)

    def _named(
        self,
        error: ValueError,
        data: Input | None = None,
        weight: Floats | None = None,
    ) -> ValueError:
        """One of NAMELESS_ERRORS, with the names of the features."""
        return naming_features(error, data, weight, self.get_feature_names_out())

    if TYPE_CHECKING:
        # scikit-learn makes the first four when it sees this class, and annotates none.
        def set_fit_request(
            self,
            *,
            sample_weight: bool | str | None = ...,
            times: bool | str | None = ...,
        ) -> Self: ...

        def set_partial_fit_request(
            self,
            *,
            sample_weight: bool | str | None = ...,
            times: bool | str | None = ...,
        ) -> Self: ...

        def set_transform_request(self, *, copy: bool | str | None = ...) -> Self: ...

        def set_inverse_transform_request(
            self, *, copy: bool | str | None = ...
        ) -> Self: ...

        def set_output(
            self, *, transform: Literal["default", "pandas", "polars"] | None = None
        ) -> Self: ...

        def get_feature_names_out(
            self, input_features: ArrayLike | None = None
        ) -> NDArray[np.object_]: ...


# Attributes that may be arrays of another namespace.
_LEARNED_ARRAYS = {"weight_", "bias_", "weight_grad_", "bias_grad_"}
_ARRAYS = _LEARNED_ARRAYS | {"weight_init", "bias_init"}

# Attributes that are replaced, never written to.
REPLACED = frozenset({"_forward", "_running_stats", "_template"})

# What a new start forgets.
_OF_THE_PAST = ("weight_grad_", "bias_grad_", "_forward", "_knows_names", "_warned")


def _mini_batch_task(
    bn: BatchNorm1dTransformer, data: Input, bounds: Bounds, weight: Floats | None
) -> dict[str, Any]:
    """What callbacks are told of one mini-batch of ``fit``."""
    start, stop = int(bounds[0]), int(bounds[-1])
    task: dict[str, Any] = {
        "estimator": bn,
        "X": lambda: data.rows(start, stop).array,
    }
    if weight is not None:
        task["metadata"] = {"sample_weight": weight[start:stop]}
    return task


def _refuse_bias(bias: Floats) -> None:
    if bias.any():
        raise ValueError(
            "A bias_ other than 0 would make sparse X dense: pass `affine=False` or a "
            "`bias_init` of 0, or densify X."
        )
