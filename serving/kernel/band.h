/* Sixteen rows of x against four weight rows, for processors with bfloat16 dot products. The bits are those of tile.h.

   There a vector holds 16 neighbours of one dot, and its eight sums are added up for every output: a sixth of the time.
   Here a vector holds 8 neighbours of four tokens' dots, so that a quarter of the adding up is left:

        packed x    t0 t1 t2 t3 | t4 t5 t6 t7 | ...    8 numbers each, from one side of every 16
        weight      w  w  w  w                         the same 8 numbers of one weight row, for all tokens

   Tokens are packed side by side. The eight sums a dot has in tile.h are of pairs of numbers, 16 numbers apart: a pass
   over one side gives four of them, for all tokens and weight rows. They are added up in tile.h's order. */
#ifndef BAND_H
#define BAND_H

#include "tile.h"

#define BAND 16

#ifdef NATIVE_BF16

#define SIDES 2
#define SIDE 8 /* numbers of a side */
#define GROUPS (BAND / TILE)
#define FEW 6 /* rows for which tiles are as fast */

/* how many rows go by bands */
static inline int64_t banded(int64_t rows, int64_t length) {
    const int64_t whole = rows / BAND * BAND;
    return length % STEP ? 0 : rows - whole > FEW ? rows : whole;
}

/* one row of x to its place in its band: (sides, halves of a step, BAND, SIDE) */
static inline void pack(const Number *x, int64_t row, int64_t length, Number *packed) {
    const int64_t halves = length / HALF;
    Number *band = packed + row / BAND * BAND * length + row % BAND * SIDE;
    for (int64_t half = 0; half < halves; half++)
        for (int64_t side = 0; side < SIDES; side++)
            memcpy(band + (side * halves + half) * BAND * SIDE, x + row * length + half * HALF + side * SIDE,
                   SIDE * sizeof(Number));
}

/* partial[g][n]: four sums for each of four tokens, from one side; fetches a line at each half of a step */
INLINE void pass(const int groups, int64_t side, const Number *band, const Number *const *w, int64_t length,
                 Partial (*partial)[TILE], const char *ahead) {
    const int64_t halves = length / HALF;
    const Number *x = band + side * halves * BAND * SIDE;
#pragma GCC unroll 4
    for (int g = 0; g < groups; g++)
#pragma GCC unroll 4
        for (int n = 0; n < TILE; n++) partial[g][n] = nothing();
    for (int64_t half = 0; half < halves; half++, x += BAND * SIDE) {
        if (ahead) __builtin_prefetch(ahead + half * LINE, 0, 2);
        __m512bh right[TILE];
#pragma GCC unroll 4
        for (int n = 0; n < TILE; n++)
            right[n] = (__m512bh)_mm512_broadcast_i32x4(
                _mm_loadu_si128((const __m128i *)(w[n] + half * HALF + side * SIDE)));
#pragma GCC unroll 4
        for (int g = 0; g < groups; g++) {
            const __m512bh left = (__m512bh)_mm512_loadu_si512(x + g * TILE * SIDE);
#pragma GCC unroll 4
            for (int n = 0; n < TILE; n++) partial[g][n] = _mm512_dpbf16_ps(partial[g][n], left, right[n]);
        }
    }
}

/* each token's four sums added up, for four weight rows: a token's outputs side by side */
INLINE Partial gather(const Partial *partial) {
    const Partial left = _mm512_add_ps(_mm512_shuffle_ps(partial[0], partial[1], 0x88),
                                       _mm512_shuffle_ps(partial[0], partial[1], 0xdd));
    const Partial right = _mm512_add_ps(_mm512_shuffle_ps(partial[2], partial[3], 0x88),
                                        _mm512_shuffle_ps(partial[2], partial[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_ps(left, right, 0x88), _mm512_shuffle_ps(left, right, 0xdd));
}

/* `meet` for the first groups of four rows */
INLINE void meet_groups(const int groups, const Number *band, const Number *const *w, int64_t length, float *out,
                        int64_t stride, const char *ahead) {
    Partial left[GROUPS][TILE], right[GROUPS][TILE];
    pass(groups, 0, band, w, length, left, ahead);
    pass(groups, 1, band, w, length, right, ahead ? ahead + length / HALF * LINE : 0);
#pragma GCC unroll 4
    for (int g = 0; g < groups; g++) {
#pragma GCC unroll 4
        for (int n = 0; n < TILE; n++) right[g][n] = _mm512_add_ps(left[g][n], right[g][n]);
        const Partial sums = gather(right[g]);
        float *to = out + g * TILE * stride;
        _mm_storeu_ps(to, _mm512_castps512_ps128(sums));
        _mm_storeu_ps(to + stride, _mm512_extractf32x4_ps(sums, 1));
        _mm_storeu_ps(to + 2 * stride, _mm512_extractf32x4_ps(sums, 2));
        _mm_storeu_ps(to + 3 * stride, _mm512_extractf32x4_ps(sums, 3));
    }
}

/* out[m * stride + n] for the band's first `height` rows, and what comes of the room after them up to a whole four;
   fetches as many lines from `ahead`, if any, as the weight rows have */
static void meet(const Number *band, int64_t height, const Number *const *w, int64_t length, float *out, int64_t stride,
                 const char *ahead) {
    switch ((height + TILE - 1) / TILE) {
    case 1: meet_groups(1, band, w, length, out, stride, ahead); break;
    case 2: meet_groups(2, band, w, length, out, stride, ahead); break;
    case 3: meet_groups(3, band, w, length, out, stride, ahead); break;
    default: meet_groups(4, band, w, length, out, stride, ahead);
    }
}

#else

static inline int64_t banded(int64_t rows, int64_t length) { return 0; }
static inline void pack(const Number *x, int64_t row, int64_t length, Number *packed) {}
static inline void meet(const Number *band, int64_t height, const Number *const *w, int64_t length, float *out,
                        int64_t stride, const char *ahead) {}

#endif

#endif
