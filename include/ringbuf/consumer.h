/*
 * ringbuf/consumer.h - a thread that writes packets to files as they come.
 *
 * It is a native thread: it holds no interpreter's lock, takes no signals, and
 * makes no copy (trace.h has the rules of its files). It reads when a writer
 * wakes it, by a timer, or when told; it can also flush by a timer, so that
 * records do not wait until their packet is full. All its sleeps are bounded, by
 * absolute times, and end at once when the channel is finalized.
 *
 * After a fork the child has no such thread and no right to read: there, stop
 * and poke do nothing, and destroy frees the child's copy.
 *
 * Ordering O13: the flags between the thread and those who own it. `poked` and
 * `stopping` release, and the thread acquires, what came before them; `done`
 * releases the thread's result.
 */
#ifndef RINGBUF_CONSUMER_H
#define RINGBUF_CONSUMER_H

#include <signal.h>

#include "snapshot.h"
#include "trace.h"

#define RINGBUF_READ_PERIOD_NS UINT64_C(10000000)         /* default */
#define RINGBUF_READ_PERIOD_WRITER_NS UINT64_C(100000000) /* default, when producers wake us */
#define RINGBUF_PERIOD_MIN_NS UINT64_C(100000)
#define RINGBUF_IDLE_NS UINT64_C(1000000000)              /* no sleep is longer */

struct ringbuf_consumer {
	struct ringbuf_trace trace;
	pthread_t thread;
	pthread_mutex_t lock; /* of stopping */
	int joined, close_error; /* under the lock */
	int result;           /* of the thread: 0 or -errno; read once it is done or joined */
	uint64_t forks;       /* generation of the process that has the thread */
	uint64_t stop_deadline_ns; /* set before `stopping` */
	ringbuf_atomic_u32 stopping, poked, done;
	/* the thread's own: */
	uint64_t read_period_ns, switch_period_ns;
	uint64_t next_read_ns, next_switch_ns; /* absolute, CLOCK_MONOTONIC */
	int closed;           /* has seen the channel finalized and closed its packets */
};

/* The first tick after `now`. Ticks are at fixed distances: a late one delays no other. */
RINGBUF_FUNC uint64_t
ringbuf_next_tick(uint64_t tick_ns, uint64_t period_ns, uint64_t now_ns)
{
	if (now_ns < tick_ns)
		return tick_ns;
	return tick_ns + ((now_ns - tick_ns) / period_ns + 1) * period_ns;
}

/* Has the tick come? Then on to the next. */
RINGBUF_FUNC int
ringbuf_take_tick(uint64_t *tick_ns, uint64_t period_ns, uint64_t now_ns)
{
	if (now_ns < *tick_ns)
		return 0;
	*tick_ns = ringbuf_next_tick(*tick_ns, period_ns, now_ns);
	return 1;
}

/* What the thread must do in this pass. */
RINGBUF_FUNC int
ringbuf_consumer_is_due(struct ringbuf_consumer *c, uint64_t now_ns)
{
	const struct ringbuf_channel *ch = c->trace.ch;
	int due = ch->wakeup == RINGBUF_WAKEUP_WRITER || c->closed;

	if (ch->wakeup != RINGBUF_WAKEUP_NONE)
		due |= ringbuf_take_tick(&c->next_read_ns, c->read_period_ns, now_ns) |
		       (now_ns >= ringbuf_trace_retry_ns(&c->trace));
	/* O13 acquire: what was recorded before the poke. Pairs with ringbuf_consumer_poke. */
	due |= (int)ringbuf_exchange(&c->poked, 0, RINGBUF_ACQUIRE);
	return due;
}

/* Until when to sleep if nobody wakes us. */
RINGBUF_FUNC uint64_t
ringbuf_consumer_deadline(const struct ringbuf_consumer *c, uint64_t now_ns)
{
	uint64_t until = now_ns + RINGBUF_IDLE_NS;
	int reads = c->trace.ch->wakeup != RINGBUF_WAKEUP_NONE || c->closed;

	if (c->switch_period_ns)
		until = ringbuf_bounded(c->next_switch_ns, until);
	if (reads)
		until = ringbuf_bounded(c->next_read_ns > now_ns ? c->next_read_ns
								 : now_ns + c->read_period_ns,
					ringbuf_bounded(ringbuf_trace_retry_ns(&c->trace), until));
	return until;
}

