/* What depends on the type of the values. loops.c includes it once for each REAL. */

/* Rows of a block. Where a feature is contiguous, a row is a single value, and those
 * of each sample are a segment; else there is one segment. */
#define Rows OF_TYPE(Rows)
typedef struct {
    const REAL *x;
    Size n_segments, segment_stride, n_rows, row_stride;
    const double *weight;                /* of the first row, or NULL */
    Size segment_weight, row_weight;     /* to the next segment's and the next row's */
    int by_value;                        /* whether each value has a weight */
} Rows;

/* Add rows without missing values to the sums. */
FOR_EACH_PROCESSOR static void
OF_TYPE(add)(const REAL *restrict x, Size n_rows, Size stride, Size width,
             const double *restrict shift, double *restrict sums,
             double *restrict squares)
{
    Size i = 0;
    /* Four rows at a time, as each time the sums are read and written. */
    for (; i + 4 <= n_rows; i += 4) {
        const REAL *row_a = x + i * stride, *row_b = row_a + stride;
        const REAL *row_c = row_b + stride, *row_d = row_c + stride;
        for (Size j = 0; j < width; j++) {
            double a = row_a[j] - shift[j], b = row_b[j] - shift[j];
            double c = row_c[j] - shift[j], d = row_d[j] - shift[j];
            sums[j] += (a + b) + (c + d);
            squares[j] += (a * a + b * b) + (c * c + d * d);
        }
    }
    for (; i < n_rows; i++) {
        const REAL *row = x + i * stride;
        for (Size j = 0; j < width; j++) {
            double a = row[j] - shift[j];
            sums[j] += a;
            squares[j] += a * a;
        }
    }
}

/* Add rows, of which NaN is left out, to the sums. The deviation of NaN is NaN, and of
 * nothing else, as shifts are finite. All is in double, as compilers don't vectorise
 * what depends on comparisons of another width. */
FOR_EACH_PROCESSOR static void
OF_TYPE(add_observed)(const REAL *restrict x, Size n_rows, Size stride, Size width,
                      const double *restrict shift, double *restrict counts,
                      double *restrict sums, double *restrict squares)
{
    Size i = 0;
    for (; i + 4 <= n_rows; i += 4) {
        const REAL *row_a = x + i * stride, *row_b = row_a + stride;
        const REAL *row_c = row_b + stride, *row_d = row_c + stride;
        for (Size j = 0; j < width; j++) {
            double a = row_a[j] - shift[j], b = row_b[j] - shift[j];
            double c = row_c[j] - shift[j], d = row_d[j] - shift[j];
            counts[j] += (if_there(a, 1.0) + if_there(b, 1.0)) +
                         (if_there(c, 1.0) + if_there(d, 1.0));
            a = if_there(a, a), b = if_there(b, b);
            c = if_there(c, c), d = if_there(d, d);
            sums[j] += (a + b) + (c + d);
            squares[j] += (a * a + b * b) + (c * c + d * d);
        }
    }
    for (; i < n_rows; i++) {
        const REAL *row = x + i * stride;
        for (Size j = 0; j < width; j++) {
            double a = row[j] - shift[j];
            counts[j] += if_there(a, 1.0);
            a = if_there(a, a);
            sums[j] += a;
            squares[j] += a * a;
        }
    }
}

/* Add a row whose values are weighted; NaN, and what weighs 0, is left out. */
FOR_EACH_PROCESSOR static void
OF_TYPE(add_weighted_row)(const REAL *restrict row, Size width,
                          const double *restrict weight, const double *restrict shift,
                          double *restrict counts, double *restrict sums,
                          double *restrict squares)
{
    for (Size j = 0; j < width; j++) {
        double a = row[j] - shift[j], w = if_there(a, weight[j]);
        a = w > 0.0 ? a : 0.0;
        counts[j] += w;
        sums[j] += w * a;
        squares[j] += w * a * a;
    }
}

