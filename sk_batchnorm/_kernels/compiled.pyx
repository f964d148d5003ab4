# cython: language_level=3, freethreading_compatible=True
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The hot loops, compiled: what NumPy's arrays are for the C code of ``loops.c``.

None of these functions checks the shapes of its arguments; ``dispatch.py`` calls them.
All release the GIL while they loop.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.float cimport DBL_EPSILON, DBL_MAX
from libc.math cimport fabs, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

import numpy as np

from sk_batchnorm._kernels.numpy import StoredSums

cdef extern from "math.h" nogil:
    long double sqrtl(long double)

cdef extern from "loops.h" nogil:
    int of_missing "MISSING"
    int of_not_finite "NOT_FINITE"
    int of_no_memory "NO_MEMORY"

    ctypedef struct Shape:
        Py_ssize_t n_samples, n_features, n_times, sample_stride, feature_stride
        int is_float32

    ctypedef struct AffineMap:
        const double *centre
        const double *scale
        const double *offset
        const double *limit
        const double *fill

    int c_moments "moments" (const void *, const Shape *, const int64_t *, Py_ssize_t,
                             const double *, double *)
    void fade(double *, Py_ssize_t, Py_ssize_t, const double *, const double *,
              const double *, int64_t *, double *)
    int moments_by_value(const double *, Py_ssize_t, Py_ssize_t, const double *,
                         double *)
    int c_centre_and_scale "centre_and_scale" (
        const void *, const Shape *, const AffineMap *, void *, const Shape *)
    int c_any_infinite "any_infinite" (const void *, const Shape *)
    int any_missing(const void *, const Shape *)


# What `moments` has met, bits of what it returns.
MISSING = of_missing
NOT_FINITE = of_not_finite

# Values of a row that is worth a loop of its own, if the next one lies elsewhere.
cdef enum:
    LONG_ROW = 32

ctypedef fused Real:
    float
    double

ctypedef fused Index:
    int32_t
    int64_t


cdef class Buffer:
    """Memory of an array, for as long as this object is there.

    Typed memoryviews would do the same, and take longer than the loops over a
    mini-batch of a few rows.
    """

    cdef Py_buffer view

    def __cinit__(self, array, bint writable=False):
        flags = PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0)
        PyObject_GetBuffer(array, &self.view, flags)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    cdef Shape shape(self):
        """Shape of an array that :func:`accepts` is true of, and its strides."""
        cdef Py_ssize_t *n = self.view.shape
        cdef Py_ssize_t *strides = self.view.strides
        cdef Py_ssize_t size = self.view.itemsize
        cdef Py_ssize_t n_times = n[2] if self.view.ndim == 3 else 1
        cdef Py_ssize_t feature_stride = strides[1] // size
        if self.view.ndim == 2 and n[1] == 1:
            feature_stride = 1
        return Shape(
            n[0], n[1], n_times, strides[0] // size, feature_stride,
            size == sizeof(float),
        )


cdef Buffer vector(values):
    """A vector of float64 that is contiguous."""
    return None if values is None else Buffer(np.ascontiguousarray(values, np.float64))


cdef double *doubles(Buffer buffer):
    return NULL if buffer is None else <double *>buffer.view.buf


cdef int checked(int result) except -1:
    if result == of_no_memory:
        raise MemoryError
    return result


def accepts(X):
    """Whether the loops take a NumPy array as it is.

    It is of float32 or float64, and either rows lie end to end, or at least the values
    of a long one, or those of a feature do; in three dimensions, those of a feature of
    a sample.
    """
    cdef Buffer buffer = Buffer(X)
    cdef Py_buffer *view = &buffer.view
    cdef Py_ssize_t size = view.itemsize
    cdef Py_ssize_t *n = view.shape
    cdef Py_ssize_t *strides = view.strides
    cdef int i
    if view.format == NULL or view.format[0] not in b"fd" or view.format[1] != 0:
        return False  # of another dtype, or not in this machine's order of bytes
    if <size_t>view.buf % size:
        return False
    for i in range(view.ndim):
        if strides[i] % size:
            return False
    if view.ndim == 3:
        return strides[2] == size and n[2] > 1
    if strides[0] == size or n[0] == 1:
        return strides[0] == size or strides[1] == size
    return strides[1] == size and (strides[0] == n[1] * size or n[1] >= LONG_ROW)


