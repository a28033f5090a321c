/* The numbers that weights and the cache are made of, sixteen at a time: bfloat16, or float with -DSINGLE.

   Arithmetic is in float always, by GCC's vector types, so that any processor the compiler knows will do. */
#ifndef NUMBER_H
#define NUMBER_H

#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define WIDTH 16
typedef float Lanes __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Words __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH)));

static inline Lanes load_floats(const float *from) {
    Lanes lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

static inline void store_floats(float *to, Lanes lanes) { memcpy(to, &lanes, sizeof lanes); }

static inline float sum(Lanes lanes) {
    float total = 0;
    for (int i = 0; i < WIDTH; i++) total += lanes[i];
    return total;
}

#ifdef SINGLE

typedef float Number;

static inline float widen(Number number) { return number; }
static inline Number narrow(float value) { return value; }
static inline Lanes load(const Number *from) { return load_floats(from); }
static inline void store(Number *to, Lanes lanes) { store_floats(to, lanes); }

#else

typedef uint16_t Number;

static inline float widen(Number number) {
    const uint32_t word = (uint32_t)number << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static inline Number narrow(float value) { /* to nearest even; NaN stays NaN */
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    return value != value ? 0x7fc0 : (Number)((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

static inline Lanes load(const Number *from) {
    Halves halves;
    memcpy(&halves, from, sizeof halves);
    return (Lanes)(__builtin_convertvector(halves, Words) << 16);
}

static inline void store(Number *to, Lanes lanes) { /* to nearest even; NaN stays NaN */
#ifdef __AVX512BF16__
    const __m256bh halves = _mm512_cvtneps_pbh((__m512)lanes); /* takes what is below the normal numbers for zero */
#else
    const Words word = (Words)lanes, odd = (word >> 16) & 1, nan = lanes != lanes;
    const Words rounded = ((word + 0x7fff + odd) & ~nan) | (0x7fc00000 & nan);
    const Halves halves = __builtin_convertvector(rounded >> 16, Halves);
#endif
    memcpy(to, &halves, sizeof halves);
}

#endif

static inline void narrow_all(const float *from, int64_t count, Number *to) {
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) store(to + i, load_floats(from + i));
    for (; i < count; i++) to[i] = narrow(from[i]);
}

static inline Lanes choose(Words where, Lanes yes, Lanes no) {
    return (Lanes)((where & (Words)yes) | (~where & (Words)no));
}

#endif
