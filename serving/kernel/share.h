/* Which of a slice's tokens are this thread's, and when it must wait for the others.

   Few tokens: the threads share every product by its columns, so each needs what all have made, and they wait for each
   other before every product. Whole bands of tokens for everybody: each thread takes its own tokens through the whole
   layer, alone, and waits once, where tokens look at each other's keys. */
#ifndef SHARE_H
#define SHARE_H

#include "band.h"

int omp_get_num_threads(void), omp_get_thread_num(void);

typedef struct {
    int64_t begin, end; /* this thread's tokens */
    int is_apart;       /* whether they are a slice of their own, whose room nobody else enters */
} Share;

/* Inside a parallel region, whose threads may be fewer than were asked for. can_part: whether all products go by bands.
   Later tokens look farther back, so in every second slice the threads take their turns the other way round. */
static inline Share share_of(int64_t slice, int64_t tokens, int can_part) {
    const int64_t threads = omp_get_num_threads(), other = threads - 1 - omp_get_thread_num();
    const int64_t self = slice % 2 ? other : omp_get_thread_num();
    const int64_t each = tokens / threads, more = tokens % threads, begin = self * each + (self < more ? self : more);
    return (Share){begin, begin + each + (self < more), can_part && each > BAND && tokens % (BAND * threads) == 0};
}

/* a thread apart from the others has tokens of its own, and all of them */
static inline Share all_of(Share share) { return (Share){0, share.end - share.begin, 1}; }

static inline void wait_for_all(void) {
#pragma omp barrier
}

static inline void wait_unless_apart(Share share) {
    if (!share.is_apart) wait_for_all();
}

#endif