def are_alike(X, out):
    """Whether the loops write X to an array of the same shape, and in one order."""
    if not (accepts(X) and accepts(out)):
        return False
    cdef Buffer x = Buffer(X)
    cdef Buffer y = Buffer(out)
    if x.view.itemsize != y.view.itemsize:
        return False
    return x.view.ndim == 3 or (
        (x.shape().feature_stride == 1) == (y.shape().feature_stride == 1)
    )


def moments(X, bounds, weight, out):
    """Write the moments of stretches of rows of X; return MISSING and NOT_FINITE.

    The stretches are those between the bounds, and the weights those of all rows or
    None. ``out`` is of shape (n_stretches, 4, n_features): for each
    stretch count, shift, residual and squares.
    """
    cdef Buffer x = Buffer(X)
    cdef Buffer w = vector(weight)
    cdef Buffer rows = Buffer(np.ascontiguousarray(bounds, np.int64))
    cdef Buffer results = Buffer(out, True)
    cdef Shape shape = x.shape()
    cdef const double *weights = doubles(w)
    cdef int flags
    with nogil:
        flags = c_moments(
            x.view.buf, &shape, <const int64_t *>rows.view.buf,
            rows.view.shape[0] - 1, weights, <double *>results.view.buf,
        )
    return checked(flags)


def step(
    X, weight, mean, var, double f, double rest, double ddof, bint adds_spread
):
    """Running mean and variance after a plain mini-batch, and what it weighs, or None.

    None if a value is missing or infinite, or anything overflows: what comes then takes
    more than this. Else the results are, bit for bit, those of ``moments``,
    ``RunningStats.of`` and ``Rule.join``. Without weights, f and `rest` are the shares
    of the mini-batch and of what is older; with weights of the rows, which fade, `rest`
    is the weight of what is older.
    """
    if not accepts(X):
        return None
    cdef Buffer x = Buffer(X)
    cdef Buffer w = vector(weight)
    cdef Buffer old_mean = Buffer(mean)
    cdef Buffer old_var = Buffer(var)
    cdef Shape shape = x.shape()
    cdef Py_ssize_t n_features = shape.n_features, j
    new_mean, new_var = np.empty(n_features), np.empty(n_features)
    cdef Buffer mean_out = Buffer(new_mean, True)
    cdef Buffer var_out = Buffer(new_var, True)
    cdef double *means = doubles(mean_out)
    cdef double *vars = doubles(var_out)
    cdef const double *before = doubles(old_mean)
    cdef const double *var_before = doubles(old_var)
    cdef const double *weights = doubles(w)
    cdef int64_t[2] bounds = [0, shape.n_samples]
    cdef bint is_plain = False
    cdef double count = 0.0, both, m, v, d, old_m, old_v, total
    cdef double *out
    cdef int flags
    with nogil:
        out = <double *>malloc(4 * <size_t>n_features * sizeof(double))
        if out != NULL:
            flags = c_moments(x.view.buf, &shape, bounds, 1, weights, out)
            is_plain = flags == 0
            count = out[0]
            if weights != NULL:
                both = rest + count
                f, rest = count / both, rest / both
                # With weights, what is missing is left out without a word.
                is_plain = is_plain and not any_missing(x.view.buf, &shape)
            for j in range(n_features):
                m = out[n_features + j] + out[2 * n_features + j]
                v = out[3 * n_features + j] / (count - ddof)
                old_m, old_v = before[j], var_before[j]
                if not (v <= DBL_MAX and out[j] == count):
                    is_plain = False
                    break
                if adds_spread:
                    d = m - old_m
                    total = rest * old_v + (f * rest * d) * d + f * v
                # From the one with the larger share, as Rule.join.
                if f > 0.5:
                    means[j] = m + rest * (old_m - m)
                    vars[j] = total if adds_spread else v + rest * (old_v - v)
                else:
                    means[j] = old_m + f * (m - old_m)
                    vars[j] = total if adds_spread else old_v + f * (v - old_v)
                if not (fabs(means[j]) <= DBL_MAX and vars[j] <= DBL_MAX):
                    is_plain = False
                    break
            free(out)
    return (new_mean, new_var, count) if is_plain else None


