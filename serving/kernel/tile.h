/* Up to four rows of x against four weight rows, held in sixteen accumulators: out[m][n] = x[m] . w[n].

        w0 w1 w2 w3
    x0  .  .  .  .      each dot: a vector of partial sums, added up at the end
    x1  .  .  .  .
*/
#ifndef TILE_H
#define TILE_H

#include "dot.h"
#include "errand.h"

#define TILE 4

#ifdef NATIVE_BF16

#define STEP 32
#define HALF 16 /* numbers of a dot that meet at once: eight sums */

typedef __m256 Eight; /* sums of one dot */

/* the numbers of `mask` from k on, of every dot */
INLINE void grow(const int rows, const Number *const *w, const Number *const *x, int64_t k, __mmask16 mask,
                 Eight (*partial)[TILE]) {
    __m256i right[TILE];
#pragma GCC unroll 4
    for (int n = 0; n < TILE; n++) right[n] = _mm256_maskz_loadu_epi16(mask, w[n] + k);
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++) {
        const __m256i left = _mm256_maskz_loadu_epi16(mask, x[m] + k);
#pragma GCC unroll 4
        for (int n = 0; n < TILE; n++)
            partial[m][n] = _mm256_dpbf16_ps(partial[m][n], (__m256bh)left, (__m256bh)right[n]);
    }
}

/* the sums of four vectors at once */
INLINE __m128 total(const Eight *partial) {
    __m128 half[TILE];
#pragma GCC unroll 4
    for (int i = 0; i < TILE; i++)
        half[i] = _mm_add_ps(_mm256_castps256_ps128(partial[i]), _mm256_extractf128_ps(partial[i], 1));
    return _mm_hadd_ps(_mm_hadd_ps(half[0], half[1]), _mm_hadd_ps(half[2], half[3]));
}

INLINE void tile(const int rows, const Number *const *w, const Number *const *x, int64_t length, float *out,
                 int64_t stride, const char *ahead, int lines) {
    Eight partial[TILE][TILE];
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < TILE; n++) partial[m][n] = _mm256_setzero_ps();
    int64_t k = 0;
    for (; k + STEP <= length; k += STEP) {
        for (int line = 0; line < lines; line++, ahead += LINE) __builtin_prefetch(ahead, 0, 2);
        grow(rows, w, x, k, 0xffff, partial);
        grow(rows, w, x, k + HALF, 0xffff, partial);
    }
    for (; k < length; k += HALF)
        grow(rows, w, x, k, length - k < HALF ? (1u << (length - k)) - 1 : 0xffff, partial);
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++) _mm_storeu_ps(out + m * stride, total(partial[m]));
}

#else

#define STEP WIDTH

INLINE void tile(const int rows, const Number *const *w, const Number *const *x, int64_t length, float *out,
                 int64_t stride, const char *ahead, int lines) {
    Lanes partial[TILE][TILE];
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < TILE; n++) partial[m][n] = (Lanes){};
    int64_t k = 0;
    for (; k + WIDTH <= length; k += WIDTH) {
        for (int line = 0; line < lines; line++, ahead += LINE) __builtin_prefetch(ahead, 0, 2);
        Lanes right[TILE];
        for (int n = 0; n < TILE; n++) right[n] = load(w[n] + k);
        for (int m = 0; m < rows; m++) {
            const Lanes left = load(x[m] + k);
            for (int n = 0; n < TILE; n++) partial[m][n] += left * right[n];
        }
    }
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < TILE; n++) {
            float dot = sum(partial[m][n]);
            for (int64_t i = k; i < length; i++) dot += widen(x[m][i]) * widen(w[n][i]);
            out[m * stride + n] = dot;
        }
}

#endif

/* out[m * stride + n] for up to 4 rows of x, fetching so many lines from `ahead` at each step of the way */
static inline void tiles(int rows, const Number *const *w, const Number *const *x, int64_t length, float *out,
                         int64_t stride, const char *ahead, int lines) {
    switch (rows) {
    case 1: tile(1, w, x, length, out, stride, ahead, lines); break;
    case 2: tile(2, w, x, length, out, stride, ahead, lines); break;
    case 3: tile(3, w, x, length, out, stride, ahead, lines); break;
    default: tile(4, w, x, length, out, stride, ahead, lines);
    }
}

#endif
