/*
 * ringbuf/cpu.h - which CPU am I on? The only header that knows.
 *
 * glibc >= 2.35 registers a restartable-sequence area for each thread, whose
 * cpu_id the kernel keeps current: reading it costs one load. Without it (an
 * older C library, or glibc.pthread.rseq=0), sched_getcpu(). The answer may be
 * stale at once; reserve.h says why that is harmless.
 */
#ifndef RINGBUF_CPU_H
#define RINGBUF_CPU_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "layout.h"

#if defined(RINGBUF_CPU_HEADER)
#include RINGBUF_CPU_HEADER
#else

#ifndef __cplusplus
extern int sched_getcpu(void); /* hidden by <sched.h> without _GNU_SOURCE */
#else
#include <sched.h>
#endif

#if defined(__has_builtin)
#if __has_builtin(__builtin_thread_pointer)
#define RINGBUF_HAVE_RSEQ 1
#endif
#endif

#ifdef RINGBUF_HAVE_RSEQ
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

#define RINGBUF_RSEQ_CPU_ID 4 /* offset of cpu_id in struct rseq, kernel ABI */
#endif

/* Where a thread's number is, from its thread pointer on; 0: not looked up yet, or there is
 * none. Weak: as in producer.h. */
__attribute__((weak, visibility("hidden"))) ringbuf_atomic_u64 ringbuf_cpu_off;

RINGBUF_SLOW uint32_t
ringbuf_cpu_slow(void)
{
	int cpu = sched_getcpu();

#ifdef RINGBUF_HAVE_RSEQ
	if (&__rseq_offset && __rseq_size)
		/* relaxed: a constant of the process */
		ringbuf_store(&ringbuf_cpu_off, (uint64_t)(__rseq_offset + RINGBUF_RSEQ_CPU_ID), RINGBUF_RELAXED);
#endif
	return cpu < 0 ? 0 : (uint32_t)cpu;
}

RINGBUF_INLINE uint32_t
ringbuf_cpu(void)
{
#ifdef RINGBUF_HAVE_RSEQ
	uint64_t off = ringbuf_load(&ringbuf_cpu_off, RINGBUF_RELAXED); /* relaxed: a constant */

	if (RINGBUF_LIKELY(off)) {
		const volatile char *at = (const volatile char *)__builtin_thread_pointer() + (ptrdiff_t)off;
		int32_t cpu = *(const volatile int32_t *)(const volatile void *)at;

		if (RINGBUF_LIKELY(cpu >= 0)) /* negative: not registered */
			return (uint32_t)cpu;
	}
#endif
	return ringbuf_cpu_slow();
}

#endif /* RINGBUF_CPU_HEADER */

/* One more than the highest number that a CPU of this machine can have. */
RINGBUF_FUNC uint32_t
ringbuf_cpus_possible(void)
{
	char list[256] = "";
	const char *last = list;
	FILE *f = fopen("/sys/devices/system/cpu/possible", "re");

	if (f) {
		last = fgets(list, sizeof(list), f) ? list : "";
		fclose(f);
	}
	for (const char *p = last; *p; p++) /* "0-3,8": the last number */
		if (*p == '-' || *p == ',')
			last = p + 1;
	return (uint32_t)(*last ? strtoul(last, NULL, 10) + 1
				: (unsigned long)sysconf(_SC_NPROCESSORS_CONF));
}

/* The stream for `cpu`. If there are fewer streams than CPUs, some share. */
RINGBUF_INLINE uint32_t
ringbuf_stream_of_cpu(const struct ringbuf_channel *ch, uint32_t cpu)
{
	return RINGBUF_LIKELY(cpu < ch->n_streams) ? cpu : cpu % ch->n_streams;
}

#endif /* RINGBUF_CPU_H */
