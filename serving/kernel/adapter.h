/* One token's adapter at one site. With x the site's input and W its weight:

       y = gain * (W (input_gain * x)) + bias of the base + (x a) b + bias

   `a` of all parts (sibling linears) lies side by side; the layout is that of serving/adapter.py's Delta. */
#ifndef ADAPTER_H
#define ADAPTER_H

#include "pair.h"

#define MAX_PARTS 4

typedef struct {
    const Number *a; /* (in_features, total_rank) */
    int64_t in_features, total_rank, num_parts;
    const Number *b[MAX_PARTS]; /* (rank, out_features) */
    int64_t rank[MAX_PARTS], offset[MAX_PARTS], out_features[MAX_PARTS], column[MAX_PARTS];
    const float *gain, *bias; /* (sum of the site's out_features,), or null */
    const float *input_gain;  /* (in_features,), or null */
} Delta;

#ifndef NATIVE_BF16

/* sum[j] += left[i] * right[i][j] for `lanes` times 16 columns, kept in registers, even and odd rows apart */
static inline __attribute__((always_inline)) void stripe(const int lanes, const float *left, int64_t rows,
                                                         const Number *right, int64_t stride, float *sum) {
    Lanes even[4], odd[4];
#pragma GCC unroll 4
    for (int lane = 0; lane < lanes; lane++) even[lane] = load_floats(sum + lane * WIDTH), odd[lane] = (Lanes){};
    int64_t i = 0;
    for (; i + 2 <= rows; i += 2)
#pragma GCC unroll 4
        for (int lane = 0; lane < lanes; lane++) {
            even[lane] += left[i] * load(right + i * stride + lane * WIDTH);
            odd[lane] += left[i + 1] * load(right + (i + 1) * stride + lane * WIDTH);
        }
    if (i < rows)
#pragma GCC unroll 4
        for (int lane = 0; lane < lanes; lane++) even[lane] += left[i] * load(right + i * stride + lane * WIDTH);
#pragma GCC unroll 4
    for (int lane = 0; lane < lanes; lane++) store_floats(sum + lane * WIDTH, even[lane] + odd[lane]);
}

/* sum += left @ right, for right: (rows, width) with rows `stride` apart */
static void accumulate(const float *left, int64_t rows, const Number *right, int64_t stride, int64_t width,
                       float *sum) {
    int64_t j = 0;
    for (; j + 4 * WIDTH <= width; j += 4 * WIDTH) stripe(4, left, rows, right + j, stride, sum + j);
    switch ((width - j) / WIDTH) {
    case 3: stripe(3, left, rows, right + j, stride, sum + j); break;
    case 2: stripe(2, left, rows, right + j, stride, sum + j); break;
    case 1: stripe(1, left, rows, right + j, stride, sum + j); break;
    }
    j += (width - j) / WIDTH * WIDTH;
    for (; j < width; j++)
        for (int64_t i = 0; i < rows; i++) sum[j] += left[i] * widen(right[i * stride + j]);
}

#endif

/* x: (in_features,) -> bottleneck: (total_rank,) */
static void descend(const Delta *delta, const Number *x, float *bottleneck) {
    const int64_t in = delta->in_features, rank = delta->total_rank;
    for (int64_t i = 0; i < rank; i++) bottleneck[i] = 0;
#ifdef NATIVE_BF16
    accumulate_pairs(1, x, 0, in, delta->a, rank, rank, bottleneck);
#else
    float input[in];
    for (int64_t i = 0; i < in; i++) input[i] = widen(x[i]);
    accumulate(input, in, delta->a, rank, rank, bottleneck);
#endif
}

/* one part's share of `ascend`; a bottleneck in float is as good as two bfloat16, its rounding and what that left out */
static void climb(const float *bottleneck, int64_t rank, const Number *b, int64_t outs, float *y) {
#ifdef NATIVE_BF16
    Number halves[2 * rank];
    for (int64_t i = 0; i < rank; i++) {
        halves[i] = narrow(bottleneck[i]);
        halves[rank + i] = narrow(bottleneck[i] - widen(halves[i]));
    }
    accumulate_pairs(2, halves, rank, rank, b, outs, outs, y);
#else
    accumulate(bottleneck, rank, b, outs, outs, y);
#endif
}

/* y: (sum of the site's out_features,) += what the adapter makes of its bottleneck */
static void ascend(const Delta *delta, const float *bottleneck, float *y) {
    for (int64_t part = 0; part < delta->num_parts; part++) {
        const int64_t outs = delta->out_features[part];
        climb(bottleneck + delta->offset[part], delta->rank[part], delta->b[part], outs, y + delta->column[part]);
    }
}

#endif
