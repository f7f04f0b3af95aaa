/*
 * ringbuf/cut.h - files that are cut short under a process that has them mapped.
 *
 * Whoever owns a region's file can truncate it, and the kernel sends SIGBUS to those who
 * then touch what is gone: it would kill a program for the sake of its trace. Calls that
 * look at the region ask first whether it is whole; a record does not, for that would
 * cost more than the record, and nobody can ask and touch in one step.
 *
 * So empty memory takes the region's place, and stays there: by those who ask, and by a
 * handler of SIGBUS, if the process wants one (ringbuf_outlive_cuts). In this memory the
 * channel is finalized: nothing is recorded any more. Everybody who asks is still told
 * that the file was cut short.
 */
#ifndef RINGBUF_CUT_H
#define RINGBUF_CUT_H

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file.h"

#if defined(RINGBUF_CERTIFICATE_HEADER) /* a model checker's: its regions are no files */

RINGBUF_FUNC int
ringbuf_is_buried(const struct ringbuf_channel *ch)
{
	(void)ch;
	return 0;
}

#define ringbuf_bury_if_cut(ch) ringbuf_is_buried(ch)
#define ringbuf_cut_watch(ch) ((void)(ch))
#define ringbuf_cut_forget(ch) ((void)(ch))
#define ringbuf_cut_fork_child() ((void)0)

#else

/*
 * Of the process: the channels whose files can be cut short. A handler walks them at any
 * moment, so a channel leaves the list, and waits for the handlers at work, before it is freed.
 */
struct ringbuf_cut_list {
	ringbuf_atomic_u64 first;    /* struct ringbuf_channel *; changed under the registry's lock */
	ringbuf_atomic_u64 handlers; /* at work now */
	struct sigaction before;     /* what SIGBUS did before us */
	ringbuf_atomic_u64 has_handler;
};

/* Weak: one in an object, however many of its files include this. */
__attribute__((weak, visibility("hidden"))) struct ringbuf_cut_list ringbuf_cut_list;

#define RINGBUF_MREMAP_OVER (1u | 2u) /* MREMAP_MAYMOVE | MREMAP_FIXED, which the C library has with _GNU_SOURCE only */

/*
 * Put empty memory in the region's place. In one step: a thread that records meanwhile finds
 * the old or the new. Two may do it at once; the second throws away what the first put there.
 * Callers: also a signal handler. Returns whether it is there.
 */
