/* What a thread will need after a product, fetched on the way through it: so much at every tile. */
#ifndef ERRAND_H
#define ERRAND_H

#include "number.h"

#define LINE 64 /* bytes the processor fetches at once */
#define MAX_STRETCHES 192

typedef struct {
    const char *from;
    int64_t lines;
} Stretch;

typedef struct {
    int64_t count, next, at_once;
    Stretch stretch[MAX_STRETCHES];
} Errands;

static inline void note(Errands *errands, const Number *from, int64_t numbers) {
    if (numbers && errands->count < MAX_STRETCHES)
        errands->stretch[errands->count++] =
            (Stretch){(const char *)from, (numbers * (int64_t)sizeof(Number) + LINE - 1) / LINE};
}

static inline void plan_errands(Errands *errands, int64_t times) {
    int64_t lines = 0;
    for (int64_t i = 0; i < errands->count; i++) lines += errands->stretch[i].lines;
    errands->at_once = lines / (times ? times : 1) + 1;
}

static inline void run(Errands *errands) {
    for (int64_t left = errands->at_once; left && errands->next < errands->count;) {
        Stretch *stretch = errands->stretch + errands->next;
        const int64_t lines = left < stretch->lines ? left : stretch->lines;
        for (int64_t line = 0; line < lines; line++) __builtin_prefetch(stretch->from + line * LINE, 0, 2);
        stretch->from += lines * LINE;
        stretch->lines -= lines;
        left -= lines;
        errands->next += stretch->lines == 0;
    }
}

#endif
