/*
 * core.c - is somebody else on the core? As a shared library for ctypes.
 *
 * Additions that do not wait for each other take what units a core has; multiplications
 * that wait for each other take their time, whoever else runs on the core's other thread.
 */
#include <stdint.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))
#define TURNS 2000
#define TRIES 3 /* the fastest: an interrupt is not meant */

static double
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

#define KEEP(x) __asm__ volatile("" : "+r"(x))
#define ADD(x) x += 1; KEEP(x)

static double
additions(void)
{
	uint64_t a = 0, b = 0, c = 0, d = 0;
	double began = now_ns();

	for (int i = 0; i < TURNS; i++) {
		ADD(a); ADD(b); ADD(c); ADD(d);
		ADD(a); ADD(b); ADD(c); ADD(d);
	}
	return now_ns() - began;
}

static double
multiplications(void)
{
	uint64_t x = 1;
	double began = now_ns();

	for (int i = 0; i < TURNS; i++) {
		x *= 3;
		KEEP(x);
	}
	return now_ns() - began;
}

static double
fastest(double (*run)(void))
{
	double best = run();

	for (int i = 1; i < TRIES; i++) {
		double ns = run();

		best = ns < best ? ns : best;
	}
	return best;
}

/* The time of the ones over that of the others: the least that is ever seen is a core of one's own. */
EXPORT double
core_load(void)
{
	return fastest(additions) / fastest(multiplications);
}
