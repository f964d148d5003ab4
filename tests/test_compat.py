"""Checks of parameters and of steps: each time where it matters, else once."""

from typing import ClassVar

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer, _compat
from sk_batchnorm._compat import (
    InvalidParameterError,
    check_parameters,
    check_steps,
)
from sk_batchnorm.pipeline import StreamingPipeline

CALLS = []


class Checked(type):
    """A type whose check is counted, and can fail."""

    error = None

    def __instancecheck__(cls, value):
        CALLS.append(value)
        if cls.error is not None:
            raise cls.error
        return not (isinstance(value, str) or (type(value) is list and "bad" in value))


def counted(**parameters):
    """An estimator of a new type, of which nothing is known yet."""

    class Anything(metaclass=Checked):
        pass

    class Counted(BaseEstimator):
        _parameter_constraints: ClassVar = {"first": [Anything], "second": [Anything]}

        def __init__(self, first=None, second=None):
            self.first = first
            self.second = second

    CALLS.clear()
    return Counted(**parameters), Anything


UNHASHABLE = [[1.0, 2.0], np.ones(2), {"a": 1}, ([1.0], 2.0), bytearray(2)]


def test_what_can_be_looked_up_is_checked_once():
    estimator, _ = counted(first=1, second=(1.0, None))
    for _ in range(3):
        check_parameters(estimator)
    assert CALLS == [1, (1.0, None)]


@pytest.mark.parametrize("value", UNHASHABLE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("where", ["first", "second"])
def test_what_has_no_hash_is_checked_each_time(value, where):
    other = {"first": "second", "second": "first"}[where]
    estimator, _ = counted(**{where: value, other: 7})
    for _ in range(3):
        check_parameters(estimator)
    assert sum(call is value for call in CALLS) == 3
    assert len(CALLS) == 4


@pytest.mark.parametrize("value", [1, [1]])
@pytest.mark.parametrize("error", [TypeError, ValueError, RuntimeError])
def test_an_error_of_the_check_itself_surfaces(value, error):
    estimator, kind = counted(first=value)
    type.__setattr__(kind, "error", error("of the check itself"))
    with pytest.raises(error, match="of the check itself"):
        check_parameters(estimator)
    assert [value] == CALLS


def test_what_was_refused_is_refused_again():
    estimator, _ = counted(first="bad")
    for second in (0, [0], 0):
        estimator.second = second
        with pytest.raises(InvalidParameterError, match="'first' parameter"):
            check_parameters(estimator)
    estimator.first = 1
    check_parameters(estimator)


@pytest.mark.parametrize("second", [None, 1])
def test_a_list_is_checked_by_its_content(second):
    estimator, _ = counted(first=[1], second=second)
    check_parameters(estimator)
    estimator.first.append("bad")
    for _ in range(2):
        with pytest.raises(InvalidParameterError, match="'first' parameter"):
            check_parameters(estimator)
    estimator.first.pop()
    check_parameters(estimator)


@pytest.mark.parametrize("second", [None, [1]])
def test_the_configuration_may_skip_checks(second):
    estimator, _ = counted(first="bad", second=second)
    with sklearn.config_context(skip_parameter_validation=True):
        check_parameters(estimator)
    assert not CALLS
    with pytest.raises(InvalidParameterError):
        check_parameters(estimator)


@pytest.mark.parametrize("value", [1, [1]])
def test_a_parameter_may_be_exempt(value):
    class Exempt(BaseEstimator):
        _parameter_constraints: ClassVar = {"first": "no_validation"}
        first = value

    check_parameters(Exempt())


@pytest.mark.parametrize("weight_init", [None, [1.0, 2.0]])
def test_equal_values_of_other_types_are_other_values(weight_init):
    X = np.arange(8.0).reshape(4, 2)
    bn = BatchNorm1dTransformer(2, weight_init=weight_init, n_jobs=1).partial_fit(X)
    for name, value in [("num_features", 2.0), ("n_jobs", 1.0), ("affine", 1.0)]:
        good = getattr(bn, name)
        assert good == value
        with pytest.raises(InvalidParameterError, match=f"'{name}' parameter"):
            bn.set_params(**{name: value}).partial_fit(X)
        bn.set_params(**{name: good}).partial_fit(X)


def test_parameters_may_become_invalid_in_mid_stream():
    X = np.arange(8.0).reshape(4, 2)
    bn = BatchNorm1dTransformer(weight_init=[1.0, 2.0]).partial_fit(X)
    with pytest.raises(InvalidParameterError, match="'weight_init' parameter"):
        bn.set_params(weight_init="ones").partial_fit(X)
    with pytest.raises(InvalidParameterError, match="'momentum' parameter"):
        bn.set_params(weight_init=[1.0, 2.0], momentum=2).partial_fit(X)
    assert bn.set_params(momentum=0.5).partial_fit(X).num_batches_tracked_ == 2


def test_steps_are_looked_at_anew_if_they_are_others(monkeypatch):
    calls = []

    class Counted(StreamingPipeline):
        def _validate_steps(self):
            calls.append(list(self.steps))
            super()._validate_steps()

    clf = SGDClassifier()
    clf.transform = clf.decision_function
    pipe = Counted([("a", StandardScaler()), ("b", clf), ("c", None)])
    for _ in range(3):
        check_steps(pipe)
    assert len(calls) == 1
    for steps, error in [
        ([("a", StandardScaler()), ("a", None)], ValueError),
        ([("a__b", StandardScaler()), ("b", None)], ValueError),
        ([("memory", StandardScaler()), ("b", None)], ValueError),
        ([("a", object()), ("b", None)], TypeError),
        ([("a", "scale"), ("b", None)], TypeError),
        ([(["a"], StandardScaler()), ("b", None)], TypeError),
        ([("a", StandardScaler(), 1), ("b", None)], ValueError),
    ]:
        for _ in range(2):
            with pytest.raises(error):
                check_steps(Counted(steps))
    check_steps(pipe)
    pipe.steps[0] = ("a", object())
    with pytest.raises(TypeError):
        check_steps(pipe)
    pipe.steps[0] = ("a", StandardScaler())
    del clf.transform  # the same step, which can't be one in the middle any longer
    with pytest.raises(TypeError, match="should be transformers"):
        check_steps(pipe)

    monkeypatch.setattr(_compat, "_ACCEPTED_STEPS", set())
    for i in range(1000):
        check_steps(StreamingPipeline([(f"step_{i}", None)]))
    assert len(_compat._ACCEPTED_STEPS) <= 128
