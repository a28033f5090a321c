/* Tokens through a whole stack of transformer layers, any adapter on each: prompts and decoding rows alike.

   A layer is RMSNorm, grouped-query attention with rotary positions, RMSNorm, gated MLP (Llama, Mistral, Qwen). The
   threads walk through the layers together and share the work as share.h says. The residual stream stays in float.
   What a token becomes does not depend on the tokens beside it, to the last bit.
   serving/stack.py describes the model; serving/native.py compiles this file. */
#include "greatest.h"
#include "past.h"
#include "product.h"
#include "transpose.h"

/* what this thread's tokens will read once the product is done: the second half of their adapters at this site, and the
   first half at the next */
static void plan_ahead(const Step *step, int64_t site, int64_t num_sites, Share share, Errands *errands) {
    errands->count = errands->next = 0;
    for (int64_t token = share.begin; token < share.end; token++) {
        if (token > share.begin && step->adapters[token - 1] == step->adapters[token]) continue;
        const Delta *here = delta_at(step, token, site);
        for (int64_t part = 0; here && part < here->num_parts; part++)
            note(errands, here->b[part], here->rank[part] * here->out_features[part]);
        const Delta *next = site + 1 < num_sites ? delta_at(step, token, site + 1) : 0;
        if (next) note(errands, next->a, next->in_features * next->total_rank);
    }
}

/* the input as the base's weight is to see it: x itself, unless some token's adapter scales it */
static const Number *gain(const Step *step, int64_t site, int64_t in, const Number *x, Share share, const Room *room) {
    int64_t is_gained = 0;
    for (int64_t token = 0; token < step->num_tokens && !is_gained; token++) {
        const Delta *delta = delta_at(step, token, site);
        is_gained = delta && delta->input_gain;
    }
    if (!is_gained) return x;
    for (int64_t token = share.begin; token < share.end; token++) {
        const Delta *delta = delta_at(step, token, site);
        const float *factor = delta ? delta->input_gain : 0;
        const Number *from = x + token * in;
        Number *to = room->gained + token * in;
        for (int64_t i = 0; i < in; i++) to[i] = factor ? narrow(widen(from[i]) * factor[i]) : from[i];
    }
    wait_unless_apart(share);
    return room->gained;
}

/* room->wide = the site's product of x: (tokens, in), and room->bottleneck: each token's way into its adapter */
static void multiply(const Stack *stack, int64_t site, const Step *step, const Number *x, Share share,
                     const Room *room) {
    const Site *base = &stack->layers[site / SITES].site[site % SITES];
    const Number *input = gain(step, site, base->in, x, share, room);
    Errands errands;
    for (int64_t token = share.begin; token < share.end; token++) {
        const Delta *delta = delta_at(step, token, site);
        if (delta) descend(delta, x + token * base->in, room->bottleneck + token * room->rank_stride);
    }
    plan_ahead(step, site, stack->num_layers * SITES, share, &errands);
    const Product product = {.x = input, .rows = step->num_tokens, .weight = base->weight, .in = base->in,
                             .outs = base->outs, .wide = room->wide};
    compute(product, room->packed, share, &errands);
    wait_unless_apart(share);
}

/* one token's output of a site, complete: gains, biases and adapter; returns where it is */
static float *complete(const Stack *stack, int64_t site, const Step *step, int64_t token, const Room *room) {
    const Site *base = &stack->layers[site / SITES].site[site % SITES];
    const Delta *delta = delta_at(step, token, site);
    const int64_t outs = base->outs;
    float *y = room->wide + token * outs;
    if (delta && delta->gain)
        for (int64_t j = 0; j < outs; j++) y[j] *= delta->gain[j];
    if (base->bias)
        for (int64_t j = 0; j < outs; j++) y[j] += widen(base->bias[j]);
    if (delta) ascend(delta, room->bottleneck + token * room->rank_stride, y);
    if (delta && delta->bias)
        for (int64_t j = 0; j < outs; j++) y[j] += delta->bias[j];
    return y;
}

static void add_and_normalise(const Stack *stack, const float *y, const Number *norm, int64_t token, Number *out,
                              const Room *room) {
    float *residual = room->residual + token * stack->hidden;
    for (int64_t i = 0; i < stack->hidden; i++) residual[i] += y[i];
    normalise(residual, norm, stack->hidden, stack->epsilon, out + token * stack->hidden);
}

/* y: (gate | up) -> silu(gate) * up */
static void open_gate(const float *y, int64_t width, Number *out) {
    int64_t i = 0;
    for (; i + WIDTH <= width; i += WIDTH) {
        const Lanes open = load_floats(y + i), up = load_floats(y + width + i);
        store(out + i, open / (1.0f + exponential(-open)) * up);
    }
    for (; i < width; i++) out[i] = narrow(y[i] / (1 + expf(-y[i])) * y[width + i]);
}

static void walk_layer(const Stack *stack, int64_t index, const Step *step, Share share, const Room *room) {
    const Layer *layer = stack->layers + index;
    const int64_t site = index * SITES, inner = layer->site[DOWN].in;
    const int is_last = index + 1 == stack->num_layers;

    multiply(stack, site + QKV, step, room->normed, share, room);
    for (int64_t token = share.begin; token < share.end; token++)
        remember(stack, layer, step, token, complete(stack, site + QKV, step, token, room), room);
    wait_for_all();
    look_back(stack, layer, step, share, room);

    multiply(stack, site + OUTPUT, step, room->mixed, share, room);
    for (int64_t token = share.begin; token < share.end; token++)
        add_and_normalise(stack, complete(stack, site + OUTPUT, step, token, room), layer->mlp_norm, token,
                          room->normed, room);
    wait_unless_apart(share);

    multiply(stack, site + GATE_UP, step, room->normed, share, room);
    for (int64_t token = share.begin; token < share.end; token++)
        open_gate(complete(stack, site + GATE_UP, step, token, room), inner, room->gated + token * inner);
    wait_unless_apart(share);

    multiply(stack, site + DOWN, step, room->gated, share, room);
    for (int64_t token = share.begin; token < share.end; token++)
        add_and_normalise(stack, complete(stack, site + DOWN, step, token, room),
                          is_last ? stack->norm : layer[1].attention_norm, token,
                          is_last ? step->hidden : room->normed, room);
    wait_unless_apart(share);
}