/* Add rows that have one weight each; NaN, and rows of weight 0, are left out. */
FOR_EACH_PROCESSOR static void
OF_TYPE(add_weighted_rows)(const REAL *restrict x, Size n_rows, Size stride, Size width,
                           const double *restrict weight, Size row_weight,
                           const double *restrict shift, double *restrict counts,
                           double *restrict sums, double *restrict squares)
{
    for (Size i = 0; i < n_rows;) {
        /* The next four that weigh anything; what is in the others may be anything. */
        const REAL *rows[4] = {x, x, x, x};
        double w[4] = {0.0, 0.0, 0.0, 0.0};
        int n = 0;
        for (; n < 4 && i < n_rows; i++)
            if (weight[i * row_weight] != 0.0) {
                rows[n] = x + i * stride;
                w[n++] = weight[i * row_weight];
            }
        if (n == 0) return;
        for (int k = n; k < 4; k++) rows[k] = rows[0]; /* with a weight of 0 */
        const REAL *row_a = rows[0], *row_b = rows[1];
        const REAL *row_c = rows[2], *row_d = rows[3];
        double w_a = w[0], w_b = w[1], w_c = w[2], w_d = w[3];
        for (Size j = 0; j < width; j++) {
            double a = row_a[j] - shift[j], b = row_b[j] - shift[j];
            double c = row_c[j] - shift[j], d = row_d[j] - shift[j];
            counts[j] += (if_there(a, w_a) + if_there(b, w_b)) +
                         (if_there(c, w_c) + if_there(d, w_d));
            a = if_there(a, a), b = if_there(b, b);
            c = if_there(c, c), d = if_there(d, d);
            sums[j] += (w_a * a + w_b * b) + (w_c * c + w_d * d);
            squares[j] += (w_a * a * a + w_b * b * b) + (w_c * c * c + w_d * d * d);
        }
    }
}

/* Add n_rows long rows, `width` lanes of which are there, to the sums. */
static void OF_TYPE(add_weighted)(const REAL *x, Size n_rows, Size stride, Size width,
                                  const double *weight, Size row_weight,
                                  int by_value, const Lanes *lanes, Sums *s)
{
    if (by_value) { /* in the order of the values */
        for (Size i = 0; i < n_rows; i++)
            OF_TYPE(add_weighted_row)(x + i * stride, width, weight + i * stride,
                                      s->shift, s->counts, s->sums, s->squares);
        return;
    }
    Size one_row = row_width(lanes), together = width / one_row;
    if (lanes->together == 1 || row_weight == 0) {
        OF_TYPE(add_weighted_rows)(x, n_rows, stride, width, weight, row_weight,
                                   s->shift, s->counts, s->sums, s->squares);
        return;
    }
    for (Size i = 0; i < n_rows; i++) {
        const double *lane_weight = weight + i * together;
        if (one_row > 1) {
            for (Size k = 0; k < together; k++)
                for (Size j = 0; j < one_row; j++)
                    s->weight[k * one_row + j] = lane_weight[k];
            lane_weight = s->weight;
        }
        OF_TYPE(add_weighted_row)(x + i * stride, width, lane_weight, s->shift,
                                  s->counts, s->sums, s->squares);
    }
}

/* Count, sums and squares of a block. */
static void OF_TYPE(sum)(const Rows *rows, const Lanes *lanes, int missing, Sums *s)
{
    Size together = lanes->together, width = row_width(lanes), all = n_lanes(lanes);
    Size n_long = rows->n_rows / together;
    Size rest = width * (rows->n_rows - n_long * together);
    Size stride = together > 1 ? all : rows->row_stride;
    int counted = rows->weight != NULL || missing;
    set_zero(s->sums, all);
    set_zero(s->squares, all);
    if (counted) set_zero(s->counts, all);
    for (Size k = 0; k < rows->n_segments; k++) {
        const REAL *x = rows->x + k * rows->segment_stride, *end = x + n_long * all;
        if (rows->weight != NULL) {
            const double *weight = rows->weight + k * rows->segment_weight;
            const double *last = weight + n_long * together * rows->row_weight;
            OF_TYPE(add_weighted)(x, n_long, stride, all, weight, rows->row_weight,
                                  rows->by_value, lanes, s);
            if (rest)
                OF_TYPE(add_weighted)(end, 1, stride, rest, last, rows->row_weight,
                                      rows->by_value, lanes, s);
        } else if (missing) {
            OF_TYPE(add_observed)(x, n_long, stride, all, s->shift, s->counts, s->sums,
                                  s->squares);
            if (rest)
                OF_TYPE(add_observed)(end, 1, stride, rest, s->shift, s->counts,
                                      s->sums, s->squares);
        } else {
            OF_TYPE(add)(x, n_long, stride, all, s->shift, s->sums, s->squares);
            if (rest) OF_TYPE(add)(end, 1, stride, rest, s->shift, s->sums, s->squares);
        }
    }
    if (counted) {
        from_lanes(s->counts, lanes);
    } else {
        double count = (double)(rows->n_segments * rows->n_rows * lanes->n_times);
        for (Size j = 0; j < lanes->n_features; j++) s->counts[j] = count;
    }
    from_lanes(s->sums, lanes);
    from_lanes(s->squares, lanes);
}

