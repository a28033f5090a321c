/* What a slice's tokens look back at: each leaves its key and value in the cache, and then attends to its row's.

   Threads that share a slice know beforehand who attends for which tokens, so that each can fetch the keys and values it
   needs next while it looks at others. */
#ifndef PAST_H
#define PAST_H

#include "attention.h"
#include "model.h"
#include "norm.h"
#include "share.h"

#define LARGEST_KEY 1e18f /* as in serving/kv.py, which says why */
#define FLAT 16           /* what an item takes whatever it looks at, in positions */
#define SHARED 4          /* what a position takes whoever looks at it, in tokens */

/* a head turned by its position: out[d] = x[d] cos[d] -+ x[d -+ half] sin[d] */
static void turn(const float *x, const float *cosine, const float *sine, int64_t width, Number *out) {
    const int64_t half = width / 2;
    int64_t d = 0;
    for (; d + WIDTH <= half; d += WIDTH) {
        const Lanes near = load_floats(x + d), far = load_floats(x + d + half);
        store(out + d, near * load_floats(cosine + d) - far * load_floats(sine + d));
        store(out + d + half, far * load_floats(cosine + d + half) + near * load_floats(sine + d + half));
    }
    for (; d < half; d++) {
        out[d] = narrow(x[d] * cosine[d] - x[d + half] * sine[d]);
        out[d + half] = narrow(x[d + half] * cosine[d + half] + x[d] * sine[d + half]);
    }
}

static void head(const Stack *stack, const Number *norm, const float *x, int64_t position, Number *out) {
    const int64_t width = stack->head_dim;
    float normed[width];
    if (norm) {
        Number rounded[width];
        normalise(x, norm, width, stack->epsilon, rounded);
        for (int64_t d = 0; d < width; d++) normed[d] = widen(rounded[d]);
        x = normed;
    }
    turn(x, stack->cosines + position * width, stack->sines + position * width, width, out);
}

static void bound(Number *key, int64_t width) { /* NaN stays NaN */
    int64_t d = 0;
    for (; d + WIDTH <= width; d += WIDTH) {
        Lanes lanes = load(key + d);
        lanes = choose(lanes > LARGEST_KEY, (Lanes){0} + LARGEST_KEY, lanes);
        store(key + d, choose(lanes < -LARGEST_KEY, (Lanes){0} - LARGEST_KEY, lanes));
    }
    for (; d < width; d++) {
        const float value = widen(key[d]);
        key[d] = narrow(value > LARGEST_KEY ? LARGEST_KEY : value < -LARGEST_KEY ? -LARGEST_KEY : value);
    }
}

/* the token's queries turned, and its key and value into the cache. y: (q | k | v) */
static void remember(const Stack *stack, const Layer *layer, const Step *step, int64_t token, const float *y,
                     const Room *room) {
    const int64_t width = stack->head_dim, position = step->positions[token], group = stack->heads / stack->kv_heads;
    for (int64_t h = 0; h < stack->heads; h++) {
        const int64_t query = (h / group * step->num_tokens + token) * group + h % group;
        head(stack, layer->query_norm, y + h * width, position, room->queries + query * width);
    }
    y += stack->heads * width;
    for (int64_t h = 0; h < stack->kv_heads; h++) {
        const int64_t place = step->starts[token] * stack->kv_heads + h * step->capacities[token] + position;
        head(stack, layer->key_norm, y + h * width, position, layer->keys + place * width);
        bound(layer->keys + place * width, width);
        const float *value = y + (stack->kv_heads + h) * width;
        narrow_all(value, width, layer->values + place * width);
    }
}

/* the first token of each block of up to BLOCK neighbouring tokens of one row, and the end; returns how many blocks */
static int64_t divide(const Step *step, int64_t *blocks) {
    int64_t count = 0;
    for (int64_t token = 0; token < step->num_tokens; token++) {
        const int follows = token && step->starts[token] == step->starts[token - 1] &&
                            step->positions[token] == step->positions[token - 1] + 1;
        if (!follows || token - blocks[count - 1] == BLOCK) blocks[count++] = token;
    }
    blocks[count] = step->num_tokens;
    return count;
}

