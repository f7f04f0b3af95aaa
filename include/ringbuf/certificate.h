/*
 * ringbuf/certificate.h - locks that the kernel marks when their owner dies.
 *
 * A robust mutex in shared memory. Whatever killed the owner, or if it called
 * exec, in any PID namespace, the next to lock it gets it, and then sees all
 * that the dead one wrote. Not for signal handlers: the C library keeps a list
 * of the robust mutexes that a thread holds.
 *
 * RINGBUF_CERTIFICATE_HEADER, if defined, names a header that supplies all of
 * it (the model checker's: its threads do not really die).
 */
#ifndef RINGBUF_CERTIFICATE_H
#define RINGBUF_CERTIFICATE_H

#if defined(RINGBUF_CERTIFICATE_HEADER)
#include RINGBUF_CERTIFICATE_HEADER
#else

#include <errno.h>
#include <pthread.h>

#include "atomic.h"

RINGBUF_FUNC int
ringbuf_robust_mutex_init(pthread_mutex_t *m)
{
	pthread_mutexattr_t attr;
	int ret = pthread_mutexattr_init(&attr);

	if (ret)
		return -ret;
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	ret = pthread_mutex_init(m, &attr);
	pthread_mutexattr_destroy(&attr);
	return -ret;
}

/* Lock or try to lock; a dead owner's lock is simply had. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_robust_lock(pthread_mutex_t *m, int wait)
{
	int ret = wait ? pthread_mutex_lock(m) : pthread_mutex_trylock(m);

	if (ret == EOWNERDEAD)
		ret = pthread_mutex_consistent(m);
	return -ret;
}

RINGBUF_FUNC void
ringbuf_robust_unlock(pthread_mutex_t *m)
{
	pthread_mutex_unlock(m);
}

#endif /* RINGBUF_CERTIFICATE_HEADER */

#endif /* RINGBUF_CERTIFICATE_H */