/* Set the shift to the mean of some rows, of n_times time points each; return MISSING
 * or 0. */
static int OF_TYPE(find_shift)(const Rows *rows, const Lanes *lanes, Size n_times,
                               Sums *s)
{
    Size n_features = lanes->n_features;
    double *counts = s->counts, *sums = s->sums, *first = s->squares;
    Size n_values = rows->n_segments * rows->n_rows * n_times;
    int missing = 0;
    set_zero(counts, n_features);
    set_zero(sums, n_features);
    set_zero(first, n_features);
    /* Backwards, so that the first value is met last. */
    for (Size k = rows->n_segments - 1; k >= 0; k--)
        for (Size i = rows->n_rows - 1; i >= 0; i--) {
            const REAL *row =
                rows->x + k * rows->segment_stride + i * rows->row_stride;
            const double *weight = rows->weight == NULL
                                       ? NULL
                                       : rows->weight + k * rows->segment_weight +
                                             i * rows->row_weight;
            if (weight != NULL && !rows->by_value && weight[0] == 0.0) continue;
            for (Size t = n_times - 1; t >= 0; t--)
                for (Size j = 0; j < n_features; j++) {
                    double value = row[j * lanes->n_times + t];
                    double w = weight == NULL ? 1.0 : weight[rows->by_value ? j : 0];
                    int is_there = value == value;
                    counts[j] += is_there ? w : 0.0;
                    sums[j] += is_there ? w * value : 0.0;
                    first[j] = is_there ? value : first[j];
                    missing |= !is_there;
                }
        }
    for (Size j = 0; j < n_features; j++) {
        double mean = sums[j] / (counts[j] > 0.0 ? counts[j] : 1.0);
        /* One of the values themselves, where it is within rounding of the mean,
         * makes all deviations of a constant feature exactly 0. */
        double rounding = 2.0 * (double)n_values * DBL_EPSILON * fabs(first[j]);
        mean = fabs(first[j] - mean) <= rounding ? first[j] : mean;
        /* A finite one, from which only NaN deviates by NaN. */
        s->shift[j] = fabs(mean) <= DBL_MAX ? mean : 0.0;
    }
    to_lanes(s->shift, lanes);
    return missing ? MISSING : 0;
}

/* Add a block to the sums, with a shift near its mean. */
static int OF_TYPE(add_block)(const Rows *block, const Lanes *lanes, int flags, Sums *s,
                              double *out, Size out_stride)
{
    Size n_features = lanes->n_features;
    int finite, near;
    OF_TYPE(sum)(block, lanes, flags, s);
    judge(s, n_features, &finite, &near);
    if (!finite && flags == 0) {
        flags = MISSING;
        OF_TYPE(sum)(block, lanes, flags, s);
        judge(s, n_features, &finite, &near);
    }
    if (!finite) flags |= NOT_FINITE;
    if (!near) {
        merge(s, lanes, out, out_stride);
        forget(s, n_features);
        flags |= OF_TYPE(find_shift)(block, lanes, lanes->n_times, s);
        OF_TYPE(sum)(block, lanes, flags, s);
    }
    remember(s, n_features);
    return flags;
}

