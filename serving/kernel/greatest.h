/* The place of the greatest number of a row; the first of equals. */
#ifndef GREATEST_H
#define GREATEST_H

#include "number.h"

/* -1 where a number of the row is NaN */
static int64_t greatest(const Number *row, int64_t width) {
    Lanes peaks = (Lanes){} - __builtin_inff();
    Words places = {}, here, is_nan = {};
    for (int i = 0; i < WIDTH; i++) here[i] = i;
    int64_t i = 0;
    for (; i + WIDTH <= width; i += WIDTH, here += WIDTH) {
        const Lanes lanes = load(row + i);
        const Words above = lanes > peaks;
        is_nan |= lanes != lanes;
        peaks = choose(above, lanes, peaks);
        places = (above & here) | (~above & places);
    }
    float peak = peaks[0];
    int64_t place = places[0];
    int nan = 0;
    for (int lane = 0; lane < WIDTH; lane++) {
        nan |= is_nan[lane];
        const int is_first = peaks[lane] == peak && places[lane] < place;
        if (peaks[lane] > peak || is_first) peak = peaks[lane], place = places[lane];
    }
    for (; i < width; i++) {
        const float value = widen(row[i]);
        nan |= value != value;
        if (value > peak) peak = value, place = i;
    }
    return nan ? -1 : place;
}

#endif
