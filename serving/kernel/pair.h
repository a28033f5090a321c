/* A vector times an adapter's matrix, two of its rows at a time, for processors with bfloat16 dot products.

        left   l0 l1 l0 l1 l0 l1 ...       two numbers of the vector, repeated
        rows   a0 b0 a1 b1 a2 b2 ...       row a and the row b below it, brought together in registers
        sum    +=  l0 aj + l1 bj           for sixteen columns, a lane, at once */
#ifndef PAIR_H
#define PAIR_H

#include "dot.h"

#ifdef NATIVE_BF16

#define LANES 4 /* most lanes whose sums are kept in registers */

INLINE __mmask32 first_of_32(int64_t columns) { return columns >= 32 ? ~0u : (1u << columns) - 1; }

/* the words 0x(b + j)(a + j), for j of 0 to 15 */
INLINE __m512i order(int a, int b) {
    const __m512i count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_add_epi32(_mm512_mullo_epi32(count, _mm512_set1_epi32(0x10001)), _mm512_set1_epi32(b << 16 | a));
}

/* `columns` of two rows, as so many lanes of pairs */
INLINE void bring_together(const int lanes, const Number *upper, const Number *lower, int64_t columns, int has_lower,
                           __m512bh *pairs) {
#pragma GCC unroll 2
    for (int lane = 0; lane + 2 <= lanes; lane += 2) {
        const __mmask32 mask = first_of_32(columns - lane * WIDTH);
        const __m512i a = _mm512_maskz_loadu_epi16(mask, upper + lane * WIDTH);
        const __m512i b = _mm512_maskz_loadu_epi16(has_lower ? mask : 0, lower + lane * WIDTH);
        pairs[lane] = (__m512bh)_mm512_permutex2var_epi16(a, order(0, 32), b);
        pairs[lane + 1] = (__m512bh)_mm512_permutex2var_epi16(a, order(WIDTH, 32 + WIDTH), b);
    }
    if (lanes % 2) {
        const int last = lanes - 1;
        const __mmask16 mask = (__mmask16)first_of_32(columns - last * WIDTH);
        const __m256i a = _mm256_maskz_loadu_epi16(mask, upper + last * WIDTH);
        const __m256i b = _mm256_maskz_loadu_epi16(has_lower ? mask : 0, lower + last * WIDTH);
        const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
        pairs[last] = (__m512bh)_mm512_permutexvar_epi16(order(0, WIDTH), both);
    }
}

/* sums[lane] += left[0] * upper[lane] + left[1] * lower[lane], for each half of left */
INLINE void add_pair(const int lanes, const int halves, const Number *left, int64_t apart, const Number *upper,
                     int64_t stride, int64_t columns, int has_lower, Partial *sums) {
    __m512bh pairs[LANES];
    bring_together(lanes, upper, upper + stride, columns, has_lower, pairs);
#pragma GCC unroll 2
    for (int half = 0; half < halves; half++) {
        int32_t two = 0;
        memcpy(&two, left + half * apart, has_lower ? sizeof two : sizeof *left);
#pragma GCC unroll 4
        for (int lane = 0; lane < lanes; lane++)
            sums[lane] = _mm512_dpbf16_ps(sums[lane], (__m512bh)_mm512_set1_epi32(two), pairs[lane]);
    }
}

/* sum[j] += left[i] * right[i][j] for as many columns as `lanes` hold. left: as many vectors as `halves`, `apart`
   numbers apart, whose sum is meant. `ways`: how many sums of a lane grow side by side */
INLINE void pair_stripe(const int lanes, const int ways, const int halves, const Number *left, int64_t apart,
                        int64_t rows, const Number *right, int64_t stride, int64_t columns, float *sum) {
    Partial sums[4][LANES];
#pragma GCC unroll 4
    for (int way = 0; way < ways; way++)
#pragma GCC unroll 4
        for (int lane = 0; lane < lanes; lane++) sums[way][lane] = nothing();
    int64_t i = 0;
    for (; i + 2 * ways <= rows; i += 2 * ways)
#pragma GCC unroll 4
        for (int way = 0; way < ways; way++)
            add_pair(lanes, halves, left + i + 2 * way, apart, right + (i + 2 * way) * stride, stride, columns, 1,
                     sums[way]);
    for (; i < rows; i += 2)
        add_pair(lanes, halves, left + i, apart, right + i * stride, stride, columns, i + 1 < rows, sums[0]);
#pragma GCC unroll 4
    for (int lane = 0; lane < lanes; lane++) {
        const __mmask16 mask = (__mmask16)first_of_32(columns - lane * WIDTH);
        Partial total = _mm512_maskz_loadu_ps(mask, sum + lane * WIDTH);
#pragma GCC unroll 4
        for (int way = 0; way < ways; way++) total = _mm512_add_ps(total, sums[way][lane]);
        _mm512_mask_storeu_ps(sum + lane * WIDTH, mask, total);
    }
}

/* sum += (the sum of left's halves) @ right, for right: (rows, width) with rows `stride` apart */
INLINE void accumulate_pairs(const int halves, const Number *left, int64_t apart, int64_t rows, const Number *right,
                             int64_t stride, int64_t width, float *sum) {
    for (int64_t j = 0; j < width; j += LANES * WIDTH) {
        const int64_t columns = width - j;
        switch (columns > 3 * WIDTH ? 4 : (columns + WIDTH - 1) / WIDTH) {
        case 4: pair_stripe(4, 2, halves, left, apart, rows, right + j, stride, columns, sum + j); break;
        case 3: pair_stripe(3, 2, halves, left, apart, rows, right + j, stride, columns, sum + j); break;
        case 2: pair_stripe(2, 4, halves, left, apart, rows, right + j, stride, columns, sum + j); break;
        case 1: pair_stripe(1, 4, halves, left, apart, rows, right + j, stride, columns, sum + j); break;
        }
    }
}

#endif

#endif
