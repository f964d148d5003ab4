"""Callbacks see each mini-batch that is learned, and may stop or fail."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sk_batchnorm import BatchNorm1dTransformer

try:
    from sklearn.callback import ProgressBar
except ImportError:  # before scikit-learn 1.9
    ProgressBar = None

RNG = np.random.default_rng(0)
X = RNG.normal([1.0, -20.0, 300.0], [0.5, 4.0, 30.0], (100, 3))
y = (X[:, 0] > 1).astype(int)

pytestmark = pytest.mark.skipif(
    ProgressBar is None, reason="scikit-learn 1.9 brought callbacks"
)


class Diary:
    """Write down what happens."""

    def __init__(self, stop_after=None, fail_in=None):
        self.stop_after = stop_after
        self.fail_in = fail_in
        self.lines = []
        self.fitted = []

    def note(self, hook, context):
        self.lines.append(f"{hook} {context.task_name}")
        if self.fail_in in (hook, self.lines[-1]):
            raise RuntimeError(f"no {hook}")

    def setup(self, estimator, context):
        self.note("setup", context)

    def teardown(self, estimator, context):
        self.note("teardown", context)

    def on_fit_task_begin(self, estimator, context, *, X, y, metadata):
        self.note("begin", context)
        self.X, self.y, self.metadata = X, y, metadata
        self.max_subtasks = context.max_subtasks

    def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
        self.note("end", context)
        self.fitted.append(fitted_estimator)
        is_batch = context.task_name == "mini-batch"
        return is_batch and context.task_id + 1 == self.stop_after


class PropagatedDiary(Diary):
    max_propagation_depth = None


def test_each_mini_batch_of_fit_is_a_task():
    diary = Diary()
    bn = BatchNorm1dTransformer(batch_size=30).set_callbacks(diary)
    plain = clone(bn).set_callbacks().fit(X)
    assert bn.fit(X, y) is bn
    batch = ["begin mini-batch", "end mini-batch"]
    # 100 rows: 34, 33 and 33.
    assert diary.lines == [
        "setup fit",
        "begin fit",
        *batch * 3,
        "end fit",
        "teardown fit",
    ]
    # One by one, not in closed form: equal but for rounding.
    assert_allclose(bn.running_mean_, plain.running_mean_, rtol=1e-14)
    assert_allclose(bn.running_var_, plain.running_var_, rtol=1e-14)
    by_hand = clone(plain).set_params(bias_correction=True)
    for rows, fitted in zip(np.array_split(X, 3), diary.fitted, strict=False):
        by_hand.partial_fit(rows)
        assert_allclose(
            fitted.transform(X), by_hand.transform(X), rtol=1e-12, atol=1e-13
        )
    assert_array_equal(diary.fitted[3].running_var_, bn.running_var_)
    assert diary.fitted[3] is not bn


def test_tasks_carry_their_rows():
    class Rows(Diary):
        def on_fit_task_begin(self, estimator, context, *, X, y, metadata):
            self.lines.append((context.task_name, context.max_subtasks, X, y, metadata))

    rows, weight = Rows(), np.arange(100) % 3
    bn = BatchNorm1dTransformer(batch_size=33).set_callbacks(rows)
    bn.fit(X, y, sample_weight=weight)
    root, first = rows.lines[1:3]
    assert root[:2] == ("fit", 2)
    assert_array_equal(root[2], X)
    assert root[3] is y
    assert_array_equal(root[4]["sample_weight"], weight)
    assert first[:2] == ("mini-batch", 0)
    # Of 66 rows of positive weight, where the 34th is.
    end = np.flatnonzero(weight)[33]
    assert_array_equal(first[2], X[:end])
    assert_array_equal(first[4]["sample_weight"], weight[:end])


def test_partial_fit_is_one_task():
    diary = Diary()
    bn = BatchNorm1dTransformer().set_callbacks(diary)
    plain = BatchNorm1dTransformer()
    for batch in (X[:50], X[50:]):
        assert bn.partial_fit(batch, y, sample_weight=2.0) is bn
        plain.partial_fit(batch, sample_weight=2.0)
        assert diary.metadata == {"sample_weight": 2.0}
        assert_array_equal(bn.running_var_, plain.running_var_)
        assert_array_equal(diary.fitted[-1].running_var_, plain.running_var_)
    hooks = ["setup", "begin", "end", "teardown"]
    assert diary.lines == [f"{hook} partial_fit" for hook in hooks] * 2


@pytest.mark.parametrize("hook", ["setup", "on_fit_task_begin"])
def test_a_callback_may_resume_a_stream(hook):
    checkpoint = BatchNorm1dTransformer().fit(X).state_dict()

    class Resuming(Diary):
        pass

    def resume(self, estimator, context, **kwargs):
        estimator.load_state_dict(checkpoint)

    setattr(Resuming, hook, resume)
    Resuming.on_fit_task_end = lambda self, estimator, context: None
    bn = BatchNorm1dTransformer().set_callbacks(Resuming()).partial_fit(X)
    resumed = BatchNorm1dTransformer().load_state_dict(checkpoint).partial_fit(X)
    assert_array_equal(bn.running_mean_, resumed.running_mean_)
    assert bn.num_batches_tracked_ == resumed.num_batches_tracked_


def test_partial_fit_between_forward_and_backward():
    bn, plain = BatchNorm1dTransformer(), BatchNorm1dTransformer()
    bn.set_callbacks(Diary())
    for each in (bn, plain):
        each.forward(X)
        each.partial_fit(X[:50])
    assert_array_equal(bn.backward(X), plain.backward(X))


def test_partial_fit_of_a_subclass_is_called_once():
    class OfLogarithms(BatchNorm1dTransformer):
        def partial_fit(self, X, y=None, sample_weight=None):
            return super().partial_fit(np.log(X), y, sample_weight)

    bn = OfLogarithms(momentum=1).set_callbacks(Diary()).partial_fit(np.abs(X))
    assert_allclose(bn.running_mean_, np.log(np.abs(X)).mean(axis=0), rtol=1e-12)


def test_tasks_carry_rows_of_other_namespaces():
    xp = pytest.importorskip("array_api_strict")

    class Rows(Diary):
        def on_fit_task_begin(self, estimator, context, *, X, y, metadata):
            self.rows = X

    rows = Rows()
    with config_context(array_api_dispatch=True):
        bn = BatchNorm1dTransformer(batch_size=40).set_callbacks(rows)
        bn.fit(xp.asarray(X))
        assert xp.all(rows.rows == xp.asarray(X[50:]))


def test_a_callback_may_stop_fit():
    bn = BatchNorm1dTransformer(batch_size=10).set_callbacks(Diary(stop_after=3))
    assert bn.fit(X).num_batches_tracked_ == 3
    expected = BatchNorm1dTransformer(batch_size=10).fit(X[:30])
    assert_allclose(bn.running_var_, expected.running_var_, rtol=1e-14)


@pytest.mark.parametrize("hook", ["setup", "begin", "end", "end fit"])
def test_a_callback_that_fails_changes_nothing(hook):
    bn = BatchNorm1dTransformer(batch_size=10).fit(X[:50])
    before = bn.state_dict()
    diary = Diary(fail_in=hook)
    bn.set_callbacks(diary)
    for method in (bn.fit, bn.partial_fit)[: 1 if hook == "end fit" else 2]:
        with pytest.raises(RuntimeError, match="no "):
            method(X)
        assert diary.lines[-1].startswith("teardown")
        assert_equal(bn.state_dict(), before)
    fitted = clone(bn).set_callbacks().fit(X[:50])
    assert set(vars(bn)) - set(vars(fitted)) == {"_skl_callbacks"}


def test_bad_data_with_callbacks_changes_nothing():
    diary = Diary()
    bn = BatchNorm1dTransformer(batch_size=10).fit(X).set_callbacks(diary)
    before = bn.state_dict()
    bad = X.copy()
    bad[55, 1] = np.inf
    for method in (bn.fit, bn.partial_fit):
        with pytest.raises(ValueError, match="infinity"):
            method(bad)
        assert diary.lines[-1].startswith("teardown")
        assert_equal(bn.state_dict(), before)


def test_a_pipeline_and_a_search_reach_mini_batches():
    diary = PropagatedDiary()
    bn = BatchNorm1dTransformer(batch_size=20)
    pipe = make_pipeline(bn, LogisticRegression()).set_callbacks(diary)
    pipe.fit(X, y)
    assert diary.lines.count("end mini-batch") == 5
    assert not hasattr(bn, "_skl_callbacks")
    expected = BatchNorm1dTransformer(batch_size=20).fit(X)
    assert_allclose(bn.running_var_, expected.running_var_, rtol=1e-14)

    diary = PropagatedDiary()
    pipe.set_callbacks()
    grid = {"batchnorm1dtransformer__momentum": [0.1, 0.5]}
    GridSearchCV(pipe, grid, cv=2).set_callbacks(diary).fit(X, y)
    # Two momenta on halves of 50 rows in each of two splits, and all rows at the end.
    assert diary.lines.count("end mini-batch") == 2 * 2 * 2 + 5


def test_progress_bar(capsys):
    pytest.importorskip("rich")
    bn = BatchNorm1dTransformer(batch_size=10)
    bn.set_callbacks(ProgressBar()).fit(X)
    printed = capsys.readouterr().out
    assert "BatchNorm1dTransformer - fit" in printed
    assert "100%" in printed
