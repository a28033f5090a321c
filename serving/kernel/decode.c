/* One decoding step through a whole stack of transformer layers: one token a row, any adapter on each row.

   A layer is RMSNorm, grouped-query attention with rotary positions, RMSNorm, gated MLP (Llama, Mistral, Qwen). The
   threads walk through the layers together and share each part's work: products by columns, all else by rows. The
   residual stream stays in float. serving/stack.py describes the model; serving/native.py compiles this file. */
#include "adapter.h"
#include "attention.h"
#include "product.h"

typedef struct {
    const Number *weight, *bias; /* (outs, in), (outs,) or null */
    int64_t in, outs;
} Site;

enum { QKV, OUTPUT, GATE_UP, DOWN, SITES };

typedef struct {
    Site site[SITES];
    const Number *attention_norm, *mlp_norm;
    const Number *query_norm, *key_norm; /* (head_dim,) or null */
    Number *keys, *values;               /* (positions * kv_heads, head_dim) */
    int64_t window;                      /* how far back a token sees, itself included; 0: to the start */
} Layer;

typedef struct {
    const Layer *layers;
    int64_t num_layers, hidden, heads, kv_heads, head_dim;
    float epsilon, scaling;
    const Number *norm;
    const float *cosines, *sines; /* (positions, head_dim) */
} Stack;

typedef struct {
    int64_t num_rows;
    const int64_t *positions, *starts, *capacities; /* of each row's token, and of its region */
    const int64_t *slots;                           /* -1: no adapter */
    const Table *const *tables;                     /* (layers * SITES,) each null where no adapter has a say */
    Number *hidden;                                 /* (rows, hidden): embeddings in, last hidden states out */
} Step;

typedef struct { /* room for one step, sized by serving/stack.py */
    float *residual;          /* (rows, hidden) */
    Number *input, *gained;   /* (rows, widest input of a site) */
    float *wide;              /* (rows, widest output of a site) */
    float *bottleneck;        /* (rows, largest total rank) */
    Number *queries, *mixed;  /* (rows, heads * head_dim) */
    float *scores;            /* (threads, heads / kv_heads, scores_stride) */
    int64_t scores_stride, rank_stride;
} Room;

int omp_get_thread_num(void);
int omp_get_num_threads(void);

static void normalise(const float *x, const Number *weight, int64_t width, float epsilon, Number *out) {
    float squares = 0;
    Lanes partial = {};
    int64_t i = 0;
    for (; i + WIDTH <= width; i += WIDTH) partial += load_floats(x + i) * load_floats(x + i);
    squares = sum(partial);
    for (; i < width; i++) squares += x[i] * x[i];
    const float factor = 1 / sqrtf(squares / width + epsilon);
    for (i = 0; i + WIDTH <= width; i += WIDTH) store(out + i, load_floats(x + i) * factor * load(weight + i));
    for (; i < width; i++) out[i] = narrow(x[i] * factor * widen(weight[i]));
}

/* what this thread's rows will read once the product is done: the second half of their adapters at this site, and the
   first half at the next */
static void plan_ahead(const Table *table, const Table *next, const Step *step, Errands *errands) {
#pragma omp for schedule(static) nowait
    for (int64_t row = 0; row < step->num_rows; row++) {
        const int64_t slot = step->slots[row];
        if (slot < 0 || (row && step->slots[row - 1] == slot)) continue;
        for (int64_t part = 0; table && part < table->num_parts; part++) {
            const int64_t size = table->rank[part] * table->out_features[part];
            note(errands, table->b[part] + slot * size, size);
        }
        const int64_t size = next ? next->in_features * next->total_rank : 0;
        if (size) note(errands, next->a + slot * size, size);
    }
}

