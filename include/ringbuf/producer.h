/*
 * ringbuf/producer.h - a thread's place among a channel's producers.
 *
 * A thread that records holds a slot of the channel's producer table, and in
 * it the certificate: a lock that it keeps locked for its life. When the thread
 * dies, whatever killed it, the kernel frees it, in any PID namespace; what it
 * does not free, after an exec by a thread that is not the first, is found by the
 * process image, and had all the same (image.h). A slot whose certificate can be
 * had is nobody's; if its ledger is not idle, its owner died over a record, and a
 * repairer must come before the slot is used again.
 *
 * The kernel finds a thread's locks by a list that runs through the mapping, so
 * a mapping stays until every thread of this process that recorded into it has
 * given its slot back: at its exit, at its next registration with any channel, or
 * when it closes the channel itself.
 *
 * All of this is the slow side: once for each thread and channel.
 */
#ifndef RINGBUF_PRODUCER_H
#define RINGBUF_PRODUCER_H

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "context.h"
#include "cut.h"
#include "reserve.h"

/* One thread's registration with one channel; private memory. */
struct ringbuf_producer {
	struct ringbuf_producer_slot *slot;
	struct ringbuf_channel *channel;
	uint64_t channel_id;
	struct ringbuf_producer *next_of_channel, *next_of_thread;
	uint32_t context_size;
	uint8_t context[RINGBUF_CONTEXT_BLOCK_MAX];
};

/* The thread's registrations; the last one used is found by one comparison. One word says
 * which that is: a signal handler may use another channel between any two stores. */
struct ringbuf_thread {
	struct ringbuf_producer *last;
	struct ringbuf_producer *producers;
};

/* The right to read some streams: a locked descriptor (channel.h) of `file`. Caller-allocated. */
struct ringbuf_right {
	int fd;
	struct ringbuf_identity file;
	struct ringbuf_right *next;
};

/* Of the process: all open channels and rights, so that a forked child can tidy up. */
struct ringbuf_registry {
	pthread_mutex_t lock;
	pthread_once_t once;
	pthread_key_t thread_exit;
	int ready;
	uint64_t last_channel_id;
	uint64_t forks; /* generations of this process: a reservation belongs to one */
	struct ringbuf_channel *channels;
	struct ringbuf_right *rights;
};

/* Weak: one of each in an object, however many of its files include this. */
__attribute__((weak, visibility("hidden"))) RINGBUF_THREAD_LOCAL struct ringbuf_thread
	ringbuf_thread_self = {NULL, NULL};
__attribute__((weak, visibility("hidden"))) struct ringbuf_registry ringbuf_registry = {
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_ONCE_INIT, 0, 0, 0, 0, NULL, NULL};

/* The caller's process start time in clock ticks since boot, 0 if /proc is not there. */
RINGBUF_FUNC uint64_t
ringbuf_process_start(void)
{
	char buf[1024], *p;
	unsigned long long start = 0;
	FILE *f = fopen("/proc/self/stat", "re");

	if (!f)
		return 0;
	p = fgets(buf, sizeof(buf), f) ? strrchr(buf, ')') : NULL;
	fclose(f);
	for (int field = 2; p && field < 22; field++) /* starttime is the 22nd */
		p = strchr(p + 1, ' ');
	if (p)
		start = strtoull(p, NULL, 10);
	return start;
}

/* Repairers look at the first `producers_used` slots. Ordering: O7. */
RINGBUF_FUNC void
ringbuf_note_slot_used(const struct ringbuf_channel *ch, uint32_t idx)
{
	uint32_t used = ringbuf_load(&ch->control->producers_used, RINGBUF_RELAXED); /* the swap checks it */

	/* relaxed: before my first claim, whose swap releases (O1) to whoever sees the position moved */
	while (used <= idx && !ringbuf_cas(&ch->control->producers_used, &used, idx + 1, RINGBUF_RELAXED,
					   RINGBUF_RELAXED))
		;
}