RINGBUF_FUNC int
ringbuf_bury(struct ringbuf_channel *ch)
{
	size_t control = (size_t)((uint8_t *)ch->control - ch->base);
	uint8_t *empty = (uint8_t *)mmap(NULL, ch->region_size, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (empty == MAP_FAILED)
		return 0;
	/* relaxed: nobody else has this memory yet */
	ringbuf_store(&((struct ringbuf_control *)(void *)(empty + control))->state,
		      RINGBUF_STATE_DISABLED | RINGBUF_STATE_FINALIZED, RINGBUF_RELAXED);
	if (syscall(SYS_mremap, empty, ch->region_size, ch->region_size, RINGBUF_MREMAP_OVER, ch->base) == -1) {
		munmap(empty, ch->region_size);
		return 0;
	}
	/* relaxed: who sees it late asks the file once more */
	ringbuf_store(&ch->buried, 1, RINGBUF_RELAXED);
	return 1;
}

/* Is empty memory in the region's place? */
RINGBUF_FUNC int
ringbuf_is_buried(struct ringbuf_channel *ch)
{
	return (int)ringbuf_load(&ch->buried, RINGBUF_RELAXED); /* relaxed: who sees it late asks the file once more */
}

/* Callers: also a signal handler. Returns whether the region is gone, and touching its memory is safe. */
RINGBUF_FUNC int
ringbuf_bury_if_cut(struct ringbuf_channel *ch)
{
	return ringbuf_is_buried(ch) || (!ringbuf_is_whole(ch) && ringbuf_bury(ch));
}

/* ---- the list ---- */

RINGBUF_FUNC struct ringbuf_channel *
ringbuf_cut_next(ringbuf_atomic_u64 *link)
{
	/* O20 acquire: a channel in the list is complete. seq_cst: see ringbuf_cut_forget. */
	return (struct ringbuf_channel *)(uintptr_t)ringbuf_load(link, RINGBUF_SEQ_CST);
}

/* From here on a handler looks after the channel. Under the registry's lock. */
RINGBUF_FUNC void
ringbuf_cut_watch(struct ringbuf_channel *ch)
{
	if (ch->is_sealed)
		return;
	/* relaxed: under the lock; the store below publishes it */
	ringbuf_store(&ch->cut_next, ringbuf_load(&ringbuf_cut_list.first, RINGBUF_RELAXED), RINGBUF_RELAXED);
	/* O20 release: the channel is complete. Pairs with the load in ringbuf_cut_next. */
	ringbuf_store(&ringbuf_cut_list.first, (uint64_t)(uintptr_t)ch, RINGBUF_RELEASE);
}

/* No handler will touch the channel any more. Under the registry's lock. */
RINGBUF_FUNC void
ringbuf_cut_forget(struct ringbuf_channel *ch)
{
	ringbuf_atomic_u64 *link = &ringbuf_cut_list.first;
	struct ringbuf_channel *at;

	if (ch->is_sealed)
		return;
	while ((at = ringbuf_cut_next(link)) != ch)
		link = &at->cut_next;
	/*
	 * O20 acquire, release, and seq_cst, all four: a handler counts itself and then reads the links (ringbuf_bury_all,
	 * ringbuf_cut_next); here the link changes and then the count is read. One of the two sees the other. relaxed,
	 * the link of its own: it changes under the lock.
	 */
	ringbuf_store(link, ringbuf_load(&ch->cut_next, RINGBUF_RELAXED), RINGBUF_SEQ_CST);
	while (ringbuf_load(&ringbuf_cut_list.handlers, RINGBUF_SEQ_CST))
		sched_yield();
}

/* A forked child has none of its parent's other threads, which may have been in a handler. */
RINGBUF_FUNC void
ringbuf_cut_fork_child(void)
{
	ringbuf_store(&ringbuf_cut_list.handlers, 0, RINGBUF_RELAXED); /* relaxed: the child has one thread */
}

/* ---- SIGBUS ---- */

/* Bury all that was cut short. Returns whether `at` is safe to touch now, or something was found: then try again. */
RINGBUF_FUNC int
ringbuf_bury_all(const uint8_t *at)
{
	int found = 0;

	ringbuf_add(&ringbuf_cut_list.handlers, 1, RINGBUF_SEQ_CST); /* O20 acquire: see ringbuf_cut_forget */
	for (struct ringbuf_channel *ch = ringbuf_cut_next(&ringbuf_cut_list.first); ch;
	     ch = ringbuf_cut_next(&ch->cut_next)) {
		if (ringbuf_is_buried(ch))
			found |= at >= ch->base && at < ch->base + ch->region_size;
		else
			found |= ringbuf_bury_if_cut(ch);
	}
	ringbuf_add(&ringbuf_cut_list.handlers, (uint64_t)-1, RINGBUF_SEQ_CST); /* O20 release: I touch no channel any more */
	return found;
}

/* Not ours: do what would have been done. */
RINGBUF_FUNC void
ringbuf_sigbus_before(int signal, siginfo_t *info, void *context)
{
	const struct sigaction *before = &ringbuf_cut_list.before;
	int was_sent = info->si_code <= 0;

	if (before->sa_flags & SA_SIGINFO) {
		before->sa_sigaction(signal, info, context);
	} else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
		before->sa_handler(signal);
	} else if (before->sa_handler == SIG_DFL || !was_sent) {
		/* a fault is not ignored. It comes again, by itself, and ends the process as if we had not been here. */
		struct sigaction end;

		memset(&end, 0, sizeof(end));
		sigaction(signal, &end, NULL);
		if (was_sent)
			raise(signal); /* when this handler returns */
	}
}

/* The thread goes on where it was: at memory that is empty now. */
RINGBUF_FUNC void
ringbuf_on_sigbus(int signal, siginfo_t *info, void *context)
{
	int error = errno;

	if (!ringbuf_bury_all(info->si_code > 0 ? (const uint8_t *)info->si_addr : NULL))
		ringbuf_sigbus_before(signal, info, context);
	errno = error;
}

/*
 * ringbuf_outlive_cuts - from now on a file that is cut short ends its recording, and not the process.
 *
 * A handler of SIGBUS is installed, once in a process; what it does not know goes to the one before it. A program that
 * installs its own later decides itself, and may call ours.
 * Callers: any thread. The object that holds this code must not be unloaded.
 * Returns: 0 or -errno.
 */
RINGBUF_FUNC int
ringbuf_outlive_cuts(void)
{
	struct sigaction ours;

	if (ringbuf_exchange(&ringbuf_cut_list.has_handler, 1, RINGBUF_RELAXED)) /* relaxed: one of all is the first */
		return 0;
	memset(&ours, 0, sizeof(ours));
	ours.sa_sigaction = ringbuf_on_sigbus;
	ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigemptyset(&ours.sa_mask);
	return sigaction(SIGBUS, &ours, &ringbuf_cut_list.before) ? -errno : 0;
}

#endif /* RINGBUF_CERTIFICATE_HEADER */

#endif /* RINGBUF_CUT_H */
