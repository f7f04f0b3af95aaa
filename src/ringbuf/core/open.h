/*
 * open.h - the calls that a thread is in, for those who choose by how long a call takes, and how deep it lies.
 *
 * Each thread has a stack of its own for each `Calls` that chooses; nobody else looks at it. Of the calls in it the
 * outermost have their begin in the trace, so many as `n_written`: a call that takes long enough is preceded by those
 * around it, which take no less. Their begin is told late, with the time at which it was.
 */
#ifndef RINGBUF_OPEN_H
#define RINGBUF_OPEN_H

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

struct ringbuf_open_call {
	uint64_t began; /* ticks of the channel's clock */
	uint32_t number;
};

struct ringbuf_open_calls {
	struct ringbuf_open_calls *next; /* of another Calls, in this thread */
	uint64_t of;                     /* number of the Calls */
	size_t n, room, n_written;
	size_t n_outside;                /* of these, those around the step of a task that the thread is in */
	size_t n_untold;                 /* calls within these for which there was no memory */
	struct ringbuf_open_call *calls; /* innermost last */
};

static _Thread_local struct ringbuf_open_calls *ringbuf_open_here;
static uint64_t ringbuf_open_first; /* number of the oldest Calls that is on; under the lock, as those that follow */
static pthread_mutex_t ringbuf_open_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t ringbuf_open_key;
static int ringbuf_open_has_key;

static void
ringbuf_open_free(void *first)
{
	struct ringbuf_open_calls *next, *s = (struct ringbuf_open_calls *)first;

	for (; s; s = next) {
		next = s->next;
		free(s->calls);
		free(s);
	}
	ringbuf_open_here = NULL;
}

/* Before the first call is recorded. Returns 0, or -1: no thread could free what it has at its end. */
static int
ringbuf_open_init(void)
{
	pthread_mutex_lock(&ringbuf_open_lock);
	if (!ringbuf_open_has_key)
		ringbuf_open_has_key = pthread_key_create(&ringbuf_open_key, ringbuf_open_free) == 0;
	pthread_mutex_unlock(&ringbuf_open_lock);
	return ringbuf_open_has_key ? 0 : -1;
}

/* Stacks of those with a smaller number are free to be used again. */
static void
ringbuf_open_set_first(uint64_t number)
{
	__atomic_store_n(&ringbuf_open_first, number, __ATOMIC_RELAXED); /* relaxed: a hint. Pairs with ringbuf_open_new */
}

static struct ringbuf_open_calls *
ringbuf_open_new(uint64_t of)
{
	uint64_t first = __atomic_load_n(&ringbuf_open_first, __ATOMIC_RELAXED); /* as ringbuf_open_set_first */
	struct ringbuf_open_calls *s = ringbuf_open_here;

	while (s && s->of >= first)
		s = s->next;
	if (!s) {
		s = (struct ringbuf_open_calls *)calloc(1, sizeof(*s));
		if (!s || pthread_setspecific(ringbuf_open_key, s)) {
			free(s);
			return NULL;
		}
		s->next = ringbuf_open_here;
		ringbuf_open_here = s;
	}
	s->of = of;
	s->n = s->n_written = s->n_outside = s->n_untold = 0;
	return s;
}

/* This thread's; NULL: there is no memory. */
static inline struct ringbuf_open_calls *
ringbuf_open_of(uint64_t of)
{
	struct ringbuf_open_calls *s = ringbuf_open_here;

	while (s && s->of != of)
		s = s->next;
	return s ? s : ringbuf_open_new(of);
}

static int
ringbuf_open_grow(struct ringbuf_open_calls *s)
{
	size_t room = s->room ? 2 * s->room : 64;
	void *grown = realloc(s->calls, room * sizeof(*s->calls));

	if (!grown)
		return -1;
	s->calls = (struct ringbuf_open_call *)grown;
	s->room = room;
	return 0;
}

/* A call begins. Returns 0, or -1: for want of memory it is in no trace, nor is what it calls. */
static inline int
ringbuf_open_begin(struct ringbuf_open_calls *s, uint32_t number, uint64_t now)
{
	if (s->n_untold || (s->n == s->room && ringbuf_open_grow(s))) {
		s->n_untold++;
		return -1;
	}
	s->calls[s->n].began = now;
	s->calls[s->n].number = number;
	s->n++;
	return 0;
}

/* The place + 1 of the innermost call of this number, which ends: 0, there is none. Those within it have ended, too,
 * without our having been told. */
static inline size_t
ringbuf_open_find(struct ringbuf_open_calls *s, uint32_t number)
{
	size_t i = s->n;

	if (s->n_untold) {
		s->n_untold--;
		return 0;
	}
	while (i && s->calls[i - 1].number != number)
		i--;
	return i;
}

#endif /* RINGBUF_OPEN_H */
