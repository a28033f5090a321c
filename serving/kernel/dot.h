/* Whether the processor has dot products of bfloat16 pairs: sixteen sums at once, of two products each. */
#ifndef DOT_H
#define DOT_H

#include "number.h"

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && !defined(SINGLE)
#include <immintrin.h>
#define NATIVE_BF16

typedef __m512 Partial;

INLINE Partial nothing(void) { return _mm512_setzero_ps(); }

#endif

#endif
