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

/* Some tokens of a step that go through a layer together, as this thread sees them. Apart from the others it sees only
   its own, in room of its own. */
typedef struct {
    Share share;
    Step step;
    Room room;
} Slice;

/* of up to SLICE tokens, from `first` on */
static Slice slice_at(const Stack *stack, const Step *step, int64_t first, int can_part, const Room *room) {
    const int64_t left = step->num_tokens - first, attended = stack->heads * stack->head_dim;
    int64_t count = left < SLICE ? left : SLICE, begin = 0;
    Share share = share_of(first / SLICE, count, can_part);
    if (share.is_apart) {
        first += share.begin;
        count = share.end - share.begin;
        begin = omp_get_thread_num() * count;
        share = all_of(share);
    }
    Slice slice = {.share = share, .step = *step, .room = *room};
    slice.step.num_tokens = count;
    slice.step.positions += first;
    slice.step.starts += first;
    slice.step.capacities += first;
    slice.step.adapters += first;
    slice.step.hidden += first * stack->hidden;
    slice.room.residual += first * stack->hidden;
    slice.room.normed += first * stack->hidden;
    slice.room.queries += first * attended;
    slice.room.gated += begin * room->widest_in;
    slice.room.gained += begin * room->widest_in;
    slice.room.packed += begin * room->widest_in;
    slice.room.wide += begin * room->widest_out;
    slice.room.bottleneck += begin * room->rank_stride;
    slice.room.mixed += begin * attended;
    return slice;
}

/* room->normed becomes room->queries, and keys and values in the cache */
static void project(const Stack *stack, int64_t index, const Slice *slice) {
    const Step *step = &slice->step;
    const Room *room = &slice->room;
    const int64_t site = index * SITES + QKV;
    multiply(stack, site, step, room->normed, slice->share, room);
    for (int64_t token = slice->share.begin; token < slice->share.end; token++)
        remember(stack, stack->layers + index, step, token, complete(stack, site, step, token, room), room);
}

/* room->queries meet the cache, and so on to the end of the layer: room->normed, as the next one is to see it */
static void transform(const Stack *stack, int64_t index, const Slice *slice) {
    const Layer *layer = stack->layers + index;
    const Step *step = &slice->step;
    const Room *room = &slice->room;
    const Share share = slice->share;
    const int64_t site = index * SITES, inner = layer->site[DOWN].in;
    const int is_last = index + 1 == stack->num_layers;

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
}

/* One half of a layer for every slice of the step. Returns whether every thread went through all of them apart from the
   others; from the first that it did not on, all wait between slices. */
static int walk_slices(void half(const Stack *, int64_t, const Slice *), const Stack *stack, int64_t index,
                       const Step *step, int can_part, const Room *room) {
    int is_apart = 1;
    for (int64_t first = 0; first < step->num_tokens; first += SLICE) {
        const Slice slice = slice_at(stack, step, first, can_part, room);
        is_apart &= slice.share.is_apart;
        if (first && !is_apart) wait_for_all();
        half(stack, index, &slice);
    }
    return is_apart;
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
        for (int64_t index = 0; index < stack->num_layers; index++) {
            walk_slices(project, stack, index, step, can_part, room);
            wait_for_all();
            if (!walk_slices(transform, stack, index, step, can_part, room)) wait_for_all();
        }
    }
}

/* x: (rows, in) times weight: (outs, in) -> y: (rows, outs); packed: room for x in whole bands of rows */
void linear(const Number *x, int64_t rows, const Number *weight, int64_t in, int64_t outs, Number *y, Number *packed,
            int64_t num_threads) {
#pragma omp parallel num_threads(num_threads)
    {
        const Share share = share_of(0, rows, banded(BAND, in) == BAND);
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