/* room->wide = the site's product of x: (rows, in), and room->bottleneck: each row's way into its adapter */
static void multiply(const Site *site, const Table *table, const Table *next, const Step *step, const Number *x,
                     const Room *room) {
    const Number *input = x;
    Errands errands = {.count = 0};
    if (table && table->input_gain) {
#pragma omp for schedule(static)
        for (int64_t row = 0; row < step->num_rows; row++) {
            const float *gain = table->input_gain + step->slots[row] * site->in;
            for (int64_t i = 0; i < site->in; i++) {
                const float value = widen(x[row * site->in + i]);
                room->gained[row * site->in + i] = narrow(step->slots[row] < 0 ? value : value * gain[i]);
            }
        }
        input = room->gained;
    }
    if (table) {
#pragma omp for schedule(static) nowait
        for (int64_t row = 0; row < step->num_rows; row++) {
            if (step->slots[row] < 0) continue; /* rows are shared out as in plan_ahead and in layer_step */
            descend(table, step->slots[row], x + row * site->in, room->bottleneck + row * room->rank_stride);
        }
    }
    plan_ahead(table, next, step, &errands);
    product(input, step->num_rows, site->weight, site->in, site->outs, room->wide, &errands, omp_get_num_threads());
#pragma omp barrier
}

/* one row's output of a site, complete: gains, biases and adapter; returns where it is */
static float *complete(const Site *site, const Table *table, const Step *step, int64_t row, const Room *room) {
    const int64_t slot = step->slots[row], outs = site->outs;
    float *y = room->wide + row * outs;
    const int adapted = table && slot >= 0;
    if (adapted && table->gain)
        for (int64_t j = 0; j < outs; j++) y[j] *= table->gain[slot * outs + j];
    if (site->bias)
        for (int64_t j = 0; j < outs; j++) y[j] += widen(site->bias[j]);
    if (adapted) ascend(table, slot, room->bottleneck + row * room->rank_stride, y);
    if (adapted && table->bias)
        for (int64_t j = 0; j < outs; j++) y[j] += table->bias[slot * outs + j];
    return y;
}

/* a head turned by its position: out[d] = x[d] cos[d] -+ x[d -+ half] sin[d] */
static void turn(const float *x, const float *cosine, const float *sine, int64_t width, Number *out) {
    const int64_t half = width / 2;
    for (int64_t d = 0; d < half; d++) {
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

/* the row's queries turned, and its key and value into the cache. y: (q | k | v) */
static void remember(const Stack *stack, const Layer *layer, const Step *step, int64_t row, const float *y,
                     const Room *room) {
    const int64_t width = stack->head_dim, position = step->positions[row];
    for (int64_t h = 0; h < stack->heads; h++)
        head(stack, layer->query_norm, y + h * width, position, room->queries + (row * stack->heads + h) * width);
    y += stack->heads * width;
    for (int64_t h = 0; h < stack->kv_heads; h++) {
        const int64_t place = step->starts[row] * stack->kv_heads + h * step->capacities[row] + position;
        head(stack, layer->key_norm, y + h * width, position, layer->keys + place * width);
        const float *value = y + (stack->kv_heads + h) * width;
        for (int64_t d = 0; d < width; d++) layer->values[place * width + d] = narrow(value[d]);
    }
}

static void attend(const Stack *stack, const Layer *layer, const Step *step, int64_t row, int64_t kv_head,
                   const Room *room) {
    const int64_t width = stack->head_dim, group = stack->heads / stack->kv_heads, last = step->positions[row] + 1;
    const int64_t first = layer->window && last > layer->window ? last - layer->window : 0;
    const int64_t place = step->starts[row] * stack->kv_heads + kv_head * step->capacities[row];
    const int64_t query = (row * stack->heads + kv_head * group) * width;
    float *scores = room->scores + omp_get_thread_num() * group * room->scores_stride;
    weigh(room->queries + query, group, layer->keys + place * width, first, last, width, stack->scaling, scores,
          room->scores_stride);
    for (int64_t g = 0; g < group; g++) softmax(scores + g * room->scores_stride, last - first);
    mix(scores, room->scores_stride, group, layer->values + (place + first) * width, last - first, width,
        room->mixed + query);
}

static void add_and_normalise(const Stack *stack, const float *y, const Number *norm, int64_t row, Number *out,
                              const Room *room) {
    float *residual = room->residual + row * stack->hidden;
    for (int64_t i = 0; i < stack->hidden; i++) residual[i] += y[i];
    normalise(residual, norm, stack->hidden, stack->epsilon, out + row * stack->hidden);
}

/* y: (gate | up) -> silu(gate) * up */
static void gate(const float *y, int64_t width, Number *out) {
    int64_t i = 0;
    for (; i + WIDTH <= width; i += WIDTH) {
        const Lanes open = load_floats(y + i), up = load_floats(y + width + i);
        store(out + i, open / (1.0f + exponential(-open)) * up);
    }
    for (; i < width; i++) out[i] = narrow(y[i] / (1 + expf(-y[i])) * y[width + i]);
}

static void layer_step(const Stack *stack, int64_t index, const Step *step, const Room *room) {
    const Layer *layer = stack->layers + index;
    const Site *site = layer->site;
    const Table *const *table = step->tables + index * SITES;
    const int64_t rows = step->num_rows, inner = site[DOWN].in;
    const int is_last = index + 1 == stack->num_layers;

    multiply(site + QKV, table[QKV], table[OUTPUT], step, room->input, room);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++)
        remember(stack, layer, step, row, complete(site + QKV, table[QKV], step, row, room), room);
#pragma omp for collapse(2) schedule(dynamic, 1)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t h = 0; h < stack->kv_heads; h++) attend(stack, layer, step, row, h, room);

    multiply(site + OUTPUT, table[OUTPUT], table[GATE_UP], step, room->mixed, room);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++)
        add_and_normalise(stack, complete(site + OUTPUT, table[OUTPUT], step, row, room), layer->mlp_norm, row,
                          room->input, room);

    multiply(site + GATE_UP, table[GATE_UP], table[DOWN], step, room->input, room);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++)
        gate(complete(site + GATE_UP, table[GATE_UP], step, row, room), inner, room->input + row * inner);

    multiply(site + DOWN, table[DOWN], is_last ? 0 : table[SITES], step, room->input, room);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++)
        add_and_normalise(stack, complete(site + DOWN, table[DOWN], step, row, room),
                          is_last ? stack->norm : layer[1].attention_norm, row,
                          is_last ? step->hidden : room->input, room);
}

