"""BatchNorm1dTransformer: parameters, validation and the order of the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy as shallow_copy
from dataclasses import replace
from functools import partial
from math import inf
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags, assert_all_finite, check_array
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    check_non_negative,
    validate_data,
)

from sk_batchnorm._compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    callbacks_of,
    check_parameters,
    empty_array_at,
    feature_names_of,
    from_numpy,
    is_float_array,
    largest_float,
    namespace_of,
    output_container,
    place_of,
    to_numpy,
    with_callbacks,
)
from sk_batchnorm._kernels.numpy import Floats, ignore_float_errors
from sk_batchnorm._moments import Bounds, Moments, batch_moments, cut, moments
from sk_batchnorm._normalize import few_features, is_zero, normalize, scale_of
from sk_batchnorm._running_stats import (
    WEIGHT_ROUNDING,
    Count,
    RunningStats,
)
from sk_batchnorm._validation import (
    as_numbers,
    names_in_words,
    naming_features,
    shape_hint,
    warn_user,
)
from sk_batchnorm.functional import (
    checked_gradient,
    gradients,
    mean_and_variance,
    own_statistics,
    refuse_mask,
)

_SHAPES = "(n_samples, n_features) or (n_samples, n_channels, n_timepoints)"


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

    variance : {"within", "total"}, default="within"
        "within" is PyTorch's rule: the running variance averages the
        mini-batches' own unbiased variances. "total" adds the spread of the
        mini-batch means (law of total variance), which makes it the
        exponentially weighted variance of the rows and allows mini-batches of
        a single row. It is the safer choice for a stream that drifts: a feature
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
    and pd.NaT: it is left out, feature by feature, and is NaN in the output. A
    feature with too few values in a mini-batch keeps its statistics and its count.
    One that was never observed has the start's as long as the start has weight, that
    is, by PyTorch's rule; else they are NaN, and so is its output.

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
    :meth:`reset_parameters` or :meth:`load_state_dict`. A change of `eps` or
    `with_mean` takes effect at the next :meth:`transform`.

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
        "variance": [StrOptions({"within", "total"})],
        "bias_correction": ["boolean"],
        "weight_init": [None, Real, "array-like"],
        "bias_init": [None, Real, "array-like"],
        "with_mean": ["boolean"],
        "batch_size": [Interval(Integral, 2, None, closed="left"), None],
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
        variance: Literal["within", "total"] = "within",
        bias_correction: bool = False,
        weight_init: float | ArrayLike | None = None,
        bias_init: float | ArrayLike | None = None,
        with_mean: bool = True,
        batch_size: int | None = 256,
        n_jobs: int | None = None,
        copy: bool = True,
    ) -> None:
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.bias = bias
        self.track_running_stats = track_running_stats
        self.variance = variance
        self.bias_correction = bias_correction
        self.weight_init = weight_init
        self.bias_init = bias_init
        self.with_mean = with_mean
        self.batch_size = batch_size
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

    @ignore_float_errors
    def fit(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None
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
        if callbacks_of(self):
            self._reported_fit(X, y, sample_weight)
            return self
        learned = shallow_copy(self)
        X, weight = learned._start_fit(X, sample_weight)
        stats = RunningStats.start(learned.n_features_in_)
        with naming_features(X, weight, learned.get_feature_names_out):
            for bounds in cut(X.shape, self.batch_size, weight):
                stats = learned._learn_stretch(stats, X, bounds, weight)
        learned._end_fit(stats, weight)
        return self._become(learned)

    @ignore_float_errors
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None
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
        if callbacks_of(self):
            self._reported_partial_fit(X, y, sample_weight)
            return self
        is_first = not self.__sklearn_is_fitted__()
        if is_first or not self._knows_names:
            learned = shallow_copy(self)
            X, weight = learned._validate(
                X, sample_weight, "partial_fit", reset=is_first
            )
            if is_first:
                learned._start()
            learned._learn_batch(X, weight, is_first=is_first)
            return self._become(learned)
        X, weight = self._validate(X, sample_weight, "partial_fit", reset=False)
        self._learn_batch(X, weight, is_first=False)
        return self

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
        statistics, not the output. With ``with_mean=False`` the output is not
        centred. The copy of X that is remembered is neither pickled nor cloned.

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
        learned = shallow_copy(self)
        is_first = not self.__sklearn_is_fitted__()
        X, _ = learned._validate(
            X, None, "forward", reset=is_first, accept_sparse=False
        )
        if not isinstance(X, np.ndarray):
            raise TypeError(
                "forward takes NumPy arrays, and partial_fit and transform arrays of "
                f"other namespaces too; got {type(X)}."
            )
        if is_first:
            learned._start()
        _, weight, bias = learned._state()
        _check_affine(weight, bias, learned.n_features_in_)
        with naming_features(X, None, learned.get_feature_names_out):
            batch = own_statistics(X, self.n_jobs)
            learned._running_stats = learned._step(batch)
        mean, var = mean_and_variance(batch)
        Y: NDArray[np.floating] = normalize(
            X,
            mean if self.with_mean else None,
            scale_of(mean, var, self.eps, weight),
            bias,
            copy=True,
            n_jobs=self.n_jobs,
        )
        # Copies, as the caller may go on with the arrays.
        learned._forward = {
            "X": X.copy(),
            "mean": mean,
            "inverse_std": scale_of(mean, var, self.eps, None),
            "weight": None if weight is None else np.array(weight),
            "has_bias": bias is not None,
            "with_mean": self.with_mean,
        }
        self._become(learned)
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
        grad = checked_gradient(grad_output, remembered["X"].shape)
        grad_input, grad_weight, grad_bias = gradients(grad, **remembered)
        learned = shallow_copy(self)  # without what was remembered
        has_weight = remembered["weight"] is not None
        learned.weight_grad_ = self._placed(grad_weight) if has_weight else None
        learned.bias_grad_ = self._placed(grad_bias) if has_bias else None
        self._become(learned)
        return grad_input

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
            float64 and rounded once. A DataFrame if ``set_output`` says so.

        Raises
        ------
        NotFittedError
            Before anything was learned.
        ValueError
            If X does not have the features that were learned from, if it contains
            infinity, if it is sparse and there is a bias or a mean to subtract,
            or if it has fewer than 2 samples with ``track_running_stats=False``.
        InvalidParameterError
            If `eps` or `copy` is out of range.
        """
        X, stats, weight, bias = self._with_state(
            lambda: self._validate(X, None, "transform", reset=False)[0]
        )
        self._check_container(X)
        if sparse.issparse(X) and bias is not None and bias.any():
            raise ValueError(_BIAS_ON_SPARSE)
        if stats is None:
            _check_two_values("transform with track_running_stats=False", X)
            with naming_features(X, None, self.get_feature_names_out):
                batch = moments(X, n_jobs=self.n_jobs)
            stats = RunningStats(*mean_and_variance(batch), 1)
        else:
            self._warn_of_start(stats)
        with naming_features(X, None, self.get_feature_names_out):
            return normalize(
                X,
                stats.mean if self.with_mean else None,
                stats.scale(self.eps, weight, few_features(X)),
                None if sparse.issparse(X) else bias,
                copy=self.copy if copy is None else copy,
                n_jobs=self.n_jobs,
            )

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
            If `eps` or `copy` is out of range.
        """
        X, stats, weight, bias = self._with_state(lambda: self._validate_output(X))
        if stats is None:
            raise ValueError(
                "inverse_transform needs running statistics, and "
                "track_running_stats=False keeps none."
            )
        if weight is not None and not weight.all():
            names = self.get_feature_names_out()[weight == 0]
            raise ValueError(
                "inverse_transform can't undo a weight_ of 0, which "
                f"{names_in_words(names)} has."
            )
        if sparse.issparse(X) and bias is not None and bias.any():
            raise ValueError(_BIAS_ON_SPARSE)
        with naming_features(X, None, self.get_feature_names_out):
            return normalize(
                X,
                None if sparse.issparse(X) else bias,
                stats.inverse_scale(self.eps, weight, few_features(X)),
                stats.mean if self.with_mean else None,
                copy=self.copy if copy is None else copy,
                n_jobs=self.n_jobs,
            )

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
        self._running_stats = self._starting_stats()
        return self

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
        learned = shallow_copy(self)
        learned._start()
        return self._become(learned)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return a copy of what was learned, as arrays under PyTorch's names.

        Returns
        -------
        dict of str to ndarray
            "weight" and "bias" if there are any; "running_mean",
            "running_var" and "num_batches_tracked" if they are tracked.

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
        stats, weight, bias = self._state()
        state: dict[str, NDArray[Any]] = {}
        if weight is not None:
            state["weight"] = weight.copy()
        if bias is not None:
            state["bias"] = bias.copy()
        if stats is not None:
            state |= {
                "running_mean": stats.mean.copy(),
                "running_var": stats.var.copy(),
                "num_batches_tracked": np.array(stats.num_batches, dtype=np.int64),
            }
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
            `track_running_stats`; without "num_batches_tracked", as PyTorch wrote it
            before version 0.4.1, the count is 0. The values may be anything that NumPy
            can convert, and PyTorch's tensors on the CPU, of any dtype, with a gradient
            or without; they are copied to float64. A mean and a variance may both be
            NaN where the count is 0: that feature was never observed.

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
        affine_keys = ["weight"] * self.affine + ["bias"] * (self.affine and self.bias)
        stats_keys = ["running_mean", "running_var"] * self.track_running_stats
        array_keys = affine_keys + stats_keys
        count_keys = ["num_batches_tracked"] * self.track_running_stats
        _check_keys(state, array_keys, optional=count_keys)

        n_features = getattr(self, "n_features_in_", self.num_features)
        if n_features is None:
            if not array_keys:
                raise ValueError(
                    "An empty state does not tell the number of features; pass "
                    "num_features, or fit the transformer first."
                )
            n_features = _as_array(state, array_keys[0]).size

        learned = shallow_copy(self)
        learned.n_features_in_ = n_features
        learned._template = self._template  # of its own, for scikit-learn to move
        if feature_names is not None:
            learned.feature_names_in_ = _checked_names(feature_names, n_features)
        if not hasattr(learned, "feature_names_in_"):
            learned._knows_names = False
        learned.weight_ = learned.bias_ = None
        for key in affine_keys:
            values = learned._placed(_checked_entry(state, key, n_features))
            setattr(learned, f"{key}_", values)
        learned._running_stats = None
        if self.track_running_stats:
            learned._running_stats = _checked_stats(state, n_features)
        return self._become(learned)

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
        # Arrays instead of a class of ours, which skops would have to be told to
        # trust, and which pickles would tie to its place.
        stats = state.get("_running_stats")
        if stats is not None:
            state["_running_stats"] = stats.as_tuple()
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        loaded = dict(state)
        if "_running_stats" in loaded:  # it had learned
            loaded["_running_stats"] = _loaded_stats(loaded)
        if isinstance(place := loaded.get("_template"), tuple):
            template = loaded["_template"] = empty_array_at(*place)
            for name in _LEARNED_ARRAYS & loaded.keys():
                if loaded[name] is not None:
                    loaded[name] = _placed_like(template, loaded[name])
        self.__dict__ = loaded

    def __copy__(self) -> Self:
        # Unlike a pickle, it leaves arrays of other namespaces where they are.
        copied = type(self).__new__(type(self))
        copied.__dict__ = vars(self).copy()
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

    def _validate(
        self,
        X: Any,
        sample_weight: ArrayLike | None,
        method: str,
        *,
        reset: bool,
        accept_sparse: bool = True,
    ) -> tuple[Any, Floats | None]:
        if reset or not self._is_plain(X):
            refuse_mask("X", X, _MASKED_X)
            accepted = _ACCEPTED if accept_sparse else _ACCEPTED_DENSE
            X = as_numbers(X, keep_sparse=accept_sparse and not self.with_mean)
            known = self
            if not (reset or self._knows_names):
                known = self._with_names_of(X, is_learning=method != "transform")
            if not reset:
                _check_width(X, self.n_features_in_, type(self).__name__)
            X = validate_data(known, X, reset=reset, **accepted)
            X = self._check_kind(X, action="center")
        if reset:
            self._template = _template(X)
        elif not type(self._template) is type(X) is np.ndarray:
            self._check_namespace(X, method)
        if self.num_features is not None and X.shape[1] != self.num_features:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} was made "
                f"for num_features={self.num_features}."
                + shape_hint(X.shape, self.num_features)
            )
        if sample_weight is None:
            return X, None
        return X, _check_sample_weight(sample_weight, X)

    def _with_names_of(self, X: Any, *, is_learning: bool) -> Self:
        """Take the names of X's features for those that are not known yet."""
        names = feature_names_of(X)
        known = self if is_learning else shallow_copy(self)
        if names is not None and len(names) == self.n_features_in_:
            known.feature_names_in_ = names
            del known._knows_names
        return known

    def _validate_output(self, X: Any) -> Any:
        refuse_mask("X", X, _MASKED_X)
        X = as_numbers(X, keep_sparse=not self.with_mean)
        _check_width(X, self.n_features_in_, type(self).__name__)
        if hasattr(self, "feature_names_in_") and feature_names_of(X) is not None:
            # An array is as welcome: transform's output has lost the names.
            validate_data(self, X, reset=False, skip_check_array=True)
        X = self._check_kind(check_array(X, **_ACCEPTED), action="uncenter")
        if X.shape[1] != self.n_features_in_:
            raise ValueError(_other_width(X, self.n_features_in_, type(self).__name__))
        self._check_namespace(X, "inverse_transform")
        return X

    def _check_namespace(self, X: Any, method: str) -> None:
        """Refuse arrays that are elsewhere than the statistics.

        Those that are NumPy's are sent to wherever X is. scikit-learn's checks allow
        that of no others.
        """
        on_host = isinstance(self._template, np.ndarray)
        if on_host or not get_config()["array_api_dispatch"]:
            return
        wanted, given = namespace_of(self._template), namespace_of(X)
        if wanted != given:
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same "
                "namespace and the same device as those that it has learned from: "
                f"{wanted[0].__name__} on {wanted[1]}; got {given[0].__name__} on "
                f"{given[1]}. One whose statistics are NumPy arrays takes arrays from "
                "anywhere: sklearn.base.clone(bn).load_state_dict(bn.state_dict())."
            )

    def _placed(self, values: NDArray[Any]) -> Any:
        """``values`` in the namespace and on the device of what was learned from."""
        return _placed_like(self._template, values)

    def _is_plain(self, X: Any) -> bool:
        """Whether X is what a stream repeats, with nothing left to check.

        An array of two dimensions, of the width learned from, in which
        scikit-learn's way through the checks would change nothing.
        """
        if type(X) is np.ndarray:
            is_float = X.dtype.char in "fd" and X.dtype.isnative
        else:
            is_float = is_float_array(X)
        return (
            is_float
            and X.ndim == 2
            and X.shape[0] > 0
            and X.shape[1] == self.n_features_in_
            and not hasattr(self, "feature_names_in_")
        )

    def _check_kind(self, X: Any, *, action: str) -> Any:
        """Check that X is of a kind that can be learned from and transformed."""
        if X.ndim > 3:
            raise ValueError(
                f"Found array with dim {X.ndim}. {type(self).__name__} expected X of "
                f"shape {_SHAPES}."
            )
        if X.ndim == 3 and 0 in X.shape:
            lacking = "timepoint(s)" if X.shape[1] else "feature(s)"
            raise ValueError(
                f"Found array with 0 {lacking} (shape={tuple(X.shape)}) while a "
                f"minimum of 1 is required by {type(self).__name__}."
            )
        on_host = isinstance(X, np.ndarray) or sparse.issparse(X)
        if on_host and X.dtype in (object, np.longdouble):
            # Objects of a list with None in it, or of numbers that NumPy has no dtype
            # for. A long double may be too large for float64.
            X = check_array(X, **(_ACCEPTED | {"dtype": np.float64}))
        if not _is_real(X):
            raise ValueError(f"X has dtype {X.dtype}, which is not a real number.")
        if sparse.issparse(X) and self.with_mean:
            raise ValueError(
                f"Cannot {action} sparse matrices: pass `with_mean=False` instead. "
                "See docstring for motivation and alternatives."
            )
        return X

    def _check_container(self, X: Any) -> None:
        """Refuse what does not fit into a DataFrame, before it is transformed."""
        if X.ndim == 2 and not sparse.issparse(X):
            return
        if (container := output_container(self)) != "default":
            kind = "Sparse" if sparse.issparse(X) else "Three-dimensional"
            raise ValueError(
                f"{kind} output can't be made a {container} DataFrame: call "
                "set_output(transform='default')."
            )

    def _start(self) -> None:
        """Set everything learned to where it starts, for n_features_in_."""
        n_features = self.n_features_in_
        weight = bias = None
        if self.affine:
            weight = _starting_values("weight_init", self.weight_init, 1.0, n_features)
            weight = self._placed(weight)
            if self.bias:
                bias = _starting_values("bias_init", self.bias_init, 0.0, n_features)
                bias = self._placed(bias)
        self.weight_, self.bias_ = weight, bias
        for name in ("weight_grad_", "bias_grad_", "_knows_names", "_warned"):
            self.__dict__.pop(name, None)
        self._running_stats = self._starting_stats()

    def _starting_stats(self) -> RunningStats | None:
        if not self.track_running_stats:
            return None
        return RunningStats.start(self.n_features_in_)

    def _start_fit(
        self, X: Any, sample_weight: ArrayLike | None
    ) -> tuple[Any, Floats | None]:
        X, weight = self._validate(X, sample_weight, "fit", reset=True)
        self._start()
        if sparse.issparse(X) and self.batch_size is not None:
            X = X.tocsr()  # rows of CSC can't be cut out without a search
        return X, weight

    def _learn_stretch(
        self, stats: RunningStats, X: Any, bounds: Bounds, weight: Floats | None
    ) -> RunningStats:
        """Statistics after consecutive mini-batches of ``fit``."""
        batches = batch_moments(X, bounds, weight, self.n_jobs)
        stretch = RunningStats.of_stretch(
            batches, momentum=self.momentum, variance=self.variance
        )
        return stats.then(
            stretch,
            momentum=self.momentum,
            variance=self.variance,
            bias_correction=True,
        )

    def _end_fit(self, stats: RunningStats, weight: Floats | None) -> None:
        self._warn_of_light_weights(weight)
        self._warn_of_small(stats.mean, stats.var)
        if self.track_running_stats:
            self._warn_of_unobserved(stats)
            self._running_stats = stats

    def _learn_batch(self, X: Any, weight: Floats | None, *, is_first: bool) -> None:
        """Learn from one mini-batch, or raise before anything has changed."""
        with naming_features(X, weight, self.get_feature_names_out):
            batch = moments(X, weight, self.n_jobs)
            stats = self._step(batch)
        self._warn_of_light_weights(weight)
        if is_first:
            self._warn_of_unobserved(stats)
            self._warn_of_small(*mean_and_variance(batch))
        self._running_stats = stats

    # The same with callbacks. To them, the estimator is as it was until the call is
    # over, and fitted_estimator is what it will be.

    @with_callbacks  # type: ignore[untyped-decorator]
    def _reported_fit(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> None:
        root = self._init_callback_context(max_subtasks=None)
        learned = shallow_copy(self)
        X, weight = learned._start_fit(X, sample_weight)
        one_by_one = partial(cut, X.shape, self.batch_size, weight, n_together=1)
        root.max_subtasks = sum(1 for _ in one_by_one())
        task = {"estimator": self, "X": X, "y": y}
        task["metadata"] = {"sample_weight": weight}
        root.call_on_fit_task_begin(**task)
        stats = RunningStats.start(learned.n_features_in_)
        for bounds in one_by_one():
            rows = slice(*bounds)
            subtask = {"estimator": self, "X": lambda rows=rows: X[rows, ...]}
            if weight is not None:
                subtask["metadata"] = {"sample_weight": weight[rows]}
            context = root.subcontext(task_name="mini-batch")
            context.call_on_fit_task_begin(**subtask)
            with naming_features(X, weight, learned.get_feature_names_out):
                stats = learned._learn_stretch(stats, X, bounds, weight)
            if learned.track_running_stats:
                learned._running_stats = stats
            if context.call_on_fit_task_end(
                **subtask, reconstruction_attributes=lambda: vars(learned)
            ):
                break
        learned._end_fit(stats, weight)
        root.call_on_fit_task_end(
            **task, reconstruction_attributes=lambda: vars(learned)
        )
        self._become(learned)

    @with_callbacks  # type: ignore[untyped-decorator]
    def _reported_partial_fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None
    ) -> None:
        context = self._init_callback_context(task_name="partial_fit")
        task = {"estimator": self, "X": X, "y": y}
        task["metadata"] = {"sample_weight": sample_weight}
        context.call_on_fit_task_begin(**task)
        learned = shallow_copy(self).set_callbacks()
        # Not a subclass's method, which has been called already.
        BatchNorm1dTransformer.partial_fit(learned, X, y, sample_weight)
        learned.set_callbacks(*callbacks_of(self))
        context.call_on_fit_task_end(
            **task, reconstruction_attributes=lambda: vars(learned)
        )
        if (forward := vars(self).get("_forward")) is not None:
            learned._forward = forward  # which a copy has lost
        self._become(learned)

    def _step(self, batch: Moments) -> RunningStats | None:
        stats = self._running_stats
        if stats is None:
            return None
        return stats.step(
            batch,
            momentum=self.momentum,
            variance=self.variance,
            bias_correction=self.bias_correction,
        )

    def _warn_once(self, trap: str, message: str) -> None:
        if trap not in self._warned:
            warn_user(message)
            self._warned += (trap,)

    def _warn_of_start(self, stats: RunningStats) -> None:
        """Say that the start is not forgotten yet, where something was learned."""
        if isinstance(stats.start_weight, float) and stats.start_weight <= _FADED:
            return
        there = np.greater(stats.start_weight, _FADED)
        there = there & np.greater(stats.num_batches, 0)
        if not there.any():
            return
        which = "the output"
        if there.ndim:
            which += f" of {names_in_words(self.get_feature_names_out()[there])}"
        weight = np.max(np.where(there, stats.start_weight, 0.0))
        self._warn_once(
            "start",
            f"PyTorch's start, mean 0 and variance 1, still has {weight:.0%} of the "
            f"weight in the running statistics, so that {which} may be far from "
            "centred. Pass bias_correction=True, with which the start has no weight, "
            "or learn from more mini-batches first.",
        )

    def _warn_of_small(self, mean: Floats, var: Floats) -> None:
        """Name the features whose variance is nothing beside `eps`."""
        small = (var < self.eps) & ~is_zero(mean, var)
        if not small.any():
            return
        names, var = self.get_feature_names_out()[small], var[small].max()
        self._warn_once(
            "eps",
            f"The variance of {names_in_words(names)} is below eps={self.eps:g} "
            f"({var:.2g} at most), so that the output has a standard deviation of "
            f"{np.sqrt(var / (var + self.eps)):.2g} or less, not 1. Pass a smaller "
            "eps, such as 0, or change the units.",
        )

    def _warn_of_light_weights(self, weight: Floats | None) -> None:
        if weight is not None and self.variance == "within":
            self._warn_of_low_sum(float(weight.sum()), int(np.count_nonzero(weight)))

    def _warn_of_low_sum(self, total: float, n_rows: int) -> None:
        """Say that weights count as so many samples, where they are shares."""
        if total < n_rows * (1 - WEIGHT_ROUNDING):
            self._warn_once(
                "weights",
                f"sample_weight sums to {total:g} over {n_rows} samples: with "
                "variance='within' a weight counts as that many samples, and the "
                "variance is divided by their sum less 1. Scale the weights to the "
                "number of samples that they stand for, or pass variance='total', for "
                "which their scale does not matter.",
            )

    def _warn_of_unobserved(self, stats: RunningStats | None) -> None:
        """Name the features that the first mini-batches said nothing of."""
        if stats is None or np.all(stats.num_batches):
            return
        names = self.get_feature_names_out()
        names = names[np.broadcast_to(np.equal(stats.num_batches, 0), names.shape)]
        has_start = np.any(stats.start_weight)
        what = "are 0 and 1" if has_start else "are NaN, and so is its output"
        warn_user(
            f"Too few observed values in {names_in_words(names)} to learn from: until "
            f"there are, its running mean and variance {what}."
        )

    def _become(self, learned: Self) -> Self:
        """Take over all attributes of a copy that has learned, or none.

        One assignment: neither an exception nor another thread gets between
        the number of features, the statistics and the affine map.
        """
        self.__dict__ = learned.__dict__
        return self

    def _state(self) -> tuple[RunningStats | None, Floats | None, Floats | None]:
        """Statistics, weight and bias of one moment."""
        attributes = vars(self)
        if "_running_stats" not in attributes:
            check_is_fitted(self)
        return (
            attributes["_running_stats"],
            _as_floats(attributes["weight_"]),
            _as_floats(attributes["bias_"]),
        )

    def _with_state(
        self, validate: Callable[[], Any]
    ) -> tuple[Any, RunningStats | None, Floats | None, Floats | None]:
        """Validated X, and the state of the moment that it was held against."""
        is_usual = type(self.eps) is float and 0 <= self.eps < inf
        if not (is_usual and type(self.copy) is bool):
            check_parameters(self)
        while True:
            attributes = vars(self)
            stats, weight, bias = self._state()
            X = validate()
            # Else another thread's fit has come between, perhaps of another width.
            if vars(self) is attributes:
                break
        _check_affine(weight, bias, self.n_features_in_)
        return X, stats, weight, bias

    if TYPE_CHECKING:
        # scikit-learn makes the first four when it sees this class, and annotates none.
        def set_fit_request(
            self, *, sample_weight: bool | str | None = ...
        ) -> Self: ...

        def set_partial_fit_request(
            self, *, sample_weight: bool | str | None = ...
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


# Weight of the start that makes no difference to speak of.
_FADED = 0.1

# Infinity is refused block by block, where the data are read anyway.
_ACCEPTED: dict[str, Any] = {
    "accept_sparse": ("csr", "csc"),
    "dtype": "numeric",
    "ensure_all_finite": False,
    "allow_nd": True,
}

_ACCEPTED_DENSE: dict[str, Any] = _ACCEPTED | {"accept_sparse": False}

_MASKED_X = (
    "Fill the masked values with NaN, which stands for missing values: "
    "X.filled(np.nan)."
)

MASKED_WEIGHT = "A weight of 0 leaves a row out: sample_weight.filled(0)."

_BIAS_ON_SPARSE = (
    "A bias_ other than 0 would make sparse X dense: pass `affine=False` or a "
    "`bias_init` of 0, or densify X."
)


# Attributes that may be arrays of another namespace.
_LEARNED_ARRAYS = {"weight_", "bias_", "weight_grad_", "bias_grad_"}
_ARRAYS = _LEARNED_ARRAYS | {"weight_init", "bias_init"}


def _placed_like(template: Any, values: NDArray[Any]) -> Any:
    """``values`` in the namespace and on the device of a template."""
    if isinstance(template, np.ndarray):
        return values
    xp, device = namespace_of(template)
    is_float = values.dtype.kind == "f"
    return from_numpy(values, xp, device, template.dtype if is_float else None)


def _template(X: Any) -> Any:
    """An empty array of the namespace and on the device of X."""
    if isinstance(X, np.ndarray) or sparse.issparse(X):
        return np.empty(0)
    xp, device = namespace_of(X)
    return xp.empty(0, dtype=largest_float(xp, device), device=device)


def _is_real(X: Any) -> bool:
    if isinstance(X, np.ndarray) or sparse.issparse(X):
        return X.dtype.kind in "biuf"
    xp, _ = namespace_of(X)
    return bool(xp.isdtype(X.dtype, ("bool", "integral", "real floating")))


def _check_two_values(caller: str, X: Any) -> None:
    n_values = X.shape[0] * (X.shape[2] if X.ndim == 3 else 1)
    if n_values < 2:
        raise ValueError(f"{caller} needs more than 1 sample; got n_samples=1.")


def _check_width(X: Any, n_features: int, name: str) -> None:
    """Refuse an X whose features are along another axis, with a hint."""
    shape = tuple(getattr(X, "shape", ()))
    if shape[1:2] != (n_features,) and shape_hint(shape, n_features):
        raise ValueError(_other_width(X, n_features, name))


def _other_width(X: Any, n_features: int, name: str) -> str:
    # In scikit-learn's words.
    return (
        f"X has {X.shape[1]} features, but {name} is expecting {n_features} features "
        "as input." + shape_hint(tuple(X.shape), n_features)
    )


def _check_sample_weight(sample_weight: ArrayLike, X: Any) -> Floats:
    sample_weight = to_numpy(sample_weight)
    refuse_mask("sample_weight", sample_weight, MASKED_WEIGHT)
    _refuse_complex("sample_weight", sample_weight)
    if np.asarray(sample_weight).ndim == 0:
        # One number, seen n_samples times.
        sample_weight = np.broadcast_to(np.asarray(sample_weight), X.shape[0])
    weight: Floats = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weight.ndim != 1:
        raise ValueError(
            f"sample_weight must be 1D array or scalar, got {weight.ndim}D array."
        )
    check_consistent_length(X, weight)
    check_non_negative(weight, "sample_weight")
    if not weight.any():
        raise ValueError("sample_weight must have at least one non-zero number.")
    if not np.isfinite(weight.sum()):
        raise ValueError("The sum of sample_weight overflows float64.")
    return weight


def _starting_values(
    name: str, value: float | ArrayLike | None, default: float, n_features: int
) -> Floats:
    value = to_numpy(value)
    if value is None or isinstance(value, Real):
        value = np.full(n_features, default if value is None else float(value))
    if np.shape(value) != (n_features,):
        raise ValueError(
            f"{name} has shape {np.shape(value)}, but X has {n_features} features."
        )
    return _checked_vector(name, value)


def _checked_vector(name: str, values: ArrayLike) -> Floats:
    """A float64 copy of finite numbers."""
    _refuse_complex(name, values)
    vector: Floats = check_array(
        values,
        ensure_2d=False,
        dtype=np.float64,
        input_name=name,
        copy=True,
    )
    return vector


def _refuse_complex(name: str, values: Any) -> None:
    if np.asarray(values).dtype.kind == "c":
        raise ValueError(f"Complex data not supported in {name}.")


def _as_floats(values: Any) -> Floats | None:
    """What others may have assigned, as an array."""
    return None if values is None else np.asarray(to_numpy(values), dtype=np.float64)


def _check_affine(weight: Floats | None, bias: Floats | None, n_features: int) -> None:
    """Check the shapes of the affine map."""
    for name, values in (("weight_", weight), ("bias_", bias)):
        if values is not None and np.shape(values) != (n_features,):
            raise ValueError(
                f"{name} has shape {np.shape(values)}, expected {(n_features,)}."
            )


def _check_keys(
    state: Mapping[str, Any], expected: list[str], *, optional: list[str]
) -> None:
    if not isinstance(state, Mapping):
        raise ValueError(
            f"The state must be a mapping of names to arrays; got {type(state)}."
        )
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected + optional]
    if missing or unknown:
        raise ValueError(
            f"The state does not fit this transformer: missing {missing}, unknown "
            f"{unknown}. affine, bias and track_running_stats decide which keys there "
            "are."
        )