/* Nobody will record any more: end the packets that a finalizer may have left, once. */
RINGBUF_FUNC void
ringbuf_consumer_close_streams(struct ringbuf_consumer *c)
{
	struct ringbuf_channel *ch = c->trace.ch;
	struct ringbuf_producer_slot *producer = ringbuf_trace_producer(&c->trace);

	for (uint32_t i = 0; producer && i < ch->n_streams; i++)
		ringbuf_close_stream(ch, producer, i);
	c->closed = 1;
}

/* Finalized, and everything is written, but for streams that cannot be any more. */
RINGBUF_FUNC int
ringbuf_consumer_is_drained(const struct ringbuf_consumer *c)
{
	const struct ringbuf_trace *t = &c->trace;

	for (uint32_t i = 0; c->closed && i < t->ch->n_streams; i++) {
		const struct ringbuf_stream_file *f = &t->files[i];

		if (!f->gone && (f->error || !ringbuf_is_drained(&f->reader)))
			return 0;
	}
	return c->closed;
}

/*
 * The thread's main part. Returns 0: to finish; -RINGBUF_E_TRUNCATED; -errno: the right to read was lost.
 * Before it sleeps it announces that, and looks once more at everything. Ordering: O8, O13.
 */
RINGBUF_FUNC int
ringbuf_consumer_run(struct ringbuf_consumer *c)
{
	struct ringbuf_trace *t = &c->trace;
	struct ringbuf_control *control = t->ch->control;
	int busy = 0, announced = 0;
	uint32_t seq = 0;

	for (;;) {
		uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);
		int ret = ringbuf_trace_is_whole(t) ? ringbuf_trace_keep_right(t) : -RINGBUF_E_TRUNCATED;

		if (ret)
			return ret;
		/* O13 acquire: the deadline. Pairs with ringbuf_consumer_stop. */
		if (ringbuf_load(&c->stopping, RINGBUF_ACQUIRE))
			return 0;
		if (!c->closed && ringbuf_is_finalized(t->ch))
			ringbuf_consumer_close_streams(c);
		if (c->switch_period_ns &&
		    ringbuf_take_tick(&c->next_switch_ns, c->switch_period_ns, now))
			ringbuf_trace_flush(t);
		if (ringbuf_consumer_is_due(c, now) || busy)
			busy = ringbuf_drain_streams(t, now);
		if (busy < 0)
			return busy;
		if (busy) {
			announced = 0;
		} else if (ringbuf_consumer_is_drained(c)) {
			return 0;
		} else if (!announced) {
			seq = ringbuf_wait_prepare(&control->data_seq, &control->data_wanted);
			announced = 1;
		} else {
			ringbuf_futex_wait(&control->data_seq, seq,
					   ringbuf_consumer_deadline(c, now));
			announced = 0;
		}
	}
}

RINGBUF_FUNC int
ringbuf_trace_is_at_limit(const struct ringbuf_trace *t)
{
	for (uint32_t i = 0; i < t->ch->n_streams; i++)
		if (!t->files[i].error && !ringbuf_file_is_at_limit(&t->files[i]))
			return 0;
	return 1;
}

/* Drain up to the limit; wait for records in flight until the deadline. Failed files are
 * left alone. Returns 0, -ETIMEDOUT or -RINGBUF_E_TRUNCATED. */
