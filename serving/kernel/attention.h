/* Some queries of one row look back over the row's region of the cache, for one key head.

   A query sees the positions [first, last): up to its own, and no further back than its layer's window. */
#ifndef ATTENTION_H
#define ATTENTION_H

#include <math.h>

#include "band.h"
#include "exponential.h"
#include "pair.h"

typedef struct {
    const Number *queries; /* (count, head_dim) */
    int64_t count;
    const Number *keys, *values; /* (positions, head_dim) */
    int64_t positions, head_dim;
    float *scores; /* (count in whole bands, stride), for every position and some to spare */
    int64_t stride;
    float *totals; /* (count,) */
} Look;

/* how much query q wants of each position's value, up to a factor: rounded, in the place of its scores */
static inline Number *weights_of(const Look *look, int64_t q) { return (Number *)(look->scores + q * look->stride); }

/* scores = queries . keys; runs errands on the way */
static void weigh(const Look *look, Errands *errands) {
    const int64_t width = look->head_dim, in_bands = banded(look->count, width);
    Number packed[(in_bands + BAND) * width];
    for (int64_t q = 0; q < in_bands; q++) pack(look->queries, q, width, packed);
    for (int64_t p = 0; p < look->positions; p += TILE) {
        run(errands);
        const Number *keys[TILE];
        for (int64_t n = 0; n < TILE; n++)
            keys[n] = look->keys + (p + n < look->positions ? p + n : p) * width;
        float *scores = look->scores + p;
        int64_t q = 0;
        for (; q < in_bands; q += BAND)
            meet(packed + q * width, in_bands - q, keys, width, scores + q * look->stride, look->stride, 0);
        for (; q < look->count; q += TILE) {
            const int64_t height = look->count - q < TILE ? look->count - q : TILE;
            const Number *queries[TILE];
            for (int64_t m = 0; m < TILE; m++) queries[m] = look->queries + (q + (m < height ? m : 0)) * width;
            tiles((int)height, keys, queries, width, scores + q * look->stride, look->stride, 0, 0);
        }
    }
}

/* scores -> weights: exponentials of what they are, scaled, below the peak of [first, last), and zeros around it up to
   `until`, in whole vectors; returns the total of the weights */
static float soften(float *scores, int64_t first, int64_t last, int64_t until, float scaling) {
    const int64_t end = (until + WIDTH - 1) / WIDTH * WIDTH;
    Number *weights = (Number *)scores; /* which take no more room: none overwrites a score that is still to be read */
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
        store(weights + p, exponential((load_floats(scores + p) - peak) * scaling));
        totals += load(weights + p);
    }
    return sum(totals);
}

/* out = sum over positions of weights[p] * values[p] / total, for up to four queries from q on and 64 columns */
#ifdef NATIVE_BF16

INLINE void blend(const int count, const Look *look, int64_t q, int64_t column, Number *const *out) {
    const int64_t width = look->head_dim;
    Partial sums[TILE][LANES];
#pragma GCC unroll 4
    for (int m = 0; m < count; m++)
#pragma GCC unroll 4
        for (int lane = 0; lane < LANES; lane++) sums[m][lane] = nothing();
    for (int64_t p = 0; p < look->positions; p += 2) {
        const Number *value = look->values + p * width + column;
        __m512bh pairs[LANES];
        bring_together(LANES, value, value + width, LANES * WIDTH, p + 1 < look->positions, pairs);
#pragma GCC unroll 4
        for (int m = 0; m < count; m++) {
            int32_t two;
            memcpy(&two, weights_of(look, q + m) + p, sizeof two);
#pragma GCC unroll 4
            for (int lane = 0; lane < LANES; lane++)
                sums[m][lane] = _mm512_dpbf16_ps(sums[m][lane], (__m512bh)_mm512_set1_epi32(two), pairs[lane]);
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < count; m++) {
        const float share = 1 / look->totals[q + m];
        for (int lane = 0; lane < LANES; lane++)
            store(out[q + m] + column + lane * WIDTH, (Lanes)sums[m][lane] * share);
    }
}

#else

INLINE void blend(const int count, const Look *look, int64_t q, int64_t column, Number *const *out) {
    Lanes sums[TILE][4] = {};
    for (int64_t p = 0; p < look->positions; p++) {
        const Number *value = look->values + p * look->head_dim + column;
#pragma GCC unroll 4
        for (int lane = 0; lane < 4; lane++) {
            const Lanes lanes = load(value + lane * WIDTH);
#pragma GCC unroll 4
            for (int m = 0; m < count; m++) sums[m][lane] += widen(weights_of(look, q + m)[p]) * lanes;
        }
    }
    for (int m = 0; m < count; m++)
        for (int lane = 0; lane < 4; lane++)
            store(out[q + m] + column + lane * WIDTH, sums[m][lane] / look->totals[q + m]);
}

#endif

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
                total += widen(weights_of(look, q)[p]) * widen(look->values[p * width + column]);
            out[q][column] = narrow(total / look->totals[q]);
        }
}

#endif