/* Take a free slot of the table; `from_dead_images`: look for more than the kernel has freed. Returns NULL if
 * there is none. */
RINGBUF_FUNC struct ringbuf_producer_slot *
ringbuf_find_producer_slot(const struct ringbuf_channel *ch, int from_dead_images)
{
	for (uint32_t i = 0; i < ch->n_producers; i++) {
		struct ringbuf_producer_slot *slot = ringbuf_producer_slot_at(ch, i);

		if (from_dead_images ? ringbuf_certificate_take(ch, &slot->certificate)
				     : ringbuf_certificate_try(ch, &slot->certificate))
			continue; /* its owner lives */
		if (!ringbuf_ledger_is_clear(slot)) {
			ringbuf_robust_unlock(&slot->certificate); /* died over a record: a repairer's */
			continue;
		}
		ringbuf_note_slot_used(ch, i);
		/* relaxed: told to people, and read of the dead */
		ringbuf_store(&slot->pid, (uint32_t)getpid(), RINGBUF_RELAXED);
		ringbuf_store(&slot->tid, (uint32_t)syscall(SYS_gettid), RINGBUF_RELAXED);
		ringbuf_store(&slot->start, ringbuf_process_start(), RINGBUF_RELAXED);
		prctl(PR_GET_NAME, slot->name);
		RINGBUF_TESTPOINT(producer_registered);
		return slot;
	}
	return NULL;
}

/* The same; slots that the dead keep are freed by repairing what they left. */
RINGBUF_FUNC struct ringbuf_producer_slot *
ringbuf_take_producer_slot(const struct ringbuf_channel *ch)
{
	struct ringbuf_producer_slot *slot = ringbuf_find_producer_slot(ch, 0);

	if (!slot) {
		ringbuf_repair(ch);
		slot = ringbuf_find_producer_slot(ch, 1);
	}
	return slot;
}

/* ---- the process's registry ---- */

/*
 * The last reference to a closed channel is gone. Under the registry's lock. Who has it `kept`
 * goes on looking at what it was, and frees it: ringbuf_channel_forget.
 */
RINGBUF_FUNC void
ringbuf_channel_unref(struct ringbuf_channel *ch)
{
	struct ringbuf_channel **link = &ringbuf_registry.channels;

	if (--ch->refs)
		return;
	while (*link != ch)
		link = &(*link)->registry_next;
	*link = ch->registry_next;
	ringbuf_cut_forget(ch);
	ringbuf_end_image(ch);
	if (!ringbuf_is_buried(ch)) /* else it stays: cut.h */
		munmap(ch->base, ch->region_size);
	ringbuf_close_ours(ch->fd, &ch->file);
	ch->fd = -1;
	if (!ch->kept) {
		free(ch->path);
		free(ch);
	}
}

/* The end of what was `kept`: at once, or with the last thread that has recorded into it. Once, after closing. */
RINGBUF_FUNC void
ringbuf_channel_forget(struct ringbuf_channel *ch)
{
	pthread_mutex_lock(&ringbuf_registry.lock);
	ch->kept = 0;
	if (!ch->refs) {
		free(ch->path);
		free(ch);
	}
	pthread_mutex_unlock(&ringbuf_registry.lock);
}

RINGBUF_FUNC void
ringbuf_unlink_producer(struct ringbuf_producer *p)
{
	struct ringbuf_producer **link = &p->channel->producers;

	while (*link != p)
		link = &(*link)->next_of_channel;
	*link = p->next_of_channel;
}