/* Some neighbouring tokens of one row, with one key head: what a thread attends to at a time. */
typedef struct {
    int64_t begin, end, kv_head; /* tokens */
    int64_t from, until;         /* the positions they look at */
    int64_t place;               /* of the first of these in the cache */
} Item;

static Item item_at(const Stack *stack, const Layer *layer, const Step *step, const int64_t *blocks, int64_t number) {
    Item item = {.begin = blocks[number / stack->kv_heads], .end = blocks[number / stack->kv_heads + 1],
                 .kv_head = number % stack->kv_heads};
    const int64_t earliest = step->positions[item.begin] + 1;
    /* from a whole vector on, so that sums add up in the same order whatever the block */
    item.from = layer->window && earliest > layer->window ? (earliest - layer->window) / WIDTH * WIDTH : 0;
    item.until = step->positions[item.end - 1] + 1;
    item.place = step->starts[item.begin] * stack->kv_heads + item.kv_head * step->capacities[item.begin] + item.from;
    return item;
}

static void attend(const Stack *stack, const Layer *layer, const Step *step, Item item, const Room *room,
                   Errands *errands) {
    const int64_t width = stack->head_dim, group = stack->heads / stack->kv_heads;
    const int64_t count = (item.end - item.begin) * group;
    float totals[count];
    const Look look = {
        .queries = room->queries + (item.kv_head * step->num_tokens + item.begin) * group * width,
        .count = count,
        .keys = layer->keys + item.place * width,
        .values = layer->values + item.place * width,
        .positions = item.until - item.from,
        .head_dim = width,
        .scores = room->scores + omp_get_thread_num() * room->scores_rows * room->scores_stride,
        .stride = room->scores_stride,
        .totals = totals,
    };
    Number *out[count];
    weigh(&look, errands);
    for (int64_t q = 0; q < count; q++) {
        const int64_t token = item.begin + q / group, last = step->positions[token] + 1;
        const int64_t first = layer->window && last > layer->window ? last - layer->window - item.from : 0;
        totals[q] = soften(look.scores + q * look.stride, first, last - item.from, look.positions, stack->scaling);
        out[q] = room->mixed + (token * stack->heads + item.kv_head * group + q % group) * width;
    }
    mix(&look, out);
}

/* the items that are this thread's: everybody has about as much to do, and neighbours */
static Share deal(const Stack *stack, const Layer *layer, const Step *step, const int64_t *blocks, int64_t count) {
    const int64_t items = count * stack->kv_heads, threads = omp_get_num_threads(), self = omp_get_thread_num();
    Share mine = {.begin = 0, .end = 0};
    int64_t effort[SLICE], total = 0, before = 0;
    for (int64_t block = 0; block < count; block++) {
        const Item item = item_at(stack, layer, step, blocks, block * stack->kv_heads);
        effort[block] = (item.until - item.from + FLAT) * (item.end - item.begin + SHARED);
        total += effort[block] * stack->kv_heads;
    }
    for (int64_t number = 0; number < items; before += effort[number++ / stack->kv_heads]) {
        mine.begin += before < total * self / threads;
        mine.end += before < total * (self + 1) / threads;
    }
    return mine;
}

/* every token of the slice looks back, with its layer's keys of its own and earlier tokens in the cache */
static void look_back(const Stack *stack, const Layer *layer, const Step *step, Share share, const Room *room) {
    int64_t blocks[SLICE + 1];
    const int64_t count = divide(step, blocks), width = stack->head_dim;
    if (share.is_apart) {
        Errands none = {.count = 0};
        for (int64_t number = 0; number < count * stack->kv_heads; number++)
            attend(stack, layer, step, item_at(stack, layer, step, blocks, number), room, &none);
        return;
    }
    const Share mine = deal(stack, layer, step, blocks, count);
    for (int64_t number = mine.begin; number < mine.end; number++) {
        const Item item = item_at(stack, layer, step, blocks, number);
        Errands errands = {.count = 0};
        if (number + 1 < mine.end) {
            const Item next = item_at(stack, layer, step, blocks, number + 1);
            note(&errands, layer->keys + next.place * width, (next.until - next.from) * width);
            note(&errands, layer->values + next.place * width, (next.until - next.from) * width);
        }
        plan_errands(&errands, (item.until - item.from + TILE - 1) / TILE);
        attend(stack, layer, step, item, room, &errands);
    }
    wait_for_all();
}

#endif
