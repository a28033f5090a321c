/* A block of one row's tokens looks back over the row's region of the cache, for one key head and its query heads.

   A query sees the positions [first, last): up to its own, and no further back than its layer's window. */
#ifndef ATTENTION_H
#define ATTENTION_H

#include <math.h>

#include "product.h"

typedef struct {
    const Number *vector; /* (head_dim,) */
    Number *out;          /* (head_dim,) */
    float *scores;        /* room for every position, in whole vectors */
    int64_t first, last;
} Query;

/* scores[p - from] = scaling * query . key[p] for from <= p < until, four queries and four keys at a time */
static void weigh(const Query *queries, int64_t count, const Number *keys, int64_t from, int64_t until, int64_t width,
                  float scaling) {
    for (int64_t p = from; p < until; p += TILE) {
        const Number *right[TILE];
        for (int64_t n = 0; n < TILE; n++) right[n] = keys + (p + n < until ? p + n : p) * width;
        for (int64_t q = 0; q < count; q += TILE) {
            const int64_t height = count - q < TILE ? count - q : TILE;
            const Number *left[TILE];
            float sums[TILE][TILE];
            for (int64_t m = 0; m < TILE; m++) left[m] = queries[q + (m < height ? m : 0)].vector;
            tiles((int)height, right, left, width, sums, 0, 0);
            for (int64_t m = 0; m < height; m++)
                for (int64_t n = 0; n < TILE; n++) queries[q + m].scores[p - from + n] = sums[m][n] * scaling;
        }
    }
}

/* in place: exponentials over their sum in [first, last), zeros around it up to `until`, in whole vectors */
static void softmax(float *scores, int64_t first, int64_t last, int64_t until) {
    const int64_t end = (until + WIDTH - 1) / WIDTH * WIDTH;
    for (int64_t p = 0; p < first; p++) scores[p] = -INFINITY;
    for (int64_t p = last; p < end; p++) scores[p] = -INFINITY;
    Lanes peaks = (Lanes){} - INFINITY, totals = {};
    for (int64_t p = 0; p < end; p += WIDTH) {
        const Lanes lanes = load_floats(scores + p);
        peaks = choose(lanes > peaks, lanes, peaks);
    }
    float peak = peaks[0];
    for (int i = 1; i < WIDTH; i++) peak = peaks[i] > peak ? peaks[i] : peak;
    for (int64_t p = 0; p < end; p += WIDTH) {
        const Lanes lanes = exponential(load_floats(scores + p) - peak);
        store_floats(scores + p, lanes);
        totals += lanes;
    }
    const float share = 1 / sum(totals);
    for (int64_t p = 0; p < end; p += WIDTH) store_floats(scores + p, load_floats(scores + p) * share);
}

/* out = sum over positions of scores[p] * values[p], for up to four queries at once and 64 columns of the values */
static inline __attribute__((always_inline)) void blend(const int count, const Query *queries, const Number *values,
                                                        int64_t positions, int64_t width, int64_t column) {
    Lanes sums[TILE][4] = {};
    for (int64_t p = 0; p < positions; p++) {
        Lanes value[4];
#pragma GCC unroll 4
        for (int lane = 0; lane < 4; lane++) value[lane] = load(values + p * width + column + lane * WIDTH);
#pragma GCC unroll 4
        for (int q = 0; q < count; q++)
#pragma GCC unroll 4
            for (int lane = 0; lane < 4; lane++) sums[q][lane] += queries[q].scores[p] * value[lane];
    }
#pragma GCC unroll 4
    for (int q = 0; q < count; q++)
        for (int lane = 0; lane < 4; lane++) store(queries[q].out + column + lane * WIDTH, sums[q][lane]);
}

static void mix(const Query *queries, int64_t count, const Number *values, int64_t positions, int64_t width) {
    int64_t column = 0;
    for (; column + 4 * WIDTH <= width; column += 4 * WIDTH) {
        int64_t q = 0;
        for (; q + TILE <= count; q += TILE) blend(4, queries + q, values, positions, width, column);
        switch (count - q) {
        case 3: blend(3, queries + q, values, positions, width, column); break;
        case 2: blend(2, queries + q, values, positions, width, column); break;
        case 1: blend(1, queries + q, values, positions, width, column); break;
        }
    }
    for (; column < width; column++)
        for (int64_t q = 0; q < count; q++) {
            float total = 0;
            for (int64_t p = 0; p < positions; p++) total += queries[q].scores[p] * widen(values[p * width + column]);
            queries[q].out[column] = narrow(total);
        }
}

#endif
