/* Rows of numbers times a weight: out[m][n] = x[m] . weight[n]. Every weight is read once, for all rows.

   A tile is 4 weight rows against up to 4 rows of x, held in sixteen accumulators:

        w0 w1 w2 w3
    x0  .  .  .  .      each dot: a vector of partial sums, added up at the end
    x1  .  .  .  .

   While a block of weights meets the rows of x, the block after the next is fetched: memory and arithmetic overlap. */
#ifndef PRODUCT_H
#define PRODUCT_H

#include "number.h"
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && !defined(SINGLE)
#include <immintrin.h>
#define NATIVE_BF16
#endif

#define TILE 4
#define LINE 64  /* bytes the processor fetches at once */
#define AHEAD 2  /* blocks of 4 weight rows between what is multiplied and what is being fetched into the second cache */
#define CHUNK 16 /* blocks a thread takes at a time */
#define PANEL 4  /* blocks that make whole lines of a result in float */
#define INLINE static inline __attribute__((always_inline))

#ifdef NATIVE_BF16

#define STEP 32
typedef __m512 Partial;

INLINE Partial nothing(void) { return _mm512_setzero_ps(); }

INLINE void grow(const int rows, const Number *const *w, const Number *const *x, int64_t k, __mmask32 mask,
                 Partial (*partial)[TILE]) {
    __m512i right[TILE];
#pragma GCC unroll 4
    for (int n = 0; n < TILE; n++) right[n] = _mm512_maskz_loadu_epi16(mask, w[n] + k);
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++) {
        const __m512i left = _mm512_maskz_loadu_epi16(mask, x[m] + k);
#pragma GCC unroll 4
        for (int n = 0; n < TILE; n++)
            partial[m][n] = _mm512_dpbf16_ps(partial[m][n], (__m512bh)left, (__m512bh)right[n]);
    }
}

/* the sums of four vectors at once */
INLINE __m128 total(const Partial *partial) {
    __m256 half[TILE];
#pragma GCC unroll 4
    for (int i = 0; i < TILE; i++)
        half[i] = _mm256_add_ps(_mm512_castps512_ps256(partial[i]), _mm512_extractf32x8_ps(partial[i], 1));
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(half[0], half[1]), _mm256_hadd_ps(half[2], half[3]));
    return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
}

INLINE void tile(const int rows, const Number *const *w, const Number *const *x, int64_t length, float (*out)[TILE],
                 const char *ahead, int lines) {
    Partial partial[TILE][TILE];
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < TILE; n++) partial[m][n] = nothing();
    int64_t k = 0;
    for (; k + STEP <= length; k += STEP) {
        for (int line = 0; line < lines; line++, ahead += LINE) __builtin_prefetch(ahead, 0, 2);
        grow(rows, w, x, k, ~0u, partial);
    }
    if (k < length) grow(rows, w, x, k, (1u << (length - k)) - 1, partial);
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++) _mm_storeu_ps(out[m], total(partial[m]));
}

#else

#define STEP WIDTH

INLINE void tile(const int rows, const Number *const *w, const Number *const *x, int64_t length, float (*out)[TILE],
                 const char *ahead, int lines) {
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
            out[m][n] = sum(partial[m][n]);
            for (int64_t i = k; i < length; i++) out[m][n] += widen(x[m][i]) * widen(w[n][i]);
        }
}

#endif

/* out[m][0..3] for up to 4 rows of x, fetching so many lines from `ahead` at each step of the way */
static inline void tiles(int rows, const Number *const *w, const Number *const *x, int64_t length, float (*out)[TILE],
                         const char *ahead, int lines) {
    switch (rows) {
    case 1: tile(1, w, x, length, out, ahead, lines); break;
    case 2: tile(2, w, x, length, out, ahead, lines); break;
    case 3: tile(3, w, x, length, out, ahead, lines); break;
    default: tile(4, w, x, length, out, ahead, lines);
    }
}

/* What a thread will need after a product, fetched on the way through it: so much at every tile. */
typedef struct {
    const char *from;
    int64_t lines;
} Stretch;

#define MAX_STRETCHES 192

typedef struct {
    int64_t count, next, at_once;
    Stretch stretch[MAX_STRETCHES];
} Errands;

static inline void note(Errands *errands, const Number *from, int64_t numbers) {
    if (numbers && errands->count < MAX_STRETCHES)
        errands->stretch[errands->count++] =
            (Stretch){(const char *)from, (numbers * (int64_t)sizeof(Number) + LINE - 1) / LINE};
}

static inline void plan_errands(Errands *errands, int64_t times) {
    int64_t lines = 0;
    for (int64_t i = 0; i < errands->count; i++) lines += errands->stretch[i].lines;
    errands->at_once = lines / (times ? times : 1) + 1;
}

static inline void run(Errands *errands) {
    for (int64_t left = errands->at_once; left && errands->next < errands->count;) {
        Stretch *stretch = errands->stretch + errands->next;
        const int64_t lines = left < stretch->lines ? left : stretch->lines;
        for (int64_t line = 0; line < lines; line++) __builtin_prefetch(stretch->from + line * LINE, 0, 2);
        stretch->from += lines * LINE;
        stretch->lines -= lines;
        left -= lines;
        errands->next += stretch->lines == 0;
    }
}

static inline void multiply_tile(const Number *x, int64_t rows, int64_t row, const Number *weight, int64_t column,
                                 int64_t in, int64_t outs, float *wide, Number *numbers, const char *ahead, int lines) {
    const int64_t height = rows - row < TILE ? rows - row : TILE, count = outs - column < TILE ? outs - column : TILE;
    const Number *left[TILE], *right[TILE];
    float sums[TILE][TILE];
    for (int64_t m = 0; m < TILE; m++) left[m] = x + (row + (m < height ? m : 0)) * in;
    for (int64_t n = 0; n < TILE; n++) right[n] = weight + (column + (n < count ? n : 0)) * in;
    tiles((int)height, right, left, in, sums, ahead, lines);
    for (int64_t m = 0; m < height; m++) {
        const int64_t place = (row + m) * outs + column;
        for (int64_t n = 0; n < count; n++)
            if (numbers) numbers[place + n] = narrow(sums[m][n]);
            else wide[place + n] = sums[m][n];
    }
}

/* x: (rows, in), weight: (outs, in) -> wide: (rows, outs) in float, or narrowed into `numbers` where that is given.
   Inside a parallel region; does not wait for the other threads. */
static void product(const Number *x, int64_t rows, const Number *weight, int64_t in, int64_t outs, float *wide,
                    Number *numbers, Errands *errands, int64_t num_threads) {
    const int64_t blocks = (outs + TILE - 1) / TILE, bands = (rows + TILE - 1) / TILE;
    const int lines = rows <= TILE ? 4 : rows <= 2 * TILE ? 2 : 1; /* a block's lines, spread over its tiles */
    plan_errands(errands, blocks * bands / num_threads);
    const int64_t panel = bands > 4 ? PANEL : 1; /* many rows: whole lines of the result at a time */
#pragma omp for schedule(dynamic, CHUNK / panel) nowait
    for (int64_t first = 0; first < blocks; first += panel)
        for (int64_t band = 0; band < bands; band++)
            for (int64_t block = first; block < first + panel && block < blocks; block++) {
                const char *ahead = (const char *)(weight + (block + AHEAD) * TILE * in) + in / STEP * band * lines * LINE;
                run(errands);
                multiply_tile(x, rows, band * TILE, weight, block * TILE, in, outs, wide, numbers, ahead,
                              panel == 1 ? lines : 0);
            }
}

#endif
