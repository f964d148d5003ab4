"""Who runs the hot loops: the compiled ones or NumPy's, on how many threads.

The choice depends on the installation alone, and the way X is cut into tasks on its
dtype, its memory order and its shape: the same X gives the same bits whatever the
number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray

from sk_batchnorm._kernels import numpy as plain
from sk_batchnorm._kernels.numpy import AffineMap, Floats, Stack, refuse_infinity

# Values of an array that is worth threads: 1 MB of float64.
_LARGE = 131_072

# Values of one task: enough to be worth handing to a thread.
TASK_VALUES = 524_288

# Rows of a stretch that are worth merging with others, however many the features.
_MANY_ROWS = 512

T = TypeVar("T")


# Whether the compiled loops are installed.
try:
    from sk_batchnorm._kernels import compiled
except ImportError:
    ARE_THERE = False
else:
    ARE_THERE = True


def _chosen() -> str:
    """Kernels that this process uses: those asked for, else the compiled if there."""
    wanted = os.environ.get("SK_BATCHNORM_KERNELS") or None
    if wanted not in ("numpy", "compiled", None):
        raise ValueError(
            f"SK_BATCHNORM_KERNELS must be 'numpy' or 'compiled'; got {wanted!r}."
        )
    if wanted == "compiled" and not ARE_THERE:
        raise ImportError(
            "SK_BATCHNORM_KERNELS=compiled, but the compiled loops are missing: "
            "sk-batchnorm was installed from source without a C compiler. Install a "
            "wheel, or install it again where there is a compiler."
        )
    return wanted or ("compiled" if ARE_THERE else "numpy")


# The kernels of this process.
KERNELS = _chosen()


def is_taken_as_it_is(X: NDArray[Any]) -> bool:
    """Whether the compiled loops take X without a copy, block by block."""
    return KERNELS == "compiled" and compiled.accepts(X)


def rows_at_once(X: NDArray[Any]) -> int:
    """Rows of the longest stretch that :func:`moments` takes."""
    row_values = prod(X.shape[1:])
    if is_taken_as_it_is(X):
        return max(_MANY_ROWS if X.ndim == 2 else 1, TASK_VALUES // row_values)
    return max(1, plain.BLOCK_VALUES // row_values)


def moments(
    X: NDArray[Any],
    bounds: NDArray[np.int64],
    weight: Floats | None,
    n_jobs: int | None = None,
) -> Stack:
    """Moments of consecutive stretches of rows, see the NumPy kernels.

    If X has three dimensions, it is one that the compiled loops take as it is.
    """
    if KERNELS == "compiled":
        return _compiled_moments(X, bounds, weight, n_jobs)
    if X.size < _LARGE:
        return plain.moments(X, bounds, weight)

    def kernel(task: slice) -> Stack:
        some = bounds[task.start : task.stop + 1]
        return plain.moments(X, some, weight)

    stacks = in_threads(_tasks(X, bounds, TASK_VALUES), n_jobs, kernel)
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


def _tasks(X: NDArray[Any], bounds: NDArray[np.int64], n_values: int) -> list[slice]:
    """Slices of the stretches, of about so many values."""
    longest = int(np.diff(bounds).max())
    at_once = max(1, n_values // max(1, longest * prod(X.shape[1:])))
    return [slice(i, i + at_once) for i in range(0, len(bounds) - 1, at_once)]


def _compiled_moments(
    X: NDArray[Any],
    bounds: NDArray[np.int64],
    weight: Floats | None,
    n_jobs: int | None,
) -> Stack:
    out = np.empty((len(bounds) - 1, 4, X.shape[1]))
    as_it_is = compiled.accepts(X)

    def kernel(task: slice) -> int:
        some = bounds[task.start : task.stop + 1]
        rows = slice(some[0], some[-1])
        part, part_weight = X[rows], None if weight is None else weight[rows]
        floats = part if as_it_is else _as_floats(part)
        flags = compiled.moments(floats, some - some[0], part_weight, out[task])
        if flags & compiled.NOT_FINITE:
            # Infinity, or else an overflow. A task is small enough for a copy.
            refuse_infinity(part if part_weight is None else part[part_weight > 0])
        return flags

    if X.size < _LARGE and as_it_is:
        flags = [kernel(slice(0, len(out)))]
    else:
        n_values = TASK_VALUES if as_it_is else plain.BLOCK_VALUES
        flags = in_threads(_tasks(X, bounds, n_values), n_jobs, kernel)
    count = out[:, 0]
    if (weight is None and not any(flags)) or (count == count[:, :1]).all():
        count = count[:, :1]
    return count, out[:, 1], out[:, 2], out[:, 3]


def _as_floats(X: NDArray[Any]) -> NDArray[np.floating]:
    """A copy in C order, of float32 where that holds all values, else of float64."""
    small = X.dtype.kind == "f" and X.dtype.itemsize <= 4
    return X.astype(np.float32 if small else np.float64, order="C")


def faded_moments(
    X: Floats, weight: Floats | None, decay: Floats, factor: Floats
) -> tuple[Stack, NDArray[np.int64]]:
    """Moments of rows whose values fade, see the NumPy kernels. X is overwritten."""
    if KERNELS == "numpy":
        return plain.faded_moments(X, weight, decay, factor)
    out = np.empty((1, 4, X.shape[1]))
    n_observed, flags = compiled.faded_moments(X, weight, decay, factor, out[0])
    if flags & compiled.NOT_FINITE:
        refuse_infinity(X)  # in which rows of weight 0 are NaN now
    return (out[:, 0], out[:, 1], out[:, 2], out[:, 3]), n_observed


def stored_sums(X: Any, weight: Floats | None) -> plain.StoredSums:
    """First pass over a sparse matrix, see the NumPy kernels."""
    if KERNELS == "compiled":
        return compiled.stored_sums(X, weight)
    return plain.stored_sums(X, weight)


def stored_deviations(
    X: Any, weight: Floats | None, shift: Floats
) -> tuple[Floats, Floats]:
    """Second pass over a sparse matrix, see the NumPy kernels."""
    if KERNELS == "compiled":
        return compiled.stored_deviations(X, weight, shift)
    return plain.stored_deviations(X, weight, shift)


def centre_and_scale(
    X: NDArray[Any],
    by: AffineMap,
    out: NDArray[np.floating],
    n_jobs: int | None = None,
) -> None:
    """Write X by an affine map into ``out``, see the NumPy kernels.

    If X contains infinity and ``out`` is X, it is left as it was.
    """
    is_compiled = KERNELS == "compiled"
    if X.size < _LARGE and out is not X:  # the short way, for a small mini-batch
        if not is_compiled:
            plain.centre_and_scale(X, by, out)
            return
        if compiled.are_alike(X, out):
            if compiled.centre_and_scale(X, *by, out):
                raise plain.InfiniteValueError(plain.INFINITE.format(X.dtype))
            return
    write, is_infinite = (_compiled_map if is_compiled else _plain_map)(X, by, out)
    tasks = [slice(None)]
    if X.size >= _LARGE:
        n_rows = max(1, TASK_VALUES // prod(X.shape[1:]))
        tasks = [slice(i, i + n_rows) for i in range(0, len(X), n_rows)]
    # In place, before the first value is overwritten.
    if (out is X and any(in_threads(tasks, n_jobs, is_infinite))) or any(
        in_threads(tasks, n_jobs, write)
    ):
        raise plain.InfiniteValueError(plain.INFINITE.format(X.dtype))


Loop = Callable[[slice], bool]


def _plain_map(
    X: NDArray[Any], by: AffineMap, out: NDArray[np.floating]
) -> tuple[Loop, Loop]:
    """Write some rows, and look for infinity in some, which raises its error."""

    def write(rows: slice) -> bool:
        plain.centre_and_scale(X[rows], by, out[rows])
        return False

    def is_infinite(rows: slice) -> bool:
        refuse_infinity(X[rows])
        return False

    return write, is_infinite


def _compiled_map(
    X: NDArray[Any], by: AffineMap, out: NDArray[np.floating]
) -> tuple[Loop, Loop]:
    """Write some rows, and look for infinity in some: whether there is any."""
    if compiled.are_alike(X, out):

        def write(rows: slice) -> bool:
            return compiled.centre_and_scale(X[rows], *by, out[rows])

        def is_infinite(rows: slice) -> bool:
            return compiled.any_infinite(X[rows])

        return write, is_infinite
    in_out = compiled.accepts(out)

    def write_blocks(rows: slice) -> bool:
        infinite = False
        some, some_out = X[rows], out[rows]
        for index in plain.blocks(some.shape):
            target = some_out[index]
            block = target if in_out else np.empty(target.shape, target.dtype)
            np.copyto(block, some[index], casting="same_kind")
            infinite |= compiled.centre_and_scale(block, *by, block)
            if not in_out:
                target[...] = block
        return infinite

    return write_blocks, _plain_map(X, by, out)[1]


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
