/* tests/model/nested.cc - a signal strikes before any atomic operation, and its handler records. */
#include "model.h"

static void full(void) { model_write(MODEL_FULL); }
static void half(void) { model_write(MODEL_HALF); }
static void half_twice(void) { half(); half(); }
static void third(void) { model_write(MODEL_THIRD); }
static void third_twice(void) { third(); third(); }

static void
read_twice(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	model_read(&r);
	model_read(&r);
}

/* The signal strikes within this many operations: a record takes up to about 70. */
#define WITHIN 90

static void
signal_with(void (*handler)(void))
{
	model_machine.threads[0].handler = handler;
	model_machine.threads[0].signal_in = 1 + (int)rl::rand(WITHIN);
}

static void handler_again(void) { half(); }

static void
handler_interrupted(void)
{
	model_self().handler = handler_again;
	model_self().signal_in = 1 + (int)rl::rand(WITHIN);
	half();
	model_self().signal_in = 0;
}

static void signal_half(void) { signal_with(half); }
static void signal_full(void) { signal_with(full); }
static void handler_discards(void) { model_write(MODEL_THIRD, MODEL_DISCARD); }
static void signal_discards(void) { signal_with(handler_discards); }
static void handler_flushes(void) { model_flush(); }
static void signal_flushes(void) { signal_with(handler_flushes); }
static void signal_interrupted(void) { signal_with(handler_interrupted); }

/* One more level than the ledger has: the last is lost, and counted. */
static void
too_deep(void)
{
	struct ringbuf_reservation r[RINGBUF_NESTING_MAX + 1];
	int ok[RINGBUF_NESTING_MAX + 1];

	for (int i = 0; i <= RINGBUF_NESTING_MAX; i++)
		ok[i] = model_reserve(MODEL_TINY, &r[i]) == 0;
	RL_ASSERT(!ok[RINGBUF_NESTING_MAX]);
	for (int i = RINGBUF_NESTING_MAX - 1; i >= 0; i--)
		if (ok[i])
			model_resolve(&r[i], MODEL_COMMIT);
}

static const struct model models[] = {
	{"nested_alone_discard", MODEL_DISCARD_2, {half_twice}, signal_half},
	{"nested_alone_overwrite", MODEL_OVERWRITE_2, {half_twice}, signal_full},
	{"nested_discards", MODEL_OVERWRITE_2, {third_twice}, signal_discards},
	{"nested_flushes", MODEL_OVERWRITE_2, {third_twice}, signal_flushes},
	{"nested_producers", MODEL_OVERWRITE_2, {half_twice, third_twice}, signal_half},
	{"nested_reader", MODEL_OVERWRITE_2, {half_twice, read_twice}, signal_full},
	{"nested_twice", MODEL_OVERWRITE_2, {half_twice, third}, signal_interrupted},
	{"nested_too_deep", MODEL_DISCARD_2, {too_deep, third}},
};
MODEL_TABLE(models);
