/* A matrix as a file stores it, transposed and scaled into the layout and the numbers that the kernel reads. */
#ifndef TRANSPOSE_H
#define TRANSPOSE_H

#include "number.h"

enum { STORED_BFLOAT16 = 2, STORED_FLOAT = 4 }; /* bytes of a stored number; a file may leave them unaligned */

static inline float stored(const char *from, int64_t bytes) {
    uint16_t half;
    uint32_t word;
    float value;
    if (bytes == STORED_BFLOAT16) memcpy(&half, from, sizeof half), word = (uint32_t)half << 16;
    else memcpy(&word, from, sizeof word);
    memcpy(&value, &word, sizeof value);
    return value;
}

static inline Lanes load_stored(const char *from, int64_t bytes) {
    Halves halves;
    Lanes lanes;
    if (bytes == STORED_FLOAT) {
        memcpy(&lanes, from, sizeof lanes);
        return lanes;
    }
    memcpy(&halves, from, sizeof halves);
    return (Lanes)(__builtin_convertvector(halves, Words) << 16);
}

/* two rows of a square exchange what stands `apart` places off its diagonal */
static inline __attribute__((always_inline)) void exchange(Lanes *upper, Lanes *lower, const int apart) {
    Words keep, give;
    for (int lane = 0; lane < WIDTH; lane++) {
        keep[lane] = lane & apart ? WIDTH + lane - apart : lane;
        give[lane] = lane & apart ? WIDTH + lane : lane + apart;
    }
    const Lanes kept = __builtin_shuffle(*upper, *lower, keep), given = __builtin_shuffle(*upper, *lower, give);
    *upper = kept, *lower = given;
}

static inline void transpose_square(Lanes *rows) {
#pragma GCC unroll 4
    for (int stage = 0; stage < 4; stage++)
#pragma GCC unroll 16
        for (int row = 0; row < WIDTH; row++)
            if (!(row & 1 << stage)) exchange(rows + row, rows + row + (1 << stage), 1 << stage);
}

/* to[column * stride + row] = scale * from[row][column]; returns the sum of nothing but infinities and NaN: 0 if all the
   numbers written are finite */
static float transpose(const char *from, int64_t bytes, int64_t rows, int64_t columns, float scale, Number *to,
                       int64_t stride) {
    const int64_t whole_rows = rows / WIDTH * WIDTH, whole_columns = columns / WIDTH * WIDTH;
    Lanes wrong = {};
    float wrong_rest = 0;
    for (int64_t row = 0; row < whole_rows; row += WIDTH)
        for (int64_t column = 0; column < whole_columns; column += WIDTH) {
            Lanes square[WIDTH];
            for (int i = 0; i < WIDTH; i++)
                square[i] = load_stored(from + ((row + i) * columns + column) * bytes, bytes) * scale;
            transpose_square(square);
            for (int i = 0; i < WIDTH; i++) {
                store(to + (column + i) * stride + row, square[i]);
                wrong += load(to + (column + i) * stride + row) * 0.0f;
            }
        }
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = row < whole_rows ? whole_columns : 0; column < columns; column++) {
            Number *place = to + column * stride + row;
            *place = narrow(stored(from + (row * columns + column) * bytes, bytes) * scale);
            wrong_rest += widen(*place) * 0.0f;
        }
    return sum(wrong) + wrong_rest;
}

#endif
