/* Rows of numbers times a weight: out[m][n] = x[m] . weight[n]. Every weight is read once, for all rows.

   Rows go by sixteens (band.h), what is left by fours (tile.h). While a block of four weight rows meets the rows of x,
   the block after the next is fetched: memory and arithmetic overlap. */
#ifndef PRODUCT_H
#define PRODUCT_H

#include "share.h"

#define AHEAD 2  /* blocks between what is multiplied and what is being fetched into the second cache */
#define PANEL 4  /* blocks that make whole lines of a result in float */

typedef struct {
    const Number *x, *packed; /* (rows, in); the rows that go by bands, packed */
    int64_t rows, banded;
    const Number *weight; /* (outs, in) */
    int64_t in, outs;
    float *wide;     /* (rows, outs) */
    Number *numbers; /* or the same, narrowed */
} Product;

typedef float Sums[BAND][PANEL * TILE]; /* what a panel of weight rows makes of a band: whole lines of the result */

/* one block of four weight rows with the rows [row, row + height) of x; fetches so many lines at a step */
static inline void encounter(const Product *product, int64_t row, int64_t height, int64_t column, float *sums,
                             const char *ahead, int lines) {
    const int64_t in = product->in, last = product->outs - 1;
    const Number *left[TILE], *right[TILE];
    for (int64_t n = 0; n < TILE; n++)
        right[n] = product->weight + (column + n < last ? column + n : last) * in;
    if (row < product->banded) {
        meet(product->packed + row * in, height, right, in, sums, PANEL * TILE, lines ? ahead : 0);
        return;
    }
    for (int64_t m = 0; m < TILE; m++) left[m] = product->x + (row + (m < height ? m : 0)) * in;
    tiles((int)height, right, left, in, sums, PANEL * TILE, ahead, lines);
}

static inline void deliver(const Product *product, int64_t row, int64_t height, int64_t column, int64_t count,
                           Sums sums) {
    for (int64_t m = 0; m < height; m++) {
        const int64_t place = (row + m) * product->outs + column;
        if (product->numbers) narrow_all(sums[m], count, product->numbers + place);
        else if (count == PANEL * TILE) memcpy(product->wide + place, sums[m], sizeof sums[m]);
        else
            for (int64_t n = 0; n < count; n++) product->wide[place + n] = sums[m][n];
    }
}

/* the blocks [first, first + panel) with the parts [part, until) of the rows: bands, and then tiles */
static inline void sweep(const Product *product, int64_t first, int64_t panel, int64_t part, int64_t until,
                         Errands *errands) {
    const int64_t rows = product->rows, in = product->in, outs = product->outs, column = first * TILE;
    const int64_t bands = (product->banded + BAND - 1) / BAND, wanted = panel * TILE;
    const int64_t count = outs - column < wanted ? outs - column : wanted;
    /* a block's lines are spread over the parts that it meets: all with the first band, or some with each tile */
    const int lines = bands ? 1 : panel > 1 ? 0 : rows <= TILE ? 4 : rows <= 3 * TILE ? 2 : 1;
    for (int64_t begin = part; part < until; part++) {
        const int64_t row = part < bands ? part * BAND : product->banded + (part - bands) * TILE;
        const int64_t end = row + (part < bands ? BAND : TILE), height = (end < rows ? end : rows) - row;
        const int64_t skipped = bands ? 0 : in / STEP * (part - begin) * lines * LINE;
        Sums sums;
        for (int64_t n = 0; n < count; n += TILE) {
            const char *ahead = (const char *)(product->weight + (column + n + AHEAD * TILE) * in) + skipped;
            run(errands);
            encounter(product, row, height, column + n, sums[0] + n, ahead, bands && part > begin ? 0 : lines);
        }
        deliver(product, row, height, column, count, sums);
    }
}

/* x: (rows, in), weight: (outs, in) -> wide: (rows, outs) in float, or narrowed into `numbers` where that is given.
   packed: room for the rows in whole bands. Inside a parallel region; does not wait for the others at its end. */
static void compute(Product product, Number *packed, Share share, Errands *errands) {
    product.packed = packed;
    product.banded = banded(product.rows, product.in);
    for (int64_t row = share.begin; row < share.end && row < product.banded; row++)
        pack(product.x, row, product.in, packed);
    if (product.banded) wait_unless_apart(share);
    const int64_t blocks = (product.outs + TILE - 1) / TILE, bands = (product.banded + BAND - 1) / BAND;
    const int64_t parts = bands + (product.rows - product.banded + TILE - 1) / TILE;
    const int64_t panel = bands || parts > 4 ? PANEL : 1; /* many rows: whole lines of the result at a time */
    plan_errands(errands, blocks * parts / (share.is_apart ? 1 : omp_get_num_threads()));
    if (share.is_apart) {
        for (int64_t first = 0; first < blocks; first += panel) sweep(&product, first, panel, 0, parts, errands);
        return;
    }
#pragma omp for schedule(guided) nowait /* long stretches first: what is fetched ahead is for this thread */
    for (int64_t first = 0; first < blocks; first += panel) sweep(&product, first, panel, 0, parts, errands);
}

#endif