def eval_mode(X, mean, var, double eps, weight, bias, bint with_mean):
    """X normalised by running statistics, or None if X takes more than this.

    Bit for bit what ``scale_of`` and ``centre_and_scale`` make of it.
    """
    out = np.empty_like(X)
    if not are_alike(X, out):  # as where all rows are the same one in memory
        return None
    cdef Buffer x = Buffer(X)
    cdef Buffer y = Buffer(out, True)
    cdef Buffer m = Buffer(mean)
    cdef Buffer v = Buffer(var)
    cdef Buffer w = vector(weight)
    cdef Buffer b = vector(bias)
    cdef Shape shape = x.shape()
    cdef Shape out_shape = y.shape()
    cdef const double *means = doubles(m)
    cdef const double *variances = doubles(v)
    cdef const double *weights = doubles(w)
    cdef const double *centre = NULL
    if with_mean:
        centre = means
    cdef AffineMap by = AffineMap(centre, NULL, doubles(b), NULL, NULL)
    cdef int infinite = of_no_memory
    cdef Py_ssize_t n_features = shape.n_features, j
    cdef long double std
    cdef double *scale
    with nogil:
        scale = <double *>malloc(<size_t>n_features * sizeof(double))
        if scale != NULL:
            for j in range(n_features):
                std = sqrtl(<long double>variances[j] + eps)
                if eps == 0.0 and is_zero(means[j], variances[j]):
                    std = 1.0
                scale[j] = <double>((1.0 if weights == NULL else weights[j]) / std)
            by.scale = scale
            infinite = c_centre_and_scale(
                x.view.buf, &shape, &by, y.view.buf, &out_shape
            )
            free(scale)
    return None if infinite else out


cdef bint is_zero(double mean, double var) noexcept nogil:
    """See ``is_zero`` of the scale of a state."""
    return sqrt(var) <= 10 * DBL_EPSILON * fabs(mean) and var < DBL_MAX


def faded_moments(X, weight, decay, factor, out):
    """Write the moments of rows that fade, see NumPy's kernels.

    X is C-contiguous float64, and overwritten. ``out`` is of shape (4, n_features).
    Return the number of observed values of each feature, MISSING and NOT_FINITE.
    """
    n_observed = np.zeros(X.shape[1], np.int64)
    cdef Buffer x = Buffer(X, True)
    cdef Buffer w = vector(weight)
    cdef Buffer decays = vector(decay)
    cdef Buffer factors = vector(factor)
    cdef Buffer numbers = Buffer(n_observed, True)
    cdef Buffer value_weights = Buffer(np.empty(X.shape), True)
    cdef Buffer results = Buffer(out, True)
    cdef double *values = doubles(x)
    cdef double *weights = doubles(value_weights)
    cdef const double *row_weights = doubles(w)
    cdef const double *by_age = doubles(decays)
    cdef const double *by_feature = doubles(factors)
    cdef double *moments = doubles(results)
    cdef Py_ssize_t n_rows = x.view.shape[0]
    cdef Py_ssize_t n_features = x.view.shape[1]
    cdef int flags
    with nogil:
        fade(values, n_rows, n_features, row_weights, by_age, by_feature,
             <int64_t *>numbers.view.buf, weights)
        flags = moments_by_value(values, n_rows, n_features, weights, moments)
    return n_observed, checked(flags)


def centre_and_scale(X, centre, scale, offset, limit, fill, out):
    """Write ``(X - centre) * scale + offset``, rounded once, into ``out``.

    The products are filled and limited before, see AffineMap of NumPy's kernels.

    Of the dtype and the order of X, which it may be. Return whether X contains
    infinity.
    """
    cdef Buffer x = Buffer(X)
    cdef Buffer y = Buffer(out, True)
    cdef Buffer c = vector(centre)
    cdef Buffer s = vector(scale)
    cdef Buffer o = vector(offset)
    cdef Buffer at_most = vector(limit)
    cdef Buffer of_nan = vector(fill)
    cdef Shape shape = x.shape()
    cdef Shape out_shape = y.shape()
    cdef AffineMap by = AffineMap(
        doubles(c), doubles(s), doubles(o), doubles(at_most), doubles(of_nan)
    )
    cdef int infinite
    with nogil:
        infinite = c_centre_and_scale(
            x.view.buf, &shape, &by, y.view.buf, &out_shape
        )
    return checked(infinite) != 0