/* Rewrites step->hidden and the cache at the rows' positions. */
void decode(const Stack *stack, const Step *step, const Room *room, int64_t num_threads) {
#pragma omp parallel num_threads(num_threads)
    {
#pragma omp for schedule(static)
        for (int64_t row = 0; row < step->num_rows; row++) {
            const Number *embedding = step->hidden + row * stack->hidden;
            float *residual = room->residual + row * stack->hidden;
            for (int64_t i = 0; i < stack->hidden; i++) residual[i] = widen(embedding[i]);
            normalise(residual, stack->layers->attention_norm, stack->hidden, stack->epsilon,
                      room->input + row * stack->hidden);
        }
        for (int64_t index = 0; index < stack->num_layers; index++) layer_step(stack, index, step, room);
    }
}

/* The packed adapters' share alone, for module trees that `decode` cannot walk: y[row] += (x[row] a) b. */
void add_adapters(const Table *table, const Number *x, int64_t x_stride, Number *y, int64_t y_stride,
                  const int64_t *slots, int64_t num_rows, int64_t num_threads) {
#pragma omp parallel for schedule(static) num_threads(num_threads) if (num_rows > 1)
    for (int64_t row = 0; row < num_rows; row++) {
        float bottleneck[table->total_rank];
        descend(table, slots[row], x + row * x_stride, bottleneck);
        const int64_t last = table->num_parts - 1, outs = table->column[last] + table->out_features[last];
        float added[outs];
        memset(added, 0, sizeof added);
        ascend(table, slots[row], bottleneck, added);
        for (int64_t j = 0; j < outs; j++) y[row * y_stride + j] = narrow(widen(y[row * y_stride + j]) + added[j]);
    }
}

/* x: (rows, in) times weight: (outs, in) -> y: (rows, outs). For heads, whose weight is large and rows few. */
void linear(const Number *x, int64_t rows, const Number *weight, int64_t in, int64_t outs, Number *y, float *wide,
            int64_t num_threads) {
#pragma omp parallel num_threads(num_threads)
    {
        Errands none = {.count = 0};
        product(x, rows, weight, in, outs, wide, &none, num_threads);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows * outs; i++) y[i] = narrow(wide[i]);
    }
}
