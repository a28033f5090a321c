/* One row's adapter at one site. With x the site's input, W its weight, and the table's slot of the row:

       y = gain * (W (input_gain * x)) + bias of the base + (x a) b + bias

   `a` of all parts (sibling linears) lies side by side; layouts are those of serving/pack.py. */
#ifndef ADAPTER_H
#define ADAPTER_H

#include "number.h"

#define MAX_PARTS 4

typedef struct {
    const Number *a; /* (slots, in_features, total_rank) */
    int64_t in_features, total_rank, num_parts;
    const Number *b[MAX_PARTS]; /* (slots, rank, out_features) */
    int64_t rank[MAX_PARTS], offset[MAX_PARTS], out_features[MAX_PARTS], column[MAX_PARTS];
    const float *gain, *bias; /* (slots, sum of out_features), or null */
    const float *input_gain;  /* (slots, in_features), or null */
} Table;

/* sum[j] += left[i] * right[i][j] for `lanes` times 16 columns, kept in registers */
static inline __attribute__((always_inline)) void stripe(const int lanes, const float *left, int64_t rows,
                                                         const Number *right, int64_t stride, float *sum) {
    Lanes sums[4];
#pragma GCC unroll 4
    for (int lane = 0; lane < lanes; lane++) sums[lane] = load_floats(sum + lane * WIDTH);
    Lanes more[4] = {};
    int64_t i = 0;
    for (; i + 2 <= rows; i += 2) {
#pragma GCC unroll 4
        for (int lane = 0; lane < lanes; lane++) {
            sums[lane] += left[i] * load(right + i * stride + lane * WIDTH);
            more[lane] += left[i + 1] * load(right + (i + 1) * stride + lane * WIDTH);
        }
    }
    if (i < rows)
#pragma GCC unroll 4
        for (int lane = 0; lane < lanes; lane++) sums[lane] += left[i] * load(right + i * stride + lane * WIDTH);
#pragma GCC unroll 4
    for (int lane = 0; lane < lanes; lane++) sums[lane] += more[lane];
#pragma GCC unroll 4
    for (int lane = 0; lane < lanes; lane++) store_floats(sum + lane * WIDTH, sums[lane]);
}

/* sum += left @ right, for right: (rows, width) with rows `stride` apart */
static void accumulate(const float *left, int64_t rows, const Number *right, int64_t stride, int64_t width, float *sum) {
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

/* x: (in_features,) -> bottleneck: (total_rank,) */
static void descend(const Table *table, int64_t slot, const Number *x, float *bottleneck) {
    const int64_t in = table->in_features, rank = table->total_rank;
    float input[in];
    for (int64_t i = 0; i < in; i++) input[i] = widen(x[i]);
    memset(bottleneck, 0, rank * sizeof *bottleneck);
    accumulate(input, in, table->a + slot * in * rank, rank, rank, bottleneck);
}

/* y: (sum of out_features,) += what the adapter makes of its bottleneck */
static void ascend(const Table *table, int64_t slot, const float *bottleneck, float *y) {
    for (int64_t part = 0; part < table->num_parts; part++) {
        const int64_t rank = table->rank[part], outs = table->out_features[part];
        const Number *b = table->b[part] + slot * rank * outs;
        accumulate(bottleneck + table->offset[part], rank, b, outs, outs, y + table->column[part]);
    }
}

#endif