/* Give back the calling thread's slots: all, or those of `ch`, or of closed channels. */
RINGBUF_FUNC void
ringbuf_release_producers(struct ringbuf_thread *self, const struct ringbuf_channel *ch, int all)
{
	struct ringbuf_producer **link = &self->producers;

	pthread_mutex_lock(&ringbuf_registry.lock);
	self->last = NULL;
	for (struct ringbuf_producer *p = self->producers; p; p = p->next_of_thread)
		ringbuf_bury_if_cut(p->channel); /* giving back another may touch it: a list of locks runs through all */
	while (*link) {
		struct ringbuf_producer *p = *link;

		if (!all && p->channel != ch && !p->channel->closed) {
			link = &p->next_of_thread;
			continue;
		}
		*link = p->next_of_thread;
		ringbuf_unlink_producer(p);
		/* a ledger entry left open makes its record torn, as a death would */
		ringbuf_robust_unlock(&p->slot->certificate);
		ringbuf_channel_unref(p->channel);
		free(p);
	}
	pthread_mutex_unlock(&ringbuf_registry.lock);
}

RINGBUF_FUNC void
ringbuf_thread_exits(void *self)
{
	ringbuf_release_producers((struct ringbuf_thread *)self, NULL, 1);
}

RINGBUF_FUNC void
ringbuf_fork_prepare(void)
{
	pthread_mutex_lock(&ringbuf_registry.lock);
	for (struct ringbuf_channel *ch = ringbuf_registry.channels; ch; ch = ch->registry_next)
		if (ringbuf_bury_if_cut(ch))
			ch->child_fd = -1; /* the child has the empty memory */
		else
			ringbuf_prepare_child(ch);
}

RINGBUF_FUNC void
ringbuf_fork_parent(void)
{
	for (struct ringbuf_channel *ch = ringbuf_registry.channels; ch; ch = ch->registry_next)
		ringbuf_leave_child(ch);
	pthread_mutex_unlock(&ringbuf_registry.lock);
}

/* A child owns none of its parent's slots and rights: it forgets them, and leaves them alone. */
RINGBUF_FUNC void
ringbuf_fork_child(void)
{
	struct ringbuf_channel *ch, *next;

	ringbuf_registry.forks++;
	ringbuf_cut_fork_child();
	ringbuf_robust_fork_child();
	memset(&ringbuf_thread_self, 0, sizeof(ringbuf_thread_self));
	for (struct ringbuf_right *r = ringbuf_registry.rights; r; r = r->next) {
		ringbuf_close_ours(r->fd, &r->file); /* the parent's copy keeps the lock, and its death ends it */
		r->fd = -1;
	}
	ringbuf_registry.rights = NULL;
	for (ch = ringbuf_registry.channels; ch; ch = next) {
		next = ch->registry_next;
		ch->refs++; /* until this loop is done with it */
		ch->image_lock = NULL; /* the parent's: this image has no such mapping */
		while (ch->producers) {
			struct ringbuf_producer *p = ch->producers;

			ch->producers = p->next_of_channel;
			free(p);
			ch->refs--;
		}
		if (!ch->closed && !ringbuf_is_buried(ch)) {
			ringbuf_part_from_parent(ch);
			ringbuf_begin_image(ch);
		}
		ringbuf_channel_unref(ch);
	}
	pthread_mutex_unlock(&ringbuf_registry.lock); /* of ringbuf_fork_prepare */
}

RINGBUF_FUNC void
ringbuf_registry_init(void)
{
	if (pthread_key_create(&ringbuf_registry.thread_exit, ringbuf_thread_exits))
		return;
	if (pthread_atfork(ringbuf_fork_prepare, ringbuf_fork_parent, ringbuf_fork_child))
		return;
	ringbuf_registry.ready = 1;
}

/* ---- this thread's producer ---- */