RINGBUF_FUNC int
ringbuf_drain_to_limit(struct ringbuf_trace *t, uint64_t deadline_ns)
{
	struct ringbuf_control *control = t->ch->control;

	for (;;) {
		uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);
		uint32_t seq;
		int ret;

		if (!ringbuf_trace_is_whole(t))
			return -RINGBUF_E_TRUNCATED;
		seq = ringbuf_wait_prepare(&control->data_seq, &control->data_wanted);
		ret = ringbuf_drain_streams(t, now);
		if (ret < 0)
			return ret;
		if (ret)
			continue;
		if (ringbuf_trace_is_at_limit(t))
			return 0;
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		ringbuf_futex_wait(&control->data_seq, seq,
				   ringbuf_bounded(deadline_ns, now + RINGBUF_STUCK_NS));
	}
}

/*
 * Streams that have lost records since their last packet get an empty one, like any other.
 * There is none when the channel is finalized, or when producers have filled the ring again.
 */
RINGBUF_FUNC void
ringbuf_trace_flush_losses(struct ringbuf_trace *t)
{
	struct ringbuf_producer_slot *producer = ringbuf_trace_producer(t);

	for (uint32_t i = 0; producer && i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];

		if (!f->error && f->owed > f->told)
			ringbuf_flush(t->ch, producer, i, RINGBUF_FLUSH_EMPTY);
	}
}

/* And if there was none, it is made in the file. */
RINGBUF_FUNC void
ringbuf_trace_tell_losses(struct ringbuf_trace *t)
{
	for (uint32_t i = 0; i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];
		int ret;

		if (f->error || f->owed <= f->told)
			continue;
		ret = ringbuf_file_tell_losses(t, f);
		if (ret)
			ringbuf_file_failed(t, f, -ret, ringbuf_clock_ns(CLOCK_MONOTONIC));
		else
			/* relaxed: the reader's own, as in ringbuf_put_subbuf */
			ringbuf_store(&f->reader.s->read_discarded, f->owed, RINGBUF_RELAXED);
	}
}

/* One more try for each failed file; a look at each that works. */
RINGBUF_FUNC void
ringbuf_trace_recheck(struct ringbuf_trace *t)
{
	uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);

	for (uint32_t i = 0; i < t->ch->n_streams; i++) {
		struct ringbuf_stream_file *f = &t->files[i];
		int ret;

		f->retry_ns = 0;
		f->checked_ns = now - RINGBUF_RECHECK_NS;
		ret = f->gone ? 0 : ringbuf_file_check(f, now);
		if (ret)
			ringbuf_file_failed(t, f, -ret, now);
	}
}

/* The first error that still stands, of a file, or of flushing. */
RINGBUF_FUNC int
ringbuf_trace_error(const struct ringbuf_trace *t)
{
	for (uint32_t i = 0; i < t->ch->n_streams; i++)
		if (t->files[i].error)
			return -t->files[i].error;
	return t->flush_error;
}

/* Write what is there now, and say what was lost. Returns 0 or the first error. */
RINGBUF_FUNC int
ringbuf_trace_finish(struct ringbuf_trace *t, uint64_t deadline_ns)
{
	int ret;

	ringbuf_trace_recheck(t);
	ringbuf_trace_flush(t);
	ringbuf_trace_limit(t);
	ret = ringbuf_drain_to_limit(t, deadline_ns);
	if (!ret) {
		ringbuf_trace_flush_losses(t);
		ringbuf_trace_limit(t);
		ret = ringbuf_drain_to_limit(t, deadline_ns);
	}
	if (ret == -RINGBUF_E_TRUNCATED)
		return ret;
	if (!ret)
		ringbuf_trace_tell_losses(t);
	ringbuf_trace_put_back(t);
	return ringbuf_trace_error(t) ? ringbuf_trace_error(t) : ret;
}

RINGBUF_FUNC void *
ringbuf_consumer_main(void *arg)
{
	struct ringbuf_consumer *c = (struct ringbuf_consumer *)arg;
	int ret;

	prctl(PR_SET_NAME, "ringbuf-reader");
	ringbuf_trace_producer(&c->trace); /* now: later there may be no slot to flush with */
	ret = ringbuf_consumer_run(c);
	if (!ret) {
		/* O13 acquire: as in ringbuf_consumer_run */
		int stopping = ringbuf_load(&c->stopping, RINGBUF_ACQUIRE) != 0;

		ret = ringbuf_trace_finish(&c->trace,
					   stopping ? c->stop_deadline_ns : ringbuf_deadline(RINGBUF_IN_FLIGHT_NS));
	}
	c->result = ret;
	/* O13 release: the result. Pairs with ringbuf_consumer_is_done. */
	ringbuf_store(&c->done, 1, RINGBUF_RELEASE);
	return NULL;
}

