/*
 * core.c - is somebody else on the core? As a shared library for ctypes.
 *
 * Additions that do not wait for each other take what units a core has; multiplications
 * that wait for each other take their time, whoever else runs on the core's other thread.
 */
#include <stdint.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))
#define TURNS 1000
#define TRIES 4 /* the fastest: an interrupt is not meant */

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

/* The time of the ones over that of the others: small, if the core is our own. */
static double
ratio(void)
{
	double adding = additions(), multiplying = multiplications();

	for (int i = 1; i < TRIES; i++) {
		double a = additions(), m = multiplications();

		adding = a < adding ? a : adding;
		multiplying = m < multiplying ? m : multiplying;
	}
	return adding / multiplying;
}

/* The larger of two: what makes a multiplication late makes the core look free. */
EXPORT double
core_load(void)
{
	double first = ratio(), second = ratio();

	return first > second ? first : second;
}