RINGBUF_FUNC int
ringbuf_register_producer(struct ringbuf_channel *ch)
{
	struct ringbuf_thread *self = &ringbuf_thread_self;
	struct ringbuf_producer *p = (struct ringbuf_producer *)calloc(1, sizeof(*p));
	size_t size;

	if (!p)
		return -ENOMEM;
	size = ringbuf_encode_contexts(ch->contexts, p->context, sizeof(p->context));
	if (size > sizeof(p->context)) {
		free(p);
		return -EINVAL;
	}
	p->context_size = (uint32_t)size;
	ringbuf_release_producers(self, NULL, 0); /* of channels closed since */
	if (pthread_setspecific(ringbuf_registry.thread_exit, self) ||
	    !(p->slot = ringbuf_take_producer_slot(ch))) {
		free(p);
		return -EUSERS;
	}
	pthread_mutex_lock(&ringbuf_registry.lock);
	p->channel = ch;
	p->channel_id = ch->id;
	p->next_of_thread = self->producers;
	self->producers = p;
	p->next_of_channel = ch->producers;
	ch->producers = p;
	ch->refs++;
	pthread_mutex_unlock(&ringbuf_registry.lock);
	return 0;
}

RINGBUF_SLOW struct ringbuf_producer *
ringbuf_this_producer_slow(struct ringbuf_channel *ch)
{
	struct ringbuf_thread *self = &ringbuf_thread_self;
	int tried = 0;

	for (;;) {
		for (struct ringbuf_producer *p = self->producers; p; p = p->next_of_thread)
			if (p->channel_id == ch->id) {
				self->last = p;
				return p;
			}
		if (tried++ || ringbuf_register_producer(ch))
			return NULL;
	}
}

/*
 * ringbuf_known_producer - the calling thread's registration, or NULL: nothing is made.
 * Who has one has the mapping too, whoever closes the channel meanwhile, until it exits, registers
 * with another channel or closes this one itself.
 */
RINGBUF_INLINE struct ringbuf_producer *
ringbuf_known_producer(const struct ringbuf_channel *ch)
{
	struct ringbuf_producer *p = ringbuf_thread_self.last;

	if (RINGBUF_LIKELY(p && p->channel_id == ch->id))
		return p;
	for (p = ringbuf_thread_self.producers; p && p->channel_id != ch->id; p = p->next_of_thread)
		;
	return p;
}

/*
 * ringbuf_this_producer - the calling thread's registration, made on first use.
 * Returns NULL if all slots are taken. The first call in a thread takes locks
 * and memory: a thread that records from signal handlers makes it beforehand.
 */
RINGBUF_INLINE struct ringbuf_producer *
ringbuf_this_producer(struct ringbuf_channel *ch)
{
	struct ringbuf_producer *last = ringbuf_thread_self.last;

	if (RINGBUF_LIKELY(last && last->channel_id == ch->id))
		return last;
	return ringbuf_this_producer_slow(ch);
}

/* Is this slot of the channel's table the calling thread's? Thread ids would not tell: they are used again. */
RINGBUF_FUNC int
ringbuf_is_own_slot(const struct ringbuf_channel *ch, const struct ringbuf_producer_slot *slot)
{
	for (struct ringbuf_producer *p = ringbuf_thread_self.producers; p; p = p->next_of_thread)
		if (p->channel_id == ch->id)
			return p->slot == slot;
	return 0;
}

/* ---- records, for the calling thread ---- */

/* A producer about to wait for room in the stream: announce it, then try once more, then
 * ringbuf_wait_for_space with the value returned. */
RINGBUF_INLINE uint32_t
ringbuf_space_wanted(const struct ringbuf_channel *ch, uint32_t stream_idx)
{
	struct ringbuf_stream *s = ringbuf_stream_at(ch, stream_idx);

	return ringbuf_wait_prepare(&s->space_seq, &s->space_wanted);
}

/* Sleep until the stream's reader has released a packet, the state has changed, a step or
 * the deadline is over. Returns as ringbuf_futex_wait. */