/* ---- the consumer, from outside ---- */

RINGBUF_FUNC uint64_t
ringbuf_consumer_period(uint64_t period_ns, uint64_t by_default)
{
	if (!period_ns)
		return by_default;
	/* the upper bound, 73 years, keeps sums of it from overflowing */
	return period_ns < RINGBUF_PERIOD_MIN_NS ? RINGBUF_PERIOD_MIN_NS
						 : ringbuf_bounded(period_ns, UINT64_C(1) << 61);
}

RINGBUF_FUNC void
ringbuf_consumer_set_timers(struct ringbuf_consumer *c, const struct ringbuf_consumer_options *o)
{
	uint64_t now = ringbuf_clock_ns(CLOCK_MONOTONIC);

	c->read_period_ns = ringbuf_consumer_period(
		o->read_period_ns, c->trace.ch->wakeup == RINGBUF_WAKEUP_WRITER
					   ? RINGBUF_READ_PERIOD_WRITER_NS
					   : RINGBUF_READ_PERIOD_NS);
	c->switch_period_ns = ringbuf_consumer_period(o->switch_period_ns, 0);
	c->next_read_ns = now + c->read_period_ns;
	c->next_switch_ns = now + c->switch_period_ns;
}

/* The thread takes no signals: they are for threads that know what to do with them.
 * Returns 0, or -EAGAIN, whatever forbids the thread: -EPERM would be taken for the directory's. */
RINGBUF_FUNC int
ringbuf_consumer_spawn(struct ringbuf_consumer *c)
{
	sigset_t all, saved;
	int ret;

	sigfillset(&all);
	sigdelset(&all, SIGBUS); /* a blocked fault ends the process, whatever handler there is: cut.h */
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	ret = pthread_create(&c->thread, NULL, ringbuf_consumer_main, c);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	return ret ? -EAGAIN : 0;
}

/* Forked off: the thread, the lock and the right are the parent's. */
RINGBUF_INLINE int
ringbuf_consumer_is_inherited(const struct ringbuf_consumer *c)
{
	return c->forks != ringbuf_registry.forks;
}

/*
 * ringbuf_consumer_start - write all streams of the channel to files, from now on.
 *
 * When it reads is the channel's wakeup: WRITER, when a packet is delivered;
 * TIMER, every read period; NONE, when poked, and after the channel is finalized.
 * The channel may be closed before the consumer is destroyed.
 * Callers:  any thread. Makes a thread; takes memory and descriptors.
 * Returns:  0; -EBUSY the channel has a reader; -EEXIST a stream file is there
 *           already; -EINVAL an impossible stream name; -RINGBUF_E_TRUNCATED;
 *           -errno of making the directory or the thread.
 */
RINGBUF_FUNC int
ringbuf_consumer_start(struct ringbuf_channel *ch, const struct ringbuf_consumer_options *options,
		       struct ringbuf_consumer **out)
{
	struct ringbuf_consumer *c = (struct ringbuf_consumer *)calloc(1, sizeof(*c));
	int ret = c ? ringbuf_trace_open(&c->trace, ch, options) : -ENOMEM;

	if (ret) {
		free(c);
		return ret;
	}
	c->forks = ringbuf_registry.forks;
	pthread_mutex_init(&c->lock, NULL);
	ringbuf_consumer_set_timers(c, options);
	ret = ringbuf_consumer_spawn(c);
	if (ret) {
		ringbuf_trace_put_back(&c->trace);
		ringbuf_trace_remove(&c->trace, options);
		ringbuf_trace_free(&c->trace);
		free(c);
		return ret;
	}
	*out = c;
	return 0;
}

