/* Root mean square normalisation of one token or head. */
#ifndef NORM_H
#define NORM_H

#include <math.h>

#include "number.h"

/* x: (width,) in float over its root mean square, times the weight -> out */
static void normalise(const float *x, const Number *weight, int64_t width, float epsilon, Number *out) {
    Lanes partial = {};
    int64_t i = 0;
    for (; i + WIDTH <= width; i += WIDTH) partial += load_floats(x + i) * load_floats(x + i);
    float squares = sum(partial);
    for (; i < width; i++) squares += x[i] * x[i];
    const float factor = 1 / sqrtf(squares / width + epsilon);
    for (i = 0; i + WIDTH <= width; i += WIDTH) store(out + i, load_floats(x + i) * factor * load(weight + i));
    for (; i < width; i++) out[i] = narrow(x[i] * factor * widen(weight[i]));
}

#endif