/* Moments of rows, from the deviations from a value near the mean. */
static int OF_TYPE(moments_of_rows)(const Rows *rows, const Lanes *lanes, Sums *s,
                                    double *out, Size out_stride)
{
    Size n_features = lanes->n_features, together = lanes->together;
    for (Size i = 0; i < 4; i++) set_zero(out + i * out_stride, n_features);
    if (rows->n_rows == 0 || rows->n_segments == 0) return 0;

    Rows some = *rows;
    some.n_rows = smaller(rows->n_rows, GUESS_ROWS);
    some.n_segments = smaller(rows->n_segments, 1);
    Size guess_times = smaller(lanes->n_times, GUESS_ROWS);
    int flags = OF_TYPE(find_shift)(&some, lanes, guess_times, s);
    forget(s, n_features);

    Size at_once =
        larger(BLOCK_VALUES / row_width(lanes), BLOCK_ROWS) / together * together;
    Size segments_at_once = larger(at_once / rows->n_rows, 1);
    for (Size k = 0; k < rows->n_segments; k += segments_at_once)
        for (Size i = 0; i < rows->n_rows; i += at_once) {
            Rows block = *rows;
            block.x += k * rows->segment_stride + i * rows->row_stride;
            block.n_segments = smaller(segments_at_once, rows->n_segments - k);
            block.n_rows = smaller(at_once, rows->n_rows - i);
            if (rows->weight != NULL)
                block.weight += k * rows->segment_weight + i * rows->row_weight;
            flags |= OF_TYPE(add_block)(&block, lanes, flags, s, out, out_stride);
        }
    merge(s, lanes, out, out_stride);
    return flags;
}

/* Moments of a stretch of some features, with a lane for each value of a sample. */
static int OF_TYPE(moments_by_sample)(const REAL *x, const Shape *shape, Size n_samples,
                                      Size n_features, const double *weight, Sums *s,
                                      double *out)
{
    Size width = n_features * shape->n_times;
    Lanes lanes = {n_features, shape->n_times, 1};
    int is_long = weight != NULL && width >= LONG_WEIGHTED;
    if (shape->sample_stride == width && !is_long) /* else they don't lie end to end */
        lanes.together = rows_together(n_samples, n_samples, width);
    Rows rows = {x, 1, 0, n_samples, shape->sample_stride, weight, 0, 1, 0};
    return OF_TYPE(moments_of_rows)(&rows, &lanes, s, out, shape->n_features);
}

/* Moments of a stretch of one feature, whose values lie side by side: all of them if
 * there are no time points, else those of a sample. */
static int OF_TYPE(moments_of_feature)(const REAL *x, const Shape *shape,
                                       Size n_samples, const double *weight, Sums *s,
                                       double *out)
{
    Lanes lanes = {1, 1, 1};
    Rows rows = {x, 1, 0, n_samples, 1, weight, 0, 1, 0};
    if (shape->n_times > 1) {
        rows.n_segments = n_samples;
        rows.segment_stride = shape->sample_stride;
        rows.n_rows = shape->n_times;
        rows.segment_weight = 1;
        rows.row_weight = 0;
    }
    lanes.together = rows_together(n_samples * shape->n_times, rows.n_rows, 1);
    return OF_TYPE(moments_of_rows)(&rows, &lanes, s, out, shape->n_features);
}

static int OF_TYPE(moments)(const REAL *x, const Shape *shape, const int64_t *bounds,
                            Size n_stretches, const double *weight, double *out)
{
    Size n_times = shape->n_times, n_features = shape->n_features;
    int by_sample = shape->feature_stride == n_times;
    Size tile = n_times > WIDEST ? 1 : smaller(n_features, WIDEST / n_times);
    Sums s;
    int flags = 0;
    if (!allocate(&s, larger(tile * smaller(n_times, WIDEST), 2 * LONG_ROW)))
        return NO_MEMORY;
    for (Size first = 0; first < n_features; first += tile)
        for (Size k = 0; k < n_stretches; k++) {
            Size start = (Size)bounds[k], n_samples = (Size)bounds[k + 1] - start;
            Size n_some = smaller(tile, n_features - first);
            const REAL *there =
                x + start * shape->sample_stride + first * shape->feature_stride;
            const double *of_rows = weight == NULL ? NULL : weight + start;
            double *result = out + 4 * k * n_features + first;
            /* By the length of this stretch, lest others make a difference to it. */
            if (by_sample &&
                (n_times < SHORT_SERIES ||
                 (n_times < LONG_SERIES && n_samples >= MANY_SAMPLES))) {
                flags |= OF_TYPE(moments_by_sample)(there, shape, n_samples, n_some,
                                                    of_rows, &s, result);
                continue;
            }
            for (Size j = 0; j < n_some; j++)
                flags |= OF_TYPE(moments_of_feature)(there + j * shape->feature_stride,
                                                     shape, n_samples, of_rows, &s,
                                                     result + j);
        }
    free(s.shift);
    return flags;
}