/* Make the thread look at its flags, however deep it sleeps. Ordering: the flag was set
 * before the add, whose value the thread acquires before it looks (O14). */
RINGBUF_FUNC void
ringbuf_consumer_wake(struct ringbuf_consumer *c)
{
	struct ringbuf_control *control = c->trace.ch->control;

	if (!ringbuf_trace_is_whole(&c->trace))
		return; /* it will find out by itself, within RINGBUF_IDLE_NS */
	/* O14 release: the flag. Pairs with ringbuf_wait_prepare. */
	ringbuf_add(&control->data_seq, 1, RINGBUF_RELEASE);
	ringbuf_futex_wake_all(&control->data_seq);
}

/*
 * ringbuf_consumer_poke - read now, whatever the channel's wakeup.
 * Callers: any thread, until the consumer is destroyed. Does not wait.
 */
RINGBUF_FUNC void
ringbuf_consumer_poke(struct ringbuf_consumer *c)
{
	if (ringbuf_consumer_is_inherited(c))
		return;
	/* O13 release: what I recorded before. Pairs with ringbuf_consumer_is_due. */
	ringbuf_store(&c->poked, 1, RINGBUF_RELEASE);
	ringbuf_consumer_wake(c);
}

/*
 * ringbuf_consumer_is_done - has the thread ended by itself?
 * It does when the channel is finalized and all is written, or when the region
 * was cut short. *result is then how: 0 or an error, as of ringbuf_consumer_stop.
 */
RINGBUF_FUNC int
ringbuf_consumer_is_done(const struct ringbuf_consumer *c, int *result)
{
	/* O13 acquire: the result. Pairs with ringbuf_consumer_main. */
	if (!ringbuf_load(&c->done, RINGBUF_ACQUIRE))
		return 0;
	if (result)
		*result = c->result;
	return 1;
}

/*
 * ringbuf_consumer_stop - flush, write all that was recorded before the call, and
 * what was lost; end the thread and give up the right to read.
 *
 * Waits at most timeout_ns for records in flight (a producer stopped in the
 * middle of one), and as long as it takes for the disk. A file that failed gets
 * one more try. What could not be written stays in the ring.
 * Callers:  any thread; again is harmless.
 * Returns:  0, or the first error that still stands: -errno of a file, -EUSERS
 *           the open packets could not be flushed, -ETIMEDOUT a record was in
 *           flight, -RINGBUF_E_TRUNCATED; -ECHILD in a forked child.
 */
RINGBUF_FUNC int
ringbuf_consumer_stop(struct ringbuf_consumer *c, uint64_t timeout_ns)
{
	if (ringbuf_consumer_is_inherited(c))
		return -ECHILD;
	pthread_mutex_lock(&c->lock);
	if (!c->joined) {
		c->stop_deadline_ns = ringbuf_deadline(timeout_ns);
		/* O13 release: the deadline. Pairs with ringbuf_consumer_run. */
		ringbuf_store(&c->stopping, 1, RINGBUF_RELEASE);
		ringbuf_consumer_wake(c);
		pthread_join(c->thread, NULL);
		c->joined = 1;
		c->close_error = ringbuf_trace_close(&c->trace);
	}
	pthread_mutex_unlock(&c->lock);
	return c->result ? c->result : c->close_error;
}

/*
 * ringbuf_consumer_stats - what has been written, what has failed, how full the ring is.
 * Callers: any thread, until the consumer is destroyed.
 */
RINGBUF_FUNC void
ringbuf_consumer_stats(const struct ringbuf_consumer *c, struct ringbuf_consumer_stats *st)
{
	ringbuf_trace_stats(&c->trace, st);
}

/* ringbuf_consumer_destroy - stop without waiting for anybody, and free. Callers: one, last. */
RINGBUF_FUNC void
ringbuf_consumer_destroy(struct ringbuf_consumer *c)
{
	if (ringbuf_consumer_stop(c, 0) != -ECHILD)
		pthread_mutex_destroy(&c->lock);
	ringbuf_trace_free(&c->trace);
	free(c);
}

#endif /* RINGBUF_CONSUMER_H */
