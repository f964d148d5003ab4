"""Who runs the hot loops: NumPy or numba, on how many threads.

The choice depends on the dtype, the memory order and the shape of X alone, and so
does the way X is cut into tasks: the same X gives the same bits whatever the
number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray

from sk_batchnorm._kernels import numpy as plain
from sk_batchnorm._kernels.numpy import AffineMap, Floats, Stack, refuse_infinity

# Values of an array that is worth compiled loops, and threads: 1 MB of float64.
_LARGE = 131_072

# Values of one task: enough to be worth handing to a thread.
TASK_VALUES = 524_288

# Rows of a stretch that are worth merging with others, however many the features.
_MANY_ROWS = 512

# Rows of a column, in Fortran order, that are worth a call of their own.
_LONG_COLUMN = 4096

T = TypeVar("T")


def _chosen() -> str:
    """Kernels that this process uses: those asked for, else numba if there."""
    wanted = os.environ.get("SK_BATCHNORM_KERNELS") or None
    if wanted not in ("numpy", "numba", None):
        raise ValueError(
            f"SK_BATCHNORM_KERNELS must be 'numpy' or 'numba'; got {wanted!r}."
        )
    there = find_spec("numba") is not None
    if wanted == "numba" and not there:
        raise ImportError(
            'SK_BATCHNORM_KERNELS=numba needs numba: pip install "sk-batchnorm[fast]".'
        )
    return wanted or ("numba" if there else "numpy")


# The kernels of this process, and the least values for which numba's are worth
# their call: all, if they were asked for by name.
KERNELS = _chosen()
LEAST_COMPILED = 1 if os.environ.get("SK_BATCHNORM_KERNELS") == "numba" else _LARGE


def is_compiled(X: NDArray[Any]) -> bool:
    """Whether numba's loops take X."""
    return (
        X.size >= LEAST_COMPILED
        and KERNELS == "numba"
        and X.ndim == 2
        and X.dtype.char in "fd"
        and X.dtype.isnative
        and X.flags.aligned
        and (X.flags.c_contiguous or X.flags.f_contiguous)
    )


def rows_at_once(X: NDArray[Any]) -> int:
    """Rows of the longest stretch that :func:`moments` takes."""
    n_features = int(X.shape[1])
    if is_compiled(X):
        return max(_MANY_ROWS, TASK_VALUES // n_features)
    return max(1, plain.BLOCK_VALUES // n_features)


def moments(
    X: NDArray[Any],
    bounds: NDArray[np.int64],
    weight: Floats | None,
    n_jobs: int | None = None,
) -> Stack:
    """Moments of consecutive stretches of rows, see the NumPy kernels."""
    if X.size < min(_LARGE, LEAST_COMPILED):
        return plain.moments(X, bounds, weight)
    longest = int(np.diff(bounds).max())
    at_once = max(1, TASK_VALUES // (longest * X.shape[1]))
    tasks = [slice(i, i + at_once) for i in range(0, len(bounds) - 1, at_once)]
    if is_compiled(X):
        from sk_batchnorm._kernels import numba as fast

        return fast.moments(X, bounds, weight, partial(in_threads, tasks, n_jobs))

    def kernel(task: slice) -> Stack:
        some = bounds[task.start : task.stop + 1]
        return plain.moments(X, some, weight)

    stacks = in_threads(tasks, n_jobs, kernel)
    if len(stacks) == 1:
        return stacks[0]
    counts = [stack[0] for stack in stacks]
    width = max(count.shape[1] for count in counts)
    return (
        np.concatenate([np.broadcast_to(c, (len(c), width)) for c in counts]),
        np.concatenate([stack[1] for stack in stacks]),
        np.concatenate([stack[2] for stack in stacks]),
        np.concatenate([stack[3] for stack in stacks]),
    )


def stored_sums(X: Any, weight: Floats | None) -> plain.StoredSums:
    """First pass over a sparse matrix, see the NumPy kernels."""
    if not _is_compiled_sparse(X):
        return plain.stored_sums(X, weight)
    from sk_batchnorm._kernels import numba as fast

    return fast.stored_sums(X, weight)


def stored_deviations(
    X: Any, weight: Floats | None, shift: Floats
) -> tuple[Floats, Floats]:
    """Second pass over a sparse matrix, see the NumPy kernels."""
    if not _is_compiled_sparse(X):
        return plain.stored_deviations(X, weight, shift)
    from sk_batchnorm._kernels import numba as fast

    return fast.stored_deviations(X, weight, shift)


def _is_compiled_sparse(X: Any) -> bool:
    return (
        X.nnz >= LEAST_COMPILED
        and KERNELS == "numba"
        and X.data.dtype.char in "fd"
        and X.data.dtype.isnative
    )


def centre_and_scale(
    X: NDArray[Any],
    by: AffineMap,
    out: NDArray[np.floating],
    n_jobs: int | None = None,
) -> None:
    """Write X by an affine map into ``out``, see the NumPy kernels.

    If X contains infinity and ``out`` is X, it is left as it was.
    """
    if X.size < min(_LARGE, LEAST_COMPILED):
        if out is X:
            refuse_infinity(X)  # before the first value is overwritten
        plain.centre_and_scale(X, by, out)
        return
    compiled = (
        is_compiled(X)
        and out.strides == X.strides
        and (X.flags.c_contiguous or X.shape[0] >= _LONG_COLUMN)
    )
    if compiled:
        from sk_batchnorm._kernels import numba as fast

        tasks: list[Any] = list(fast.parts(X, TASK_VALUES))

        def kernel(index: Any) -> bool:
            return fast.centre_and_scale_part(X, index, *by, out)

        def is_infinite(index: Any) -> bool:
            return fast.any_infinite_part(X, index)
    else:
        n_rows = max(1, TASK_VALUES // (X.size // len(X)))
        tasks = [slice(i, i + n_rows) for i in range(0, len(X), n_rows)]

        def kernel(index: Any) -> bool:
            plain.centre_and_scale(X[index], by, out[index])
            return False

        def is_infinite(index: Any) -> bool:
            refuse_infinity(X[index])
            return False

    if out is X and any(in_threads(tasks, n_jobs, is_infinite)):
        raise plain.InfiniteValueError(plain.INFINITE.format(X.dtype))
    if any(in_threads(tasks, n_jobs, kernel)):
        raise plain.InfiniteValueError(plain.INFINITE.format(X.dtype))


def in_threads(
    tasks: Sequence[Any], n_jobs: int | None, function: Callable[[Any], T]
) -> list[T]:
    """``[function(task) for task in tasks]``, on several threads.

    joblib says how many. Its own threads, and a queue of futures, would take
    as long as a task does.
    """
    n_threads = min(effective_n_jobs(n_jobs), len(tasks)) if len(tasks) > 1 else 1
    if n_threads == 1:
        return [function(task) for task in tasks]
    results: dict[int, T] = {}
    rest = enumerate(tasks)  # from which each thread takes the next
    turn = Lock()  # without a GIL, two would take the same

    @plain.ignore_float_errors  # the state of NumPy is each thread's own
    def work() -> None:
        while True:
            with turn:
                number, task = next(rest, (-1, None))
            if number < 0:
                return
            results[number] = function(task)

    with ThreadPoolExecutor(n_threads - 1) as pool:
        others = [pool.submit(work) for _ in range(n_threads - 1)]
        work()
    for other in others:
        other.result()  # or what it raised
    return [results[number] for number in range(len(tasks))]
