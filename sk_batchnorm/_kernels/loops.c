/* The hot loops in C.
 *
 * All loops go along *long rows*. A row is a sample of some features: as it lies in
 * memory, in C order; or a single value, where a feature is contiguous, as in Fortran
 * order. Where rows are short, several of them, laid end to end, are seen as one long
 * row, so that the inner loops are worth vectorising. A value of a long row is a
 * *lane*, with sums of its own, which are added up at the end. So the compiler has no
 * reason to reassociate a sum, and no bit depends on the width of its vectors.
 *
 * loops_of_type.h has what depends on the type of the values.
 */

#include "loops.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Nor does a bit depend on whether a processor has fused multiply-adds, which round
 * once in place of twice: none are used. setup.py has a flag that says so to GCC. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#endif

/* GCC compiles these functions several times, and the C library takes the widest
 * vectors that the processor has, when the module is loaded. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && \
    defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__)
#define FOR_EACH_PROCESSOR \
    __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FOR_EACH_PROCESSOR
#endif

/* What is written is not read again, but where it is X itself: value by value. */
#if defined(__clang__)
#define NO_OVERLAP _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define NO_OVERLAP _Pragma("GCC ivdep")
#elif defined(_MSC_VER)
#define NO_OVERLAP __pragma(loop(ivdep))
#else
#define NO_OVERLAP
#endif

#if defined(_MSC_VER)
#define restrict __restrict
#endif

/* Lanes of a long row, about. Its sums and shifts fit the L1 cache. */
#define LONG_ROW 1024

/* The same of a row that is written, whose map has three vectors. */
#define LONG_WRITTEN 256

/* Values of a row from which it is faster to take its weight once than for each. */
#define LONG_WEIGHTED 8

/* Lanes at most; the columns of wider arrays are tiled. */
#define WIDEST 2048

/* Values after which sums are looked at. If they are no good, the values are read
 * again, from the L2 cache. */
#define BLOCK_VALUES 32768

/* Rows after which they are looked at where rows are long, as that takes as long as some
 * rows do. */
#define BLOCK_ROWS 64

/* Rows whose mean is a first guess of the mean of a stretch. */
#define GUESS_ROWS 4

/* Samples that make it worth having a lane for each time point of theirs. */
#define MANY_SAMPLES 4

/* Time points of a feature that are worth a loop of their own: where there are few
 * samples, or only a map is to be applied, and where there are many. */
#define SHORT_SERIES 64
#define LONG_SERIES 512

/* Values between two vectors of sums, so that they do not begin 4096 bytes apart, or a
 * multiple: a processor takes a store to one for a store to the other. */
#define APART 40

/* The part of the squares of deviations from a shift that may be due to its distance
 * from the mean: 3 standard deviations, which costs 1 of 16 digits. */
#define FAR 0.9

typedef ptrdiff_t Size;

/* How the features lie in a long row: each n_times times, and all of that, which is a
 * row, `together` times. */
typedef struct {
    Size n_features, n_times, together;
} Lanes;

/* Work space, vectors of one long row each. */
typedef struct {
    double *shift; /* a value near the mean of each feature */
    /* Of a block: observed weight, sum of deviations from the shift, and sum of
     * their squares. */
    double *counts, *sums, *squares;
    /* The same of all blocks since the shift was last changed. */
    double *all_counts, *all_sums, *all_squares;
    double *weight; /* of each value of a long row */
} Sums;

/* All vectors are in one piece of memory, which is freed by its first. */
static int allocate(Sums *s, Size width)
{
    double *work = malloc(8 * (size_t)(width + APART) * sizeof(double));
    double **vectors[] = {&s->shift,      &s->counts,   &s->sums,        &s->squares,
                          &s->all_counts, &s->all_sums, &s->all_squares, &s->weight};
    if (work == NULL) return 0;
    for (Size i = 0; i < 8; i++) *vectors[i] = work + i * (width + APART);
    return 1;
}