def _checked_names(feature_names: ArrayLike, n_features: int) -> NDArray[np.object_]:
    names = np.asarray(feature_names, dtype=object)
    if (
        names.shape != (n_features,)
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < n_features
    ):
        raise ValueError(
            f"feature_names must be {n_features} different strings; got "
            f"{feature_names!r}."
        )
    return names.copy()


def _checked_entry(
    state: Mapping[str, Any],
    key: str,
    n_features: int,
    *,
    allow_nan: bool = False,
    copy: bool = True,
) -> Floats:
    values = _as_array(state, key)
    if values.shape != (n_features,):
        raise ValueError(f"{key} has shape {values.shape}, expected {(n_features,)}.")
    vector: Floats = values.astype(np.float64, copy=copy)
    if not np.isfinite(vector).all():
        with config_context(assume_finite=False):  # which is about data
            assert_all_finite(vector, allow_nan=allow_nan, input_name=key)
    return vector


@ignore_float_errors
def _loaded_stats(attributes: Mapping[str, Any]) -> RunningStats | None:
    """Statistics of a file, from which nothing comes that a state dict can't hold."""
    learned = ("n_features_in_", "weight_", "bias_")
    missing = [name for name in learned if name not in attributes]
    if missing:
        raise ValueError(f"The state does not fit this transformer: missing {missing}.")
    n_features = attributes["n_features_in_"]
    names = attributes.get("feature_names_in_")
    if names is not None and np.shape(names) != (n_features,):
        raise ValueError(
            f"feature_names_in_ has shape {np.shape(names)}, expected {(n_features,)}."
        )
    for key in ("weight", "bias"):
        values = to_numpy(attributes[f"{key}_"])
        if values is not None:
            _checked_entry({key: values}, key, n_features, copy=False)
    if attributes["_running_stats"] is None:
        return None
    stats = RunningStats(*attributes["_running_stats"])
    state = {
        "running_mean": stats.mean,
        "running_var": stats.var,
        "num_batches_tracked": stats.num_batches,
    }
    checked = _checked_stats(state, n_features, copy=False)
    start_weight = _as_array({"start_weight": stats.start_weight}, "start_weight")
    is_share = (start_weight >= 0) & (start_weight <= 1)
    if start_weight.shape not in ((), (n_features,)) or not is_share.all():
        raise ValueError(
            "start_weight must be from 0 to 1, or so for each of "
            f"{n_features} features; got {stats.start_weight!r}."
        )
    return replace(checked, start_weight=stats.start_weight)


