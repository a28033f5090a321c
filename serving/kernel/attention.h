/* Some queries of one row look back over the row's region of the cache, for one key head.

   A query sees the positions [first, last): up to its own, and no further back than its layer's window. */
#ifndef ATTENTION_H
#define ATTENTION_H

#include <math.h>

#include "band.h"

typedef struct {
    const Number *queries; /* (count, head_dim) */
    int64_t count;
    const Number *keys, *values; /* (positions, head_dim) */
    int64_t positions, head_dim;
    float *scores; /* (count in whole bands, stride), for every position and some to spare */
    int64_t stride;
} Look;

/* scores = queries . keys */
static void weigh(const Look *look) {
    const int64_t width = look->head_dim, in_bands = banded(look->count, width);
    Number packed[(in_bands + BAND) * width];
    for (int64_t q = 0; q < in_bands; q++) pack(look->queries, q, width, packed);
    for (int64_t p = 0; p < look->positions; p += TILE) {
        const Number *keys[TILE];
        for (int64_t n = 0; n < TILE; n++)
            keys[n] = look->keys + (p + n < look->positions ? p + n : p) * width;
        float *scores = look->scores + p;
        int64_t q = 0;
        for (; q < in_bands; q += BAND)
            meet(packed + q * width, keys, width, scores + q * look->stride, look->stride, 0);
        for (; q < look->count; q += TILE) {
            const int64_t height = look->count - q < TILE ? look->count - q : TILE;
            const Number *queries[TILE];
            for (int64_t m = 0; m < TILE; m++) queries[m] = look->queries + (q + (m < height ? m : 0)) * width;
            tiles((int)height, keys, queries, width, scores + q * look->stride, look->stride, 0, 0);
        }
    }
}

/* in place: exponentials of the scaled scores over their sum in [first, last), zeros around it up to `until`, in whole
   vectors */
static void softmax(float *scores, int64_t first, int64_t last, int64_t until, float scaling) {
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
        const Lanes lanes = exponential((load_floats(scores + p) - peak) * scaling);
        store_floats(scores + p, lanes);
        totals += lanes;
    }
    const float share = 1 / sum(totals);
    for (int64_t p = 0; p < end; p += WIDTH) store_floats(scores + p, load_floats(scores + p) * share);
}

/* out = sum over positions of scores[p] * values[p], for up to four queries from q on and 64 columns of the values */
INLINE void blend(const int count, const Look *look, int64_t q, int64_t column, Number *const *out) {
    const float *scores = look->scores + q * look->stride;
    Lanes sums[TILE][4] = {};
    for (int64_t p = 0; p < look->positions; p++) {
        Lanes value[4];
        load_two(look->values + p * look->head_dim + column, value);
        load_two(look->values + p * look->head_dim + column + 2 * WIDTH, value + 2);
#pragma GCC unroll 4
        for (int m = 0; m < count; m++)
#pragma GCC unroll 4
            for (int lane = 0; lane < 4; lane++) sums[m][lane] += scores[m * look->stride + p] * value[lane];
    }
#pragma GCC unroll 4
    for (int m = 0; m < count; m++)
        for (int lane = 0; lane < 4; lane += 2) store_two(out[q + m] + column + lane * WIDTH, sums[m] + lane);
}

/* out: (count,) places of (head_dim,) each */
static void mix(const Look *look, Number *const *out) {
    const int64_t width = look->head_dim;
    int64_t column = 0;
    for (; column + 4 * WIDTH <= width; column += 4 * WIDTH) {
        int64_t q = 0;
        for (; q + TILE <= look->count; q += TILE) blend(4, look, q, column, out);
        switch (look->count - q) {
        case 3: blend(3, look, q, column, out); break;
        case 2: blend(2, look, q, column, out); break;
        case 1: blend(1, look, q, column, out); break;
        }
    }
    for (; column < width; column++)
        for (int64_t q = 0; q < look->count; q++) {
            float total = 0;
            for (int64_t p = 0; p < look->positions; p++)
                total += look->scores[q * look->stride + p] * widen(look->values[p * width + column]);
            out[q][column] = narrow(total);
        }
}

#endif