static Size row_width(const Lanes *lanes) { return lanes->n_features * lanes->n_times; }

static Size n_lanes(const Lanes *lanes) { return row_width(lanes) * lanes->together; }

static Size smaller(Size a, Size b) { return a < b ? a : b; }

static Size larger(Size a, Size b) { return a > b ? a : b; }

/* Two dimensions in Fortran order are one sample of as many time points. */
static Shape as_series(const Shape *shape)
{
    if (shape->n_times > 1 || shape->feature_stride == 1) return *shape;
    Shape series = {1, shape->n_features,     shape->n_samples,
                    0, shape->feature_stride, shape->is_float32};
    return series;
}

/* Rows to see as one, a power of 2. Of the n_rows, `at_once` lie end to end. */
static Size rows_together(Size n_rows, Size at_once, Size width)
{
    Size together = 1;
    while (together * width < LONG_ROW && together * 32 <= n_rows &&
           together * 8 <= at_once)
        together *= 2;
    return together;
}

/* Give each lane the value of its feature. */
static void to_lanes(double *vector, const Lanes *lanes)
{
    Size n_times = lanes->n_times, width = row_width(lanes);
    if (n_times > 1)
        for (Size f = lanes->n_features - 1; f >= 0; f--) {
            double value = vector[f];
            for (Size t = 0; t < n_times; t++) vector[f * n_times + t] = value;
        }
    for (Size filled = width; filled < n_lanes(lanes); filled *= 2)
        memcpy(vector + filled, vector, filled * sizeof(double));
}

/* Undo to_lanes, by adding. */
static void from_lanes(double *vector, const Lanes *lanes)
{
    Size n_times = lanes->n_times, width = row_width(lanes);
    for (Size half = n_lanes(lanes) / 2; half >= width; half /= 2)
        for (Size j = 0; j < half; j++) vector[j] += vector[half + j];
    if (n_times > 1)
        for (Size f = 0; f < lanes->n_features; f++) {
            double *times = vector + f * n_times;
            for (Size n = n_times; n > 1; n -= n / 2)
                for (Size t = 0; t < n / 2; t++) times[t] += times[n - n / 2 + t];
            vector[f] = times[0];
        }
}

static void set_zero(double *vector, Size n) { memset(vector, 0, n * sizeof(double)); }

static void forget(Sums *s, Size n_features)
{
    set_zero(s->all_counts, n_features);
    set_zero(s->all_sums, n_features);
    set_zero(s->all_squares, n_features);
}

static void add_to(double *restrict all, const double *restrict some, Size n)
{
    for (Size j = 0; j < n; j++) all[j] += some[j];
}

static void remember(Sums *s, Size n_features)
{
    add_to(s->all_counts, s->counts, n_features);
    add_to(s->all_sums, s->sums, n_features);
    add_to(s->all_squares, s->squares, n_features);
}

/* Whether all sums are finite, and whether the shifts are near the means. */
FOR_EACH_PROCESSOR static void
judge(const Sums *s, Size n_features, int *finite, int *near)
{
    int infinite = 0, far = 0;
    for (Size j = 0; j < n_features; j++) {
        double sum = s->all_sums[j] + s->sums[j];
        double square = s->all_squares[j] + s->squares[j];
        double count = s->all_counts[j] + s->counts[j];
        int is_finite = fabs(sum) <= DBL_MAX;
        /* Of all squares, those that are due to the distance from the mean. */
        double due = sum * (sum / (count > DBL_MIN ? count : DBL_MIN));
        infinite |= !is_finite;
        far |= is_finite & ((square > DBL_MAX) | (due > FAR * square));
    }
    *finite = !infinite;
    *near = !far;
}

/* Merge the sums of all blocks into what was found with other shifts.
 *
 * Chan, Golub and LeVeque (1983), eq. 1.5, on means of two doubles. */