def _checked_stats(
    state: Mapping[str, Any], n_features: int, *, copy: bool = True
) -> RunningStats:
    mean, var = (
        _checked_entry(state, key, n_features, allow_nan=True, copy=copy)
        for key in ("running_mean", "running_var")
    )
    count: Count = 0
    if "num_batches_tracked" in state:
        count = _checked_count(state, n_features)
    if (var < 0).any():
        raise ValueError("running_var has a negative value.")
    for key, values, other in (("running_mean", mean, var), ("running_var", var, mean)):
        unknown = np.isnan(values)
        if (unknown & (np.greater(count, 0) | ~np.isnan(other))).any():
            raise ValueError(
                f"{key} contains NaN, which both may where num_batches_tracked is 0, "
                "of a feature that was never observed."
            )
    return RunningStats(mean, var, count)


def _as_array(state: Mapping[str, Any], key: str) -> NDArray[Any]:
    value = state[key]
    refuse_mask(key, value, "A state has no missing values.")
    try:
        if hasattr(value, "detach"):  # a tensor of PyTorch, which has more dtypes
            value = value.detach()
            value = value.double() if value.is_floating_point() else value
        values = np.asarray(value)
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{key} can't be made a NumPy array: {error}") from error
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{key} has dtype {values.dtype}, which is not a real number.")
    return values


def _checked_count(state: Mapping[str, Any], n_features: int) -> Count:
    count = _as_array(state, "num_batches_tracked")
    if (
        count.shape not in ((), (n_features,))
        or count.dtype.kind not in "iu"
        or int(count.min()) < 0
        or int(count.max()) > np.iinfo(np.int64).max
    ):
        raise ValueError(
            "num_batches_tracked must be an integer, 0 or more, or one for each of "
            f"{n_features} features; got {state['num_batches_tracked']!r}."
        )
    # An array only where the features differ.
    return int(count.min()) if np.ptp(count) == 0 else count.astype(np.int64)
