/* e^x for sixteen numbers, by 2^n * e^r with a whole n and |r| <= ln 2 / 2, to about one unit in the last place of float.

   Zero below e^-87, where float's normal numbers end; NaN stays NaN. */
#ifndef EXPONENTIAL_H
#define EXPONENTIAL_H

#include "number.h"

#define LEAST (-87.0f)

/* x without n * ln 2, which goes in two parts so that nothing is lost */
static inline Lanes rest(Lanes x, Lanes n) { return (x - n * 0.693359375f) + n * 2.12194440e-4f; }

/* e^r */
static inline Lanes polynomial(Lanes r) {
    Lanes y = (Lanes){} + 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    return y * r * r + r + 1.0f;
}

#ifdef __AVX512F__

static inline Lanes exponential(Lanes x) {
    const __m512 least = _mm512_set1_ps(LEAST);
    const __mmask16 counts = _mm512_cmp_ps_mask((__m512)x, least, _CMP_NLT_UQ);
    x = (Lanes)_mm512_max_ps(least, (__m512)x);
    const Lanes n = (Lanes)_mm512_roundscale_ps((__m512)(x * 1.44269504f), _MM_FROUND_TO_NEAREST_INT);
    return (Lanes)_mm512_maskz_scalef_ps(counts, (__m512)polynomial(rest(x, n)), (__m512)n);
}

#else

static inline Lanes exponential(Lanes x) {
    const Lanes least = (Lanes){} + LEAST, most = (Lanes){} + 88.0f;
    const Words is_zero = x < least;
    x = choose(is_zero, least, x);
    x = choose(x > most, most, x);
    const Lanes scaled = x * 1.44269504f + 0.5f; /* whose floor is the nearest whole number to x / ln 2 */
    Words n = __builtin_convertvector(scaled, Words);
    n += __builtin_convertvector(n, Lanes) > scaled; /* a true comparison is -1: truncation becomes floor */
    const Lanes power = (Lanes)((n + 127) << 23);
    return choose(is_zero, (Lanes){}, polynomial(rest(x, __builtin_convertvector(n, Lanes))) * power);
}

#endif

#endif