def any_infinite(X):
    """Whether X contains infinity."""
    cdef Buffer x = Buffer(X)
    cdef Shape shape = x.shape()
    cdef int infinite
    with nogil:
        infinite = c_any_infinite(x.view.buf, &shape)
    return infinite != 0


def stored_sums(X, weight):
    """First pass over a CSR or CSC matrix, as that of NumPy's kernels."""
    sums = np.zeros((X.shape[1], 5))  # those of a feature side by side
    data, indices, indptr = parts(X)
    if data.dtype == np.float32:
        if indices.dtype == np.int32:
            add_stored[float, int32_t](data, indices, indptr, X, weight, sums)
        else:
            add_stored[float, int64_t](data, indices, indptr, X, weight, sums)
    elif indices.dtype == np.int32:
        add_stored[double, int32_t](data, indices, indptr, X, weight, sums)
    else:
        add_stored[double, int64_t](data, indices, indptr, X, weight, sums)
    return StoredSums(*np.ascontiguousarray(sums.T))


def stored_deviations(X, weight, shift):
    """Second pass over a CSR or CSC matrix, as that of NumPy's kernels."""
    sums = np.zeros((X.shape[1], 2))
    data, indices, indptr = parts(X)
    if data.dtype == np.float32:
        if indices.dtype == np.int32:
            add_deviations[float, int32_t](
                data, indices, indptr, X, weight, shift, sums
            )
        else:
            add_deviations[float, int64_t](
                data, indices, indptr, X, weight, shift, sums
            )
    elif indices.dtype == np.int32:
        add_deviations[double, int32_t](data, indices, indptr, X, weight, shift, sums)
    else:
        add_deviations[double, int64_t](data, indices, indptr, X, weight, shift, sums)
    deviations, squares = np.ascontiguousarray(sums.T)
    return deviations, squares


cdef parts(X):
    """Values, indices and pointers of a sparse matrix in dtypes that the loops take."""
    data, indices, indptr = X.data, X.indices, X.indptr
    if not (data.dtype.char in "fd" and data.dtype.isnative):
        data = data.astype(np.float64)
    if indices.dtype != np.int32:
        indices = indices.astype(np.int64, copy=False)
    return data, indices, indptr.astype(indices.dtype, copy=False)


cdef add_stored(
    const Real[::1] data, const Index[::1] indices, const Index[::1] indptr, X, weight,
    double[:, ::1] sums
):
    cdef bint by_column = X.format == "csc"
    cdef const double[::1] weights = vector_or_none(weight)
    cdef bint is_weighted = weights is not None
    cdef Py_ssize_t outer, i, row, feature
    cdef double value, w = 1.0
    with nogil:
        for outer in range(indptr.shape[0] - 1):
            for i in range(indptr[outer], indptr[outer + 1]):
                row, feature = outer, indices[i]
                if by_column:
                    row, feature = indices[i], outer
                value = data[i]
                sums[feature, 3] += 1.0
                if is_weighted:
                    w = weights[row]
                    sums[feature, 0] += w
                    sums[feature, 1] += w if value == value else 0.0
                elif value != value:
                    sums[feature, 1] -= 1.0
                if value == value:
                    sums[feature, 2] += w * value
                    sums[feature, 4] = value
        if not is_weighted:  # numbers of values are their weights
            for feature in range(sums.shape[0]):
                sums[feature, 0] = sums[feature, 3]
                sums[feature, 1] += sums[feature, 3]


cdef add_deviations(
    const Real[::1] data, const Index[::1] indices, const Index[::1] indptr, X, weight,
    const double[::1] shift, double[:, ::1] sums
):
    cdef bint by_column = X.format == "csc"
    cdef const double[::1] weights = vector_or_none(weight)
    cdef bint is_weighted = weights is not None
    cdef Py_ssize_t outer, i, row, feature
    cdef double value, deviation, w = 1.0
    with nogil:
        for outer in range(indptr.shape[0] - 1):
            for i in range(indptr[outer], indptr[outer + 1]):
                row, feature = outer, indices[i]
                if by_column:
                    row, feature = indices[i], outer
                value = data[i]
                if value == value:
                    if is_weighted:
                        w = weights[row]
                    deviation = value - shift[feature]
                    sums[feature, 0] += w * deviation
                    sums[feature, 1] += w * deviation * deviation


cdef vector_or_none(values):
    return None if values is None else np.ascontiguousarray(values, np.float64)