/* `count` tokens from `first` on, as a step of their own */
static Step slice_step(const Stack *stack, const Step *step, int64_t first, int64_t count) {
    return (Step){
        .num_tokens = count,
        .positions = step->positions + first,
        .starts = step->starts + first,
        .capacities = step->capacities + first,
        .adapters = step->adapters + first,
        .hidden = step->hidden + first * stack->hidden,
    };
}

/* the room of the tokens from `first` on, which are the slice's from `begin` on */
static Room slice_room(const Stack *stack, const Room *room, int64_t first, int64_t begin) {
    Room slice = *room;
    slice.residual += first * stack->hidden;
    slice.normed += first * stack->hidden;
    slice.gated += begin * room->widest_in;
    slice.gained += begin * room->widest_in;
    slice.packed += begin * room->widest_in;
    slice.wide += begin * room->widest_out;
    slice.bottleneck += begin * room->rank_stride;
    slice.queries += begin * stack->heads * stack->head_dim;
    slice.mixed += begin * stack->heads * stack->head_dim;
    return slice;
}

static void walk_slice(const Stack *stack, int64_t index, const Step *step, int64_t first, int64_t count, int can_part,
                       const Room *room) {
    const Share share = share_of(count, can_part);
    const int64_t begin = share.is_apart ? share.begin : 0;
    const Step slice = slice_step(stack, step, first + begin, share.is_apart ? share.end - begin : count);
    const Room own = slice_room(stack, room, first + begin, begin);
    walk_layer(stack, index, &slice, share.is_apart ? all_of(share) : share, &own);
}

/* Rewrites step->hidden, and the cache at the tokens' positions. */
void walk(const Stack *stack, const Step *step, const Room *room, int64_t num_threads) {
    int can_part = 1;
    for (int site = 0; site < SITES; site++) can_part &= banded(BAND, stack->layers->site[site].in) == BAND;
#pragma omp parallel num_threads(num_threads)
    {
#pragma omp for schedule(static)
        for (int64_t token = 0; token < step->num_tokens; token++) {
            const Number *embedding = step->hidden + token * stack->hidden;
            float *residual = room->residual + token * stack->hidden;
            for (int64_t i = 0; i < stack->hidden; i++) residual[i] = widen(embedding[i]);
            normalise(residual, stack->layers->attention_norm, stack->hidden, stack->epsilon,
                      room->normed + token * stack->hidden);
        }
        int64_t before = 0;
        for (int64_t index = 0; index < stack->num_layers; index++)
            for (int64_t first = 0; first < step->num_tokens; first += SLICE) {
                const int64_t left = step->num_tokens - first, count = left < SLICE ? left : SLICE;
                if (before && before != count) wait_for_all(); /* the room was shared out in another way */
                walk_slice(stack, index, step, first, count, can_part, room);
                before = count;
            }
    }
}

/* x: (rows, in) times weight: (outs, in) -> y: (rows, outs); packed: room for x in whole bands of rows */
void linear(const Number *x, int64_t rows, const Number *weight, int64_t in, int64_t outs, Number *y, Number *packed,
            int64_t num_threads) {
#pragma omp parallel num_threads(num_threads)
    {
        const Share share = share_of(rows, banded(BAND, in) == BAND);
        const int64_t begin = share.is_apart ? share.begin : 0;
        const Product product = {.x = x + begin * in, .rows = share.is_apart ? share.end - begin : rows,
                                 .weight = weight, .in = in, .outs = outs, .numbers = y + begin * outs};
        Errands none = {.count = 0};
        compute(product, packed + begin * in, share.is_apart ? all_of(share) : share, &none);
    }
}

/* places: (rows,), of each row's greatest number; -1 where the row has a NaN */
void greatest_of(const Number *const *rows, int64_t count, int64_t width, int64_t *places, int64_t num_threads) {
#pragma omp parallel for num_threads(num_threads)
    for (int64_t row = 0; row < count; row++) places[row] = greatest(rows[row], width);
}

/* a stored matrix (rows, columns), transposed and scaled into `to`, whose rows are `stride` apart; whether all of the
   result is finite */
int64_t adopt(const void *from, int64_t bytes, int64_t rows, int64_t columns, double scale, Number *to, int64_t stride) {
    return transpose(from, bytes, rows, columns, (float)scale, to, stride) == 0;
}

typedef struct { /* one stored matrix: where in its file, and where and how in the slab, as `adopt` has it */
    int64_t from, bytes, rows, columns;
    double scale;
    int64_t to, stride;
} Move;

/* out of a file into a slab; returns how many moves went well before one whose result is not finite */
int64_t adopt_all(const Move *moves, int64_t count, const char *file, char *slab) {
    for (int64_t move = 0; move < count; move++) {
        const Move *of = moves + move;
        if (!adopt(file + of->from, of->bytes, of->rows, of->columns, of->scale, (Number *)(slab + of->to), of->stride))
            return move;
    }
    return count;
}
