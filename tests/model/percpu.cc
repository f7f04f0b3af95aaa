/*
 * tests/model/percpu.cc - a stream for each CPU, threads that migrate, and clocks
 * that may be read ahead of time.
 */
#include "model.h"

static void third_twice(void) { model_write(MODEL_THIRD); model_write(MODEL_THIRD); }
static void third(void) { model_write(MODEL_THIRD); }
static void flush_both(void) { model_flush(0, 0); model_flush(0, 1); }
static void discard_third(void) { model_write(MODEL_THIRD, MODEL_DISCARD); third(); }

#define WITHIN 60 /* operations: a thread's two records take about that many */

static int at_some_operation(void) { return 1 + (int)rl::rand(WITHIN); }

static void
cpus(uint32_t cpu0, int migrate0, uint32_t cpu1, int migrate1)
{
	model_machine.early = true;
	model_machine.threads[0].cpu = cpu0;
	model_machine.threads[0].migrate_in[0] = migrate0;
	model_machine.threads[1].cpu = cpu1;
	model_machine.threads[1].migrate_in[0] = migrate1;
	model_machine.threads[2].cpu = 1;
}

static void same_cpu(void) { cpus(0, 0, 0, 0); }
static void one_migrates(void) { cpus(0, 0, 1, at_some_operation()); }
static void both_migrate(void) { cpus(0, at_some_operation(), 1, at_some_operation()); }

#define PER_CPU(mode) {mode, 1, 2, RINGBUF_COMPACT, RINGBUF_WAKEUP_NONE, 0, NULL, 0}

static const struct model models[] = {
	{"percpu_preempted", PER_CPU(RINGBUF_OVERWRITE), {third_twice, third_twice}, same_cpu},
	{"percpu_migrating", PER_CPU(RINGBUF_DISCARD), {third_twice, third_twice}, one_migrates},
	{"percpu_both_migrating", PER_CPU(RINGBUF_OVERWRITE), {third_twice, third_twice}, both_migrate},
	{"percpu_flushed", PER_CPU(RINGBUF_OVERWRITE), {third_twice, third, flush_both}, one_migrates},
	{"percpu_discard", PER_CPU(RINGBUF_OVERWRITE), {discard_third, third_twice}, one_migrates},
};
MODEL_TABLE(models);