/* Whether a value is infinity, as 0 or 1 of its own width, which vectorises. */
static inline BITS OF_TYPE(is_infinite)(REAL value)
{
    BITS bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & (BITS)~((BITS)1 << (8 * sizeof bits - 1))) == INFINITE_BITS;
}

/* One long row, of a map that has a lane for each value. */
FOR_EACH_PROCESSOR static int
OF_TYPE(write_row)(const REAL *x, Size width, const double *restrict centre,
                   const double *restrict scale, const double *restrict offset,
                   REAL *out)
{
    BITS infinite = 0;
    NO_OVERLAP
    for (Size j = 0; j < width; j++) {
        REAL value = x[j];
        infinite |= OF_TYPE(is_infinite)(value);
        out[j] = (REAL)(((double)value - centre[j]) * scale[j] + offset[j]);
    }
    return infinite != 0;
}

/* The same of products that are filled and limited. NaN is neither above nor below a
 * limit, and stays. */
FOR_EACH_PROCESSOR static int
OF_TYPE(write_limited_row)(const REAL *x, Size width, const double *restrict centre,
                           const double *restrict scale, const double *restrict offset,
                           const double *restrict limit, const double *restrict fill,
                           REAL *out)
{
    BITS infinite = 0;
    NO_OVERLAP
    for (Size j = 0; j < width; j++) {
        REAL value = x[j];
        infinite |= OF_TYPE(is_infinite)(value);
        double product = ((double)value - centre[j]) * scale[j];
        product = product == product ? product : fill[j];
        product = product > limit[j] ? limit[j] : product;
        product = product < -limit[j] ? -limit[j] : product;
        out[j] = (REAL)(product + offset[j]);
    }
    return infinite != 0;
}

/* Values of one feature that lie side by side. */
FOR_EACH_PROCESSOR static int
OF_TYPE(write_feature)(const REAL *x, Size n, double centre, double scale,
                       double offset, REAL *out)
{
    BITS infinite = 0;
    NO_OVERLAP
    for (Size j = 0; j < n; j++) {
        REAL value = x[j];
        infinite |= OF_TYPE(is_infinite)(value);
        out[j] = (REAL)(((double)value - centre) * scale + offset);
    }
    return infinite != 0;
}

FOR_EACH_PROCESSOR static int
OF_TYPE(write_limited_feature)(const REAL *x, Size n, double centre, double scale,
                               double offset, double limit, double fill, REAL *out)
{
    BITS infinite = 0;
    NO_OVERLAP
    for (Size j = 0; j < n; j++) {
        REAL value = x[j];
        infinite |= OF_TYPE(is_infinite)(value);
        double product = ((double)value - centre) * scale;
        product = product == product ? product : fill;
        product = product > limit ? limit : product;
        product = product < -limit ? -limit : product;
        out[j] = (REAL)(product + offset);
    }
    return infinite != 0;
}

FOR_EACH_PROCESSOR static int OF_TYPE(has_infinite)(const REAL *x, Size n)
{
    BITS infinite = 0;
    for (Size j = 0; j < n; j++) infinite |= OF_TYPE(is_infinite)(x[j]);
    return infinite != 0;
}

