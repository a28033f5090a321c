/* The packed adapters' share of one site, for rows that decode:

       y[row, columns of part p] += (x[row] @ a[slot of row][:, part p]) @ b_p[slot of row]

   bfloat16 in and out, float32 in between, one pass over each slot's weights. Rows come sorted by slot, so rows of one
   adapter find its weights in the cache. Layouts are those of serving/pack.py. */
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint16_t *a;   /* (slots, in_features, total_rank) */
    int64_t in_features, total_rank, num_parts;
    const uint16_t *b[4]; /* (slots, rank, out_features) */
    int64_t rank[4], offset[4], out_features[4], column[4];
} Table;

static inline float widen(uint16_t bits) {
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, 4);
    return value;
}

static inline uint16_t narrow(float value) { /* to nearest even; NaN stays NaN */
    uint32_t word;
    memcpy(&word, &value, 4);
    uint32_t rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
    return value != value ? 0x7fc0 : (uint16_t)rounded;
}

/* sum[j] += left[i] * right[i][j], four i at a time so that sums stay in registers longer */
static void multiply(const float *left, int64_t rows, const uint16_t *right, int64_t stride, int64_t width, float *sum) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        const uint16_t *r0 = right + i * stride, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
        const float l0 = left[i], l1 = left[i + 1], l2 = left[i + 2], l3 = left[i + 3];
        for (int64_t j = 0; j < width; j++)
            sum[j] += (l0 * widen(r0[j]) + l1 * widen(r1[j])) + (l2 * widen(r2[j]) + l3 * widen(r3[j]));
    }
    for (; i < rows; i++)
        for (int64_t j = 0; j < width; j++) sum[j] += left[i] * widen(right[i * stride + j]);
}

static void add_row(const Table *t, const uint16_t *x, uint16_t *y, int64_t slot) {
    float input[t->in_features], bottleneck[t->total_rank];
    for (int64_t i = 0; i < t->in_features; i++) input[i] = widen(x[i]);
    memset(bottleneck, 0, sizeof bottleneck);
    const uint16_t *a = t->a + slot * t->in_features * t->total_rank;
    multiply(input, t->in_features, a, t->total_rank, t->total_rank, bottleneck);
    for (int64_t p = 0; p < t->num_parts; p++) {
        const int64_t rank = t->rank[p], width = t->out_features[p];
        if (rank == 0) continue;
        float added[width];
        memset(added, 0, sizeof added);
        multiply(bottleneck + t->offset[p], rank, t->b[p] + slot * rank * width, width, width, added);
        uint16_t *out = y + t->column[p];
        for (int64_t j = 0; j < width; j++) out[j] = narrow(widen(out[j]) + added[j]);
    }
}

void add_adapters(const Table *table, const uint16_t *x, int64_t x_stride, uint16_t *y, int64_t y_stride,
                  const int64_t *slots, int64_t num_rows, int64_t num_threads) {
#pragma omp parallel for schedule(static) num_threads(num_threads) if (num_rows > 1)
    for (int64_t row = 0; row < num_rows; row++)
        add_row(table, x + row * x_stride, y + row * y_stride, slots[row]);
}
