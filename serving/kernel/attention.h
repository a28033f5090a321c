/* One row's newest token looks back over its region of the cache: the query heads that share one key head, at once. */
#ifndef ATTENTION_H
#define ATTENTION_H

#include <math.h>

#include "product.h"

/* scores[g][p] = scaling * query[g] . key[p] for positions first..last */
static void weigh(const Number *queries, int64_t group, const Number *keys, int64_t first, int64_t last, int64_t width,
                  float scaling, float *scores, int64_t stride) {
    for (int64_t p = first; p < last; p += TILE) {
        const Number *rows[TILE];
        for (int64_t n = 0; n < TILE; n++) rows[n] = keys + (p + n < last ? p + n : p) * width;
        for (int64_t g = 0; g < group; g += TILE) {
            const int64_t height = group - g < TILE ? group - g : TILE;
            const Number *left[TILE];
            float sums[TILE][TILE];
            for (int64_t m = 0; m < TILE; m++) left[m] = queries + (g + (m < height ? m : 0)) * width;
            tiles((int)height, rows, left, width, sums, 0, 0);
            for (int64_t m = 0; m < height; m++)
                for (int64_t n = 0; n < TILE && p + n < last; n++)
                    scores[(g + m) * stride + p - first + n] = sums[m][n] * scaling;
        }
    }
}

/* in place: exponentials over their sum; `count` is padded to whole vectors, for which the buffer has room */
static void softmax(float *scores, int64_t count) {
    float greatest = -INFINITY;
    for (int64_t p = 0; p < count; p++) greatest = scores[p] > greatest || scores[p] != scores[p] ? scores[p] : greatest;
    const int64_t padded = (count + WIDTH - 1) / WIDTH * WIDTH;
    for (int64_t p = count; p < padded; p++) scores[p] = -INFINITY;
    Lanes totals = {};
    for (int64_t p = 0; p < padded; p += WIDTH) {
        Lanes lanes = exponential(load_floats(scores + p) - greatest);
        for (int64_t i = 0; p + WIDTH > count && i < WIDTH; i++)
            if (p + i >= count) lanes[i] = 0;
        store_floats(scores + p, lanes);
        totals += lanes;
    }
    const float total = sum(totals);
    for (int64_t p = 0; p < padded; p += WIDTH) store_floats(scores + p, load_floats(scores + p) / total);
}

/* out[g] = sum over positions of scores[g][p] * values[p] */
static void mix(const float *scores, int64_t stride, int64_t group, const Number *values, int64_t count, int64_t width,
                Number *out) {
    for (int64_t g = 0; g < group; g++) {
        float mixed[width];
        memset(mixed, 0, sizeof mixed);
        accumulate(scores + g * stride, count, values, width, width, mixed);
        for (int64_t d = 0; d < width; d++) out[g * width + d] = narrow(mixed[d]);
    }
}

#endif