RINGBUF_FUNC int
ringbuf_wait_for_space(const struct ringbuf_channel *ch, uint32_t stream_idx, uint32_t seq,
		       uint64_t deadline_ns)
{
	uint64_t step = ringbuf_deadline(RINGBUF_WAIT_STEP_NS);

	/* O8 seq_cst: the try before may have seen an old state, the next one will not. Pairs
	 * with ringbuf_set_state. */
	if (ringbuf_load(&ch->control->state, RINGBUF_SEQ_CST))
		return 0;
	return ringbuf_futex_wait(&ringbuf_stream_at(ch, stream_idx)->space_seq, seq,
				  step < deadline_ns ? step : deadline_ns);
}

/* No other record of this thread is open: it may wait without waiting for itself. */
RINGBUF_FUNC int
ringbuf_may_block(const struct ringbuf_producer_slot *producer)
{
	return ringbuf_ledger_is_idle(producer);
}

/* Try until the deadline, sleeping in between; the last try counts the loss. */
RINGBUF_SLOW int
ringbuf_reserve_blocking(struct ringbuf_channel *ch, struct ringbuf_producer_slot *producer,
			 struct ringbuf_reservation *r, uint64_t timeout_ns)
{
	uint64_t deadline = ringbuf_may_block(producer) ? ringbuf_deadline(timeout_ns) : 0;
	int ret = -EAGAIN;

	while (ret == -EAGAIN) {
		uint32_t stream_idx = r->stream_idx, seq = ringbuf_space_wanted(ch, stream_idx);

		if (ringbuf_clock_ns(CLOCK_MONOTONIC) >= deadline)
			r->flags &= ~RINGBUF_NONBLOCK;
		else
			r->flags |= RINGBUF_NONBLOCK;
		ret = ringbuf_reserve_as(ch, producer, r);
		if (ret == -EAGAIN && r->stream_idx == stream_idx) /* or migrated: announce there */
			ringbuf_wait_for_space(ch, stream_idx, seq, deadline);
	}
	r->flags &= ~RINGBUF_NONBLOCK;
	return ret;
}

/* In a channel with a client of its own, or one that blocks. */
RINGBUF_SLOW int
ringbuf_reserve_rare(struct ringbuf_channel *ch, struct ringbuf_producer_slot *producer,
		     struct ringbuf_reservation *r)
{
	uint32_t flags = r->flags;
	int ret;

	if (ch->blocking_timeout_ns && !(flags & RINGBUF_NOWAIT))
		r->flags |= RINGBUF_NONBLOCK;
	ret = ringbuf_reserve_as(ch, producer, r);
	r->flags = flags;
	if (ret == -EAGAIN && !(flags & RINGBUF_NONBLOCK))
		ret = ringbuf_reserve_blocking(ch, producer, r, ch->blocking_timeout_ns);
	return ret;
}

/*
 * ringbuf_reserve - claim space for one record of the calling thread.
 *
 * In a channel created with a blocking time-out (discard mode), waits for room
 * at most that long; a record nested in another of the same thread does not.
 * Without a context block of the caller's own, the thread's is used.
 * Returns: as ringbuf_reserve_with, and -EUSERS: no producer slot, counted.
 */
RINGBUF_INLINE int
ringbuf_reserve(struct ringbuf_channel *ch, struct ringbuf_reservation *r)
{
	struct ringbuf_producer *self = ringbuf_this_producer(ch);
	struct ringbuf_reservation copy;
	int ret;

	if (RINGBUF_UNLIKELY(!self))
		return ringbuf_refuse_here(ch, RINGBUF_LOST_SLOTS, ringbuf_n_records(r));
	if (!r->context) {
		r->context = self->context;
		r->context_size = self->context_size;
	}
	if (RINGBUF_LIKELY(!ch->is_rare))
		return ringbuf_reserve_with(NULL, ch, self->slot, r);
	copy = *r; /* as in ringbuf_reserve_with */
	ret = ringbuf_reserve_rare(ch, self->slot, &copy);
	*r = copy;
	return ret;
}

#endif /* RINGBUF_PRODUCER_H */