/* A map of some features, of which each value of a long row has a lane. */
static int OF_TYPE(write_by_sample)(const REAL *x, const Shape *shape, Size n_features,
                                    const AffineMap *by, Size first, REAL *out,
                                    const Shape *out_shape, double *work)
{
    Lanes lanes = {n_features, shape->n_times, 1};
    Size width = row_width(&lanes), n_values = shape->n_samples * width;
    Size stride = shape->sample_stride, out_stride = out_shape->sample_stride;
    if (stride == width && out_stride == width)
        while (n_lanes(&lanes) < LONG_WRITTEN && n_lanes(&lanes) < n_values)
            lanes.together *= 2;
    Size all = n_lanes(&lanes);
    int is_limited = by->limit != NULL || by->fill != NULL;
    double *vectors[5];
    for (int k = 0; k < 5; k++) vectors[k] = work + k * all;
    for (Size j = 0; j < n_features; j++) {
        /* What changes nothing, not even the sign of a zero. */
        vectors[0][j] = by->centre == NULL ? 0.0 : by->centre[first + j];
        vectors[1][j] = by->scale[first + j];
        vectors[2][j] = by->offset == NULL ? -0.0 : by->offset[first + j];
        vectors[3][j] = by->limit == NULL ? INFINITY : by->limit[first + j];
        vectors[4][j] = by->fill == NULL ? NAN : by->fill[first + j];
    }
    for (int k = 0; k < (is_limited ? 5 : 3); k++) to_lanes(vectors[k], &lanes);
    /* In steps of rows, or of long rows of several that lie side by side. */
    Size n_steps = shape->n_samples, n_values_each = width;
    if (lanes.together > 1) {
        n_steps = (n_values + all - 1) / all;
        n_values_each = stride = out_stride = all;
    }
    int infinite = 0;
    for (Size i = 0; i < n_steps; i++) {
        Size n = lanes.together > 1 ? smaller(all, n_values - i * all) : n_values_each;
        const REAL *row = x + i * stride;
        REAL *target = out + i * out_stride;
        infinite |= is_limited ? OF_TYPE(write_limited_row)(
                                     row, n, vectors[0], vectors[1], vectors[2],
                                     vectors[3], vectors[4], target)
                               : OF_TYPE(write_row)(row, n, vectors[0], vectors[1],
                                                    vectors[2], target);
    }
    return infinite;
}

static int OF_TYPE(centre_and_scale)(const REAL *x, const Shape *given,
                                     const AffineMap *by, REAL *out,
                                     const Shape *given_out)
{
    Shape series = as_series(given), out_series = as_series(given_out);
    const Shape *shape = &series, *out_shape = &out_series;
    Size n_features = shape->n_features, n_times = shape->n_times;
    int infinite = 0;
    if (n_times >= SHORT_SERIES || shape->feature_stride != n_times ||
        out_shape->feature_stride != n_times) {
        int is_limited = by->limit != NULL || by->fill != NULL;
        for (Size i = 0; i < shape->n_samples; i++)
            for (Size j = 0; j < n_features; j++) {
                const REAL *series_of_x =
                    x + i * shape->sample_stride + j * shape->feature_stride;
                REAL *target =
                    out + i * out_shape->sample_stride + j * out_shape->feature_stride;
                double centre = by->centre == NULL ? 0.0 : by->centre[j];
                double offset = by->offset == NULL ? -0.0 : by->offset[j];
                infinite |= is_limited
                                ? OF_TYPE(write_limited_feature)(
                                      series_of_x, n_times, centre, by->scale[j], offset,
                                      by->limit == NULL ? INFINITY : by->limit[j],
                                      by->fill == NULL ? NAN : by->fill[j], target)
                                : OF_TYPE(write_feature)(series_of_x, n_times, centre,
                                                         by->scale[j], offset, target);
            }
        return infinite;
    }
    Size tile = smaller(n_features, WIDEST / n_times);
    double *work =
        malloc(5 * (size_t)larger(tile * n_times, 2 * LONG_ROW) * sizeof(double));
    if (work == NULL) return NO_MEMORY;
    for (Size first = 0; first < n_features; first += tile)
        infinite |= OF_TYPE(write_by_sample)(
            x + first * n_times, shape, smaller(tile, n_features - first), by, first,
            out + first * n_times, out_shape, work);
    free(work);
    return infinite;
}

FOR_EACH_PROCESSOR static int OF_TYPE(has_missing)(const REAL *x, Size n)
{
    BITS missing = 0;
    for (Size j = 0; j < n; j++) missing |= x[j] != x[j];
    return missing != 0;
}

/* Whether `has` is true of a stretch of values that lie side by side. */
static int OF_TYPE(any)(int (*has)(const REAL *, Size), const REAL *x,
                        const Shape *given)
{
    Shape series = as_series(given), *shape = &series;
    Size n_features = shape->n_features, n_times = shape->n_times;
    int any = 0;
    for (Size i = 0; i < shape->n_samples; i++) {
        const REAL *sample = x + i * shape->sample_stride;
        if (shape->feature_stride == n_times) {
            any |= has(sample, n_features * n_times);
            continue;
        }
        for (Size j = 0; j < n_features; j++)
            any |= has(sample + j * shape->feature_stride, n_times);
    }
    return any;
}

#undef Rows
#undef REAL
#undef BITS
#undef INFINITE_BITS
#undef OF_TYPE
