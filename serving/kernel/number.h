/* The numbers that weights and the cache are made of, sixteen at a time: bfloat16, or float with -DSINGLE.

   Arithmetic is in float always. Only GCC's vector types are used, so that any processor the compiler knows will do. */
#ifndef NUMBER_H
#define NUMBER_H

#include <stdint.h>
#include <string.h>

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

static inline void load_two(const Number *from, Lanes *two) {
    two[0] = load_floats(from);
    two[1] = load_floats(from + WIDTH);
}

static inline void store_two(Number *to, const Lanes *two) {
    store_floats(to, two[0]);
    store_floats(to + WIDTH, two[1]);
}

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

/* the upper half of each word is the number: to nearest even; NaN stays NaN */
static inline Words round_words(Lanes lanes) {
    const Words word = (Words)lanes, odd = (word >> 16) & 1;
    const Words nan = lanes != lanes;
    return ((word + 0x7fff + odd) & ~nan) | (0x7fc00000 & nan);
}

static inline void store(Number *to, Lanes lanes) {
    const Halves halves = __builtin_convertvector(round_words(lanes) >> 16, Halves);
    memcpy(to, &halves, sizeof halves);
}

/* 32 numbers as two vectors, the even and the odd ones: cheaper than in order, which store_two restores */
static inline void load_two(const Number *from, Lanes *two) {
    Words words;
    memcpy(&words, from, sizeof words);
    two[0] = (Lanes)(words << 16);
    two[1] = (Lanes)(words & (int32_t)0xffff0000);
}

static inline void store_two(Number *to, const Lanes *two) {
    const Words words = (round_words(two[0]) >> 16 & 0xffff) | (round_words(two[1]) & (int32_t)0xffff0000);
    memcpy(to, &words, sizeof words);
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

/* e^x to about one unit in the last place of float, by 2^n * e^r with |r| <= ln 2 / 2 and a polynomial for e^r; zero below
   e^-87, the least of the normal numbers */
static inline Lanes exponential(Lanes x) {
    const Lanes low = (Lanes){} - 87.0f, high = (Lanes){} + 88.0f;
    const Words is_zero = x < low;
    x = choose(is_zero, low, x);
    x = choose(x > high, high, x);
    const Lanes scaled = x * 1.44269504f + 0.5f; /* whose floor is the nearest whole number to x / ln 2 */
    Words n = __builtin_convertvector(scaled, Words);
    n += __builtin_convertvector(n, Lanes) > scaled; /* a true comparison is -1: truncation becomes floor */
    const Lanes whole = __builtin_convertvector(n, Lanes);
    const Lanes r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    Lanes y = (Lanes){} + 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return choose(is_zero, (Lanes){}, y * (Lanes)((n + 127) << 23));
}

#endif
