/* A model, a step's tokens and the room to work in, as serving/stack.py describes them. */
#ifndef MODEL_H
#define MODEL_H

#include "adapter.h"

#define SLICE 128 /* most tokens that go through a layer together: what they leave behind stays in the second cache */
#define BLOCK 8   /* neighbouring tokens of one row that attend together */

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
    int64_t num_tokens;
    const int64_t *positions, *starts, *capacities; /* of each token, and of its row's region */
    const Delta *const *adapters;                   /* each token's (layers * SITES,) deltas, or null */
    Number *hidden;                                 /* (tokens, hidden): embeddings in, last hidden states out */
} Step;

typedef struct { /* room for one step, sized by serving/stack.py */
    float *residual; /* (tokens, hidden) */
    Number *normed;  /* (tokens, hidden) */
    Number *queries; /* (kv_heads, tokens, heads / kv_heads, head_dim) of each slice's tokens */
    /* from here on for one slice of the tokens */
    Number *gated, *gained;  /* (tokens, widest_in) */
    Number *packed;          /* the same, for whole bands of tokens */
    float *wide;             /* (tokens, widest_out) */
    float *bottleneck;       /* (tokens, largest total rank) */
    Number *mixed;           /* (tokens, heads * head_dim) */
    float *scores;           /* (threads, scores_rows, scores_stride) */
    int64_t scores_rows, scores_stride, rank_stride;
    int64_t widest_in, widest_out; /* of any site */
} Room;

static const Delta *delta_at(const Step *step, int64_t token, int64_t site) {
    const Delta *deltas = step->adapters[token];
    return deltas && deltas[site].in_features ? deltas + site : 0;
}

#endif
