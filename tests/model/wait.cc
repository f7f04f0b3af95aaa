/*
 * tests/model/wait.cc - sleeping readers and producers.
 *
 * A wake-up that is lost leaves a thread asleep when all others have ended, which
 * Relacy reports as a deadlock. No sleep ends by a deadline here.
 */
#include "model.h"

static void half(void) { model_write(MODEL_HALF); }
static void half_twice(void) { half(); half(); }
static void full(void) { model_write(MODEL_FULL); }
static void full_twice(void) { full(); full(); }
static void full_3(void) { full_twice(); full(); }

/* Sleep until so many packets were read. */
static void
read_sleeping(int n)
{
	struct ringbuf_channel *ch = &model_region.ch;
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(ch, 0, &r);
	while (n) {
		uint32_t seq = ringbuf_data_wanted(ch);

		if (model_read(&r) == 0)
			n--;
		else
			ringbuf_wait_for_data(ch, seq, UINT64_MAX);
	}
}

static void read_1(void) { read_sleeping(1); }
static void read_2(void) { read_sleeping(2); }
static void read_3(void) { read_sleeping(3); }

static void
write_blocking(enum model_event event, int n)
{
	while (n--)
		RL_ASSERT(model_write(event, MODEL_COMMIT, MODEL_BLOCK) == 0);
}

static void half_blocking(void) { write_blocking(MODEL_HALF, 1); }
static void half_3_blocking(void) { write_blocking(MODEL_HALF, 3); }
static void full_blocking(void) { write_blocking(MODEL_FULL, 1); }
static void full_3_blocking(void) { write_blocking(MODEL_FULL, 3); }

/* A blocked producer comes back when the channel is finalized. */
static void
blocked_or_refused(void)
{
	for (int i = 0; i < 3; i++) {
		int ret = model_write(MODEL_FULL, MODEL_COMMIT, MODEL_BLOCK);

		RL_ASSERT(ret == 0 || ret == -ESHUTDOWN);
	}
}

/* The same beside a ring that is full already. */
static void
blocked_once(void)
{
	int ret = model_write(MODEL_FULL, MODEL_COMMIT, MODEL_BLOCK);

	RL_ASSERT(ret == -ESHUTDOWN);
}

static void
disable(void)
{
	ringbuf_set_state(&model_region.ch, RINGBUF_STATE_DISABLED, 1);
}

static void
finalize(void)
{
	ringbuf_finalize(&model_region.ch, model_region.producer(model_me()));
}

/* Sleeps until the channel is finalized and all was read. */
static void
read_to_the_end(void)
{
	struct ringbuf_channel *ch = &model_region.ch;
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(ch, 0, &r);
	for (;;) {
		uint32_t seq = ringbuf_data_wanted(ch);

		if (model_read(&r) == 0)
			continue;
		if (ringbuf_is_at_end(&r, model_region.producer(model_me())))
			break;
		ringbuf_wait_for_data(ch, seq, UINT64_MAX);
	}
	model_log.ended = true;
}

/* As a poller does: looks, and sleeps if there is nothing. */
static void
poll_1(void)
{
	struct ringbuf_channel *ch = &model_region.ch;
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(ch, 0, &r);
	for (;;) {
		uint32_t seq = ringbuf_data_wanted(ch);

		if (!ringbuf_has_packet(&r))
			ringbuf_wait_for_data(ch, seq, UINT64_MAX);
		else if (model_read(&r) == 0)
			break;
	}
}

/* Sleeps are for room alone: the reader takes these two packets and is gone. */
static void
fill(void)
{
	full_twice();
}

static void
read_2_and_leave(void)
{
	struct ringbuf_stream_reader r;

	ringbuf_stream_reader_init(&model_region.ch, 0, &r);
	RL_ASSERT(model_read(&r) == 0);
	RL_ASSERT(model_read(&r) == 0);
}

#define WAKING(mode) {mode, 1, 1, RINGBUF_COMPACT, RINGBUF_WAKEUP_WRITER, 0, NULL, 0}

static const struct model models[] = {
	{"wait_reader", WAKING(RINGBUF_DISCARD), {full_twice, read_2}},
	{"wait_reader_overwrite", WAKING(RINGBUF_OVERWRITE), {full, full, read_1}},
	{"wait_reader_two_producers", WAKING(RINGBUF_DISCARD), {half_twice, half_twice, read_2}},
	{"wait_poller_overwrite", WAKING(RINGBUF_OVERWRITE), {full_3, poll_1}},
	{"wait_space", WAKING(RINGBUF_DISCARD), {full_blocking, read_2_and_leave}, fill},
	{"wait_space_two_producers", WAKING(RINGBUF_DISCARD), {half_blocking, half_blocking, read_2_and_leave}, fill},
	{"wait_reader_halves", WAKING(RINGBUF_DISCARD), {half, half, read_1}},
	{"wait_producer", WAKING(RINGBUF_DISCARD), {full_3_blocking, read_3}},
	{"wait_two_producers", WAKING(RINGBUF_DISCARD), {half_3_blocking, half_3_blocking, read_3}},
	{"wait_finalize", WAKING(RINGBUF_DISCARD), {blocked_or_refused, finalize}},
	{"wait_disable", WAKING(RINGBUF_DISCARD), {blocked_once, disable}, fill},
	{"wait_reader_finalize", WAKING(RINGBUF_DISCARD), {full, finalize, read_to_the_end}},
};
MODEL_TABLE(models);