static void merge(const Sums *s, const Lanes *lanes, double *out, Size stride)
{
    double *counts = out, *shifts = out + stride;
    double *residuals = out + 2 * stride, *all_squares = out + 3 * stride;
    for (Size j = 0; j < lanes->n_features; j++) {
        double count = s->all_counts[j], before = counts[j];
        if (!(count > 0.0)) continue;
        double shift = s->shift[j * lanes->n_times]; /* which has its lanes already */
        double residual = s->all_sums[j] / count;
        double squares = s->all_squares[j] - s->all_sums[j] * residual;
        if (squares < 0.0) squares = 0.0;
        if (squares != squares) squares = INFINITY; /* overflow in both */
        if (before == 0.0) {
            shifts[j] = shift;
            residuals[j] = residual;
        } else {
            double delta = (shift - shifts[j]) + (residual - residuals[j]);
            double step = count / (before + count) * delta;
            residuals[j] += step;
            squares += before * delta * step;
        }
        counts[j] += count;
        all_squares[j] += squares;
    }
}

/* `value` where `x` is not NaN, else 0: by bits, as GCC makes four ways through a loop
 * of two such conditions, and takes all of them, one after the other. */
static inline double if_there(double x, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= 0 - (uint64_t)(x == x);
    memcpy(&value, &bits, sizeof bits);
    return value;
}

#define REAL float
#define BITS uint32_t
#define INFINITE_BITS 0x7f800000u
#define OF_TYPE(name) name##_float32
#include "loops_of_type.h"

#define REAL double
#define BITS uint64_t
#define INFINITE_BITS 0x7ff0000000000000u
#define OF_TYPE(name) name##_float64
#include "loops_of_type.h"

int moments(const void *x, const Shape *shape, const int64_t *bounds, Size n_stretches,
            const double *weight, double *out)
{
    return shape->is_float32
               ? moments_float32(x, shape, bounds, n_stretches, weight, out)
               : moments_float64(x, shape, bounds, n_stretches, weight, out);
}

int centre_and_scale(const void *x, const Shape *shape, const AffineMap *by, void *out,
                     const Shape *out_shape)
{
    return shape->is_float32 ? centre_and_scale_float32(x, shape, by, out, out_shape)
                             : centre_and_scale_float64(x, shape, by, out, out_shape);
}

int any_infinite(const void *x, const Shape *shape)
{
    return shape->is_float32 ? any_float32(has_infinite_float32, x, shape)
                             : any_float64(has_infinite_float64, x, shape);
}

int any_missing(const void *x, const Shape *shape)
{
    return shape->is_float32 ? any_float32(has_missing_float32, x, shape)
                             : any_float64(has_missing_float64, x, shape);
}

void fade(double *x, Size n_rows, Size n_features, const double *weight,
          const double *decay, const double *factor, int64_t *n_observed,
          double *value_weight)
{
    for (Size i = n_rows - 1; i >= 0; i--) {
        double *row = x + i * n_features, *weights = value_weight + i * n_features;
        double row_weight = weight == NULL ? 1.0 : weight[i];
        for (Size j = 0; j < n_features; j++) {
            if (row_weight == 0.0) row[j] = NAN;
            int is_there = row[j] == row[j];
            weights[j] =
                is_there ? decay[n_observed[j]] * factor[j] * row_weight : 0.0;
            n_observed[j] += is_there;
        }
    }
}

int moments_by_value(const double *x, Size n_rows, Size n_features,
                     const double *value_weight, double *out)
{
    Sums s;
    if (!allocate(&s, 2 * LONG_ROW)) return NO_MEMORY;
    int flags = 0;
    for (Size first = 0, n; first < n_features; first += n) {
        n = smaller(n_features - first, WIDEST / 2);
        Lanes lanes = {n, 1, 1};
        if (n == n_features) lanes.together = rows_together(n_rows, n_rows, n);
        Rows_float64 rows = {x + first, 1, 0, n_rows, n_features, value_weight + first,
                             0, n_features, 1};
        flags |= moments_of_rows_float64(&rows, &lanes, &s, out + first, n_features);
    }
    free(s.shift);
    return flags;
}
