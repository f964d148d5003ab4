/* The hot loops in C, for float32 and float64; loops.c says how they work. */

#ifndef SK_BATCHNORM_LOOPS_H
#define SK_BATCHNORM_LOOPS_H

#include <stddef.h>
#include <stdint.h>

/* What the moments have met, bits of what they return. */
enum {
    MISSING = 1,    /* NaN in a row of positive weight */
    NOT_FINITE = 2, /* infinity, or an overflow of a sum */
};

/* What all loops return if there is no memory for their sums. */
enum { NO_MEMORY = -1 };

/* An array of shape (n_samples, n_features, n_times), and the distance in values
 * from a sample, and from a feature, to the next. The time points of a feature lie
 * side by side. In two dimensions n_times is 1, and one of the strides is. The values
 * are floats or doubles. */
typedef struct {
    ptrdiff_t n_samples, n_features, n_times;
    ptrdiff_t sample_stride, feature_stride;
    int is_float32;
} Shape;

/* (x - centre) * scale + offset, of a vector each; NULL stands for 0. Before the offset
 * is added, a product that is NaN becomes `fill`, and all are limited to [-limit,
 * limit]; NULL for either changes nothing. */
typedef struct {
    const double *centre, *scale, *offset, *limit, *fill;
} AffineMap;

/* Moments of consecutive stretches of samples, from bounds[k] up to bounds[k + 1].
 * The weights are those of all samples, or NULL. Written to `out`, of shape
 * (n_stretches, 4, n_features): count, shift, residual and squares. */
int moments(const void *x, const Shape *shape, const int64_t *bounds,
            ptrdiff_t n_stretches, const double *weight, double *out);

/* Weights of values that fade by their age, the number of observed values of their
 * feature that come after them: decay[age], times the factor of the feature, times the
 * weight of the row. n_observed, which is 0 at first, counts them. In x, what weighs
 * nothing becomes NaN. Both are C-contiguous. */
void fade(double *x, ptrdiff_t n_rows, ptrdiff_t n_features, const double *weight,
          const double *decay, const double *factor, int64_t *n_observed,
          double *value_weight);

/* Moments of all rows of a C-contiguous array of which each value has a weight. */
int moments_by_value(const double *x, ptrdiff_t n_rows, ptrdiff_t n_features,
                     const double *value_weight, double *out);

/* Write the affine map of x into `out`, which may be x, rounded once. Returns whether
 * x contains infinity. */
int centre_and_scale(const void *x, const Shape *shape, const AffineMap *by, void *out,
                     const Shape *out_shape);

/* Whether x contains infinity, and whether NaN. */
int any_infinite(const void *x, const Shape *shape);
int any_missing(const void *x, const Shape *shape);

#endif
