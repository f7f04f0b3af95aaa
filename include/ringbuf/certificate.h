/*
 * ringbuf/certificate.h - locks that the kernel marks when their owner dies.
 *
 * A word in shared memory that has its owner's thread id, and a link. Each
 * thread has a list of the locks that it holds, which the kernel walks when the
 * thread dies, whatever killed it, in any PID namespace: a word that still has
 * the thread's id loses it. The next to lock it sees all that the dead one wrote.
 *
 * Two things the kernel does not free. When a thread execs that is not its
 * process's first, it takes the first one's id, and only then is its list walked:
 * the words have an id that is no longer its own. And the links lie in shared
 * memory: where somebody scribbled on one, or cut a file short, the walk ends
 * before the locks of other channels. So beside the id stands the number of the
 * owner's process image, whose end is seen otherwise (image.h). The two change
 * as one 64-bit word; the kernel changes its half alone. An image's number is
 * given once: what a dead image holds is never held again in these words, so
 * taking it from there needs no more than one swap.
 *
 * The list is the C library's, for its own robust mutexes. Those will not do:
 * they keep pointers in shared memory and follow them, so whoever writes there
 * could make a thread that unlocks write anywhere. Here a thread knows from its
 * own memory what it holds. It puts two private sentinel links into the list and
 * keeps its locks between them, so that the library only ever edits links in
 * private memory, never in the shared region. Of a lock in the region only the
 * word is read, and it decides nothing but whether the lock is free.
 *
 * A signal handler over a call of these, or of the library's for a robust mutex,
 * gets no lock: both have the list in their hands. Elsewhere it may lock and
 * unlock, on a thread that has locked before. RINGBUF_CERTIFICATE_HEADER, if
 * defined, names a header that supplies all of it (a model checker's: its threads
 * do not die).
 */
#ifndef RINGBUF_CERTIFICATE_H
#define RINGBUF_CERTIFICATE_H

#if defined(RINGBUF_CERTIFICATE_HEADER)
#include RINGBUF_CERTIFICATE_HEADER
#else

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "atomic.h"

#define RINGBUF_ROBUST_PAUSE_NS 100000 /* between tries for what is had for microseconds */
#ifndef RINGBUF_ROBUST_WAIT_MS
#define RINGBUF_ROBUST_WAIT_MS 5000
#endif

/*
 * The library decides how far the word is from the link; a link of its list has
 * a link back just before it, which the kernel does not look at.
 */
struct ringbuf_robust {
	uint32_t words[6];
	struct robust_list *back;
	struct robust_list link;
};

#if defined(__cplusplus)
static_assert(sizeof(struct ringbuf_robust) <= sizeof(pthread_mutex_t), "it takes a mutex's place");
#else
_Static_assert(sizeof(struct ringbuf_robust) <= sizeof(pthread_mutex_t), "it takes a mutex's place");
#endif

#define RINGBUF_ROBUST_FEW 4
#define RINGBUF_ROBUST_MANY 512 /* a page of them; not malloc's, for signal handlers */

/* What the calling thread holds. Private memory. */
struct ringbuf_robust_self {
	struct robust_list_head *list;     /* the kernel's, of this thread; NULL: not looked for yet */
	uint32_t tid, n, room;
	volatile int is_busy;              /* in the middle of a call */
	struct ringbuf_robust first, last; /* our links in it: the locks are between them */
	struct ringbuf_robust **held;      /* in the order they were locked */
	struct ringbuf_robust *few[RINGBUF_ROBUST_FEW];
	struct robust_list_head unknown;   /* a list that the kernel does not know of */
};

/* Weak: one in an object, however many of its files include this. */
__attribute__((weak, visibility("hidden"))) RINGBUF_THREAD_LOCAL struct ringbuf_robust_self ringbuf_robust_self;

/* Is the library's distance from the link to the word like that of any other library? */
RINGBUF_FUNC int
ringbuf_robust_is_usual(long futex_offset)
{
	return futex_offset % 4 == 0 && futex_offset < -(long)sizeof(struct robust_list *) &&
	       futex_offset >= -(long)offsetof(struct ringbuf_robust, link);
}

/* A lock's owner: the half that the kernel knows is the thread id, the other one the image. */
RINGBUF_INLINE ringbuf_atomic_u64 *
ringbuf_robust_owner(const struct ringbuf_robust_self *self, struct ringbuf_robust *m)
{
	uintptr_t word = (uintptr_t)&m->link + (uintptr_t)self->list->futex_offset;

	return (ringbuf_atomic_u64 *)(word & ~(uintptr_t)7);
}

/* From or to: thread id in the lower half, image in the upper one. Some libraries have the kernel's word
 * in the upper half. */
RINGBUF_INLINE uint64_t
ringbuf_robust_turned(const struct ringbuf_robust_self *self, uint64_t owner)
{
	return self->list->futex_offset & 4 ? owner >> 32 | owner << 32 : owner;
}

RINGBUF_INLINE struct ringbuf_robust *
ringbuf_robust_of(pthread_mutex_t *m)
{
	return (struct ringbuf_robust *)(void *)m;
}

RINGBUF_FUNC int
ringbuf_robust_mutex_init(pthread_mutex_t *m)
{
	memset((void *)m, 0, sizeof(*m));
	return 0;
}

/* ---- the list ---- */

/* The link back of the neighbour behind us, if there is one. Its lowest bit says of what kind it is. */
RINGBUF_FUNC void
ringbuf_robust_set_back(const struct ringbuf_robust_self *self, struct robust_list *neighbour,
			struct robust_list *back)
{
	neighbour = (struct robust_list *)((uintptr_t)neighbour & ~(uintptr_t)1);
	if (neighbour != &self->list->list)
		((struct robust_list **)(void *)neighbour)[-1] = back;
}

/* Our two links, at the head of the list. The fences: I may die at any instruction. */
RINGBUF_FUNC void
ringbuf_robust_join(struct ringbuf_robust_self *self)
{
	struct robust_list *head = &self->list->list;

	self->first.back = head;
	self->first.link.next = &self->last.link;
	self->last.back = &self->first.link;
	self->last.link.next = head->next;
	ringbuf_robust_set_back(self, head->next, &self->last.link);
	ringbuf_signal_fence();
	head->next = &self->first.link;
}

RINGBUF_FUNC void
ringbuf_robust_leave(struct ringbuf_robust_self *self)
{
	self->first.back->next = self->last.link.next;
	ringbuf_signal_fence();
	ringbuf_robust_set_back(self, self->last.link.next, self->first.back);
}

/* The newest is the first in the list. */
RINGBUF_FUNC void
ringbuf_robust_link(struct ringbuf_robust_self *self, struct ringbuf_robust *m)
{
	m->link.next = self->first.link.next;
	ringbuf_signal_fence();
	self->first.link.next = &m->link;
	self->held[self->n++] = m;
}

/* What comes after the i-th is what was locked before it. */
RINGBUF_FUNC void
ringbuf_robust_unlink(struct ringbuf_robust_self *self, uint32_t i)
{
	struct ringbuf_robust *newer = i + 1 < self->n ? self->held[i + 1] : &self->first;

	newer->link.next = i ? &self->held[i - 1]->link : &self->last.link;
	if (i < --self->n)
		memmove((void *)(self->held + i), (void *)(self->held + i + 1), (self->n - i) * sizeof(*self->held));
}

/* ---- what the thread holds ---- */

RINGBUF_FUNC void
ringbuf_robust_free(struct ringbuf_robust_self *self)
{
	if (self->room > RINGBUF_ROBUST_FEW)
		munmap((void *)self->held, self->room * sizeof(*self->held));
}

/* Nothing more is held. */
RINGBUF_FUNC void
ringbuf_robust_end(struct ringbuf_robust_self *self)
{
	ringbuf_robust_leave(self);
	ringbuf_robust_free(self);
	self->held = self->few;
	self->room = RINGBUF_ROBUST_FEW;
}

/* Some libraries (musl) make the list with their first robust mutex that processes share. */
RINGBUF_FUNC void
ringbuf_robust_make_list(void)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t m;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&m, &attr);
	pthread_mutex_lock(&m);
	pthread_mutex_unlock(&m);
	pthread_mutex_destroy(&m);
	pthread_mutexattr_destroy(&attr);
}

/* Where the kernel has no such lists (under qemu's user emulation), nobody notices a death. */
RINGBUF_FUNC struct robust_list_head *
ringbuf_robust_unknown_list(struct ringbuf_robust_self *self)
{
	self->unknown.list.next = &self->unknown.list;
	self->unknown.futex_offset = -(long)offsetof(struct ringbuf_robust, link);
	return &self->unknown;
}

RINGBUF_FUNC struct robust_list_head *
ringbuf_robust_known_list(void)
{
	struct robust_list_head *list = NULL;
	size_t size;

	return syscall(SYS_get_robust_list, 0, &list, &size) ? NULL : list;
}

/* Once in a thread. Returns 0 or -errno. */
RINGBUF_SLOW int
ringbuf_robust_find_list(struct ringbuf_robust_self *self)
{
	struct robust_list_head *list = ringbuf_robust_known_list();

	if (!list) {
		ringbuf_robust_make_list();
		list = ringbuf_robust_known_list();
	}
	if (!list && errno == ENOSYS)
		list = ringbuf_robust_unknown_list(self);
	if (!list || !ringbuf_robust_is_usual(list->futex_offset))
		return -ENOTSUP;
	self->list = list;
	self->tid = (uint32_t)syscall(SYS_gettid);
	self->held = self->few;
	self->room = RINGBUF_ROBUST_FEW;
	return 0;
}

/* May the calling thread hold locks whose end the kernel sees to? Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_robust_check(void)
{
	return ringbuf_robust_self.list ? 0 : ringbuf_robust_find_list(&ringbuf_robust_self);
}

/* Room for more. Returns 0 or -ENOMEM. */
RINGBUF_SLOW int
ringbuf_robust_grow(struct ringbuf_robust_self *self)
{
	uint32_t room = self->room < RINGBUF_ROBUST_MANY ? RINGBUF_ROBUST_MANY : 2 * self->room;
	void *held = mmap(NULL, room * sizeof(*self->held), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (held == MAP_FAILED)
		return -ENOMEM;
	memcpy(held, (void *)self->held, self->n * sizeof(*self->held));
	ringbuf_robust_free(self);
	self->held = (struct ringbuf_robust **)held;
	self->room = room;
	return 0;
}

/* Ready for one more lock. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_robust_begin(struct ringbuf_robust_self *self)
{
	int ret = self->list ? 0 : ringbuf_robust_find_list(self);

	if (!ret && self->n == self->room)
		ret = ringbuf_robust_grow(self);
	if (!ret && !self->n)
		ringbuf_robust_join(self);
	return ret;
}

/* A forked child holds nothing: the C library has emptied its list. */
RINGBUF_FUNC void
ringbuf_robust_fork_child(void)
{
	ringbuf_robust_free(&ringbuf_robust_self);
	memset((void *)&ringbuf_robust_self, 0, sizeof(ringbuf_robust_self));
}

/* ---- locks ---- */

/* Who is to have a lock, and who has it. */
struct ringbuf_robust_claim {
	uint32_t image;  /* the caller's; 0: has none */
	uint64_t from;   /* take it if this owner has it; 0: if nobody has */
	uint64_t holder; /* out, with -EBUSY: who has it. The upper half is the image. */
};

/* Returns 0 or -EBUSY. Whatever the word says, nothing but that follows from it. */
RINGBUF_FUNC int
ringbuf_robust_try(struct ringbuf_robust_self *self, struct ringbuf_robust *m, struct ringbuf_robust_claim *claim)
{
	ringbuf_atomic_u64 *owner = ringbuf_robust_owner(self, m);
	uint64_t mine = ringbuf_robust_turned(self, self->tid | (uint64_t)claim->image << 32);
	uint64_t was = ringbuf_load(owner, RINGBUF_RELAXED); /* the swap checks it */
	int ret = -EBUSY;

	claim->holder = ringbuf_robust_turned(self, was);
	if ((claim->holder & FUTEX_TID_MASK) && claim->holder != claim->from)
		return ret;
	self->list->list_op_pending = &m->link; /* should I die before it is linked */
	ringbuf_signal_fence();
	/* O15 acquire: what the owners before did, the dead ones too. Pairs with
	 * ringbuf_robust_release, and with the kernel, which frees the word, or ends the lock of the image. */
	if (ringbuf_cas(owner, &was, mine, RINGBUF_ACQUIRE, RINGBUF_RELAXED)) {
		RINGBUF_TESTPOINT(robust_taken);
		ringbuf_robust_link(self, m);
		ret = 0;
	}
	ringbuf_signal_fence();
	self->list->list_op_pending = NULL;
	return ret;
}

RINGBUF_FUNC int64_t
ringbuf_robust_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Try again and again, for a while. */
RINGBUF_SLOW int
ringbuf_robust_wait(struct ringbuf_robust_self *self, struct ringbuf_robust *m, struct ringbuf_robust_claim *claim)
{
	struct timespec pause = {0, RINGBUF_ROBUST_PAUSE_NS};
	int64_t end = ringbuf_robust_now_ms() + RINGBUF_ROBUST_WAIT_MS;
	int ret;

	do {
		nanosleep(&pause, NULL);
		ret = ringbuf_robust_try(self, m, claim);
	} while (ret && ringbuf_robust_now_ms() < end);
	return ret;
}

/* Is this a signal handler over a call that changes the list? The library's says so by list_op_pending. */
RINGBUF_FUNC int
ringbuf_robust_is_busy(const struct ringbuf_robust_self *self)
{
	return self->is_busy || (self->list && self->list->list_op_pending);
}

RINGBUF_FUNC void
ringbuf_robust_set_busy(struct ringbuf_robust_self *self, int is_busy)
{
	ringbuf_signal_fence();
	self->is_busy = is_busy;
	ringbuf_signal_fence();
}

/*
 * ringbuf_robust_claim - lock, or try to, as `claim` says; a dead owner's lock is simply had.
 * Returns: 0; -EBUSY somebody alive has it, and had it for five seconds if `wait` (or somebody
 *          scribbled on it), or this is a signal handler over another such call; -ENOMEM;
 *          -errno: the thread has no list.
 */
RINGBUF_FUNC int
ringbuf_robust_claim(pthread_mutex_t *m, int wait, struct ringbuf_robust_claim *claim)
{
	struct ringbuf_robust_self *self = &ringbuf_robust_self;
	int ret;

	claim->holder = 0;
	if (ringbuf_robust_is_busy(self))
		return -EBUSY;
	ringbuf_robust_set_busy(self, 1);
	ret = ringbuf_robust_begin(self);
	if (!ret) {
		ret = ringbuf_robust_try(self, ringbuf_robust_of(m), claim);
		if (ret && wait)
			ret = ringbuf_robust_wait(self, ringbuf_robust_of(m), claim);
		if (!self->n)
			ringbuf_robust_end(self);
	}
	ringbuf_robust_set_busy(self, 0);
	return ret;
}

/* The same, for a while at most, of locks that are held for a moment only. */
RINGBUF_FUNC int
ringbuf_robust_lock(pthread_mutex_t *m, int wait)
{
	struct ringbuf_robust_claim claim = {0, 0, 0};

	return ringbuf_robust_claim(m, wait, &claim);
}

RINGBUF_FUNC void
ringbuf_robust_release(struct ringbuf_robust_self *self, struct ringbuf_robust *lock)
{
	uint32_t i = self->n;

	do {
		if (!i--)
			return;
	} while (self->held[i] != lock);
	self->list->list_op_pending = &lock->link; /* should I die before it is free */
	ringbuf_signal_fence();
	ringbuf_robust_unlink(self, i);
	ringbuf_signal_fence();
	RINGBUF_TESTPOINT(robust_unlinked);
	/* O15 release: what I did. Pairs with ringbuf_robust_try. */
	ringbuf_store(ringbuf_robust_owner(self, lock), 0, RINGBUF_RELEASE);
	ringbuf_signal_fence();
	self->list->list_op_pending = NULL;
	if (!self->n)
		ringbuf_robust_end(self);
}

/* Callers: the thread that has it; another's stays as it is. */
RINGBUF_FUNC void
ringbuf_robust_unlock(pthread_mutex_t *m)
{
	ringbuf_robust_set_busy(&ringbuf_robust_self, 1);
	ringbuf_robust_release(&ringbuf_robust_self, ringbuf_robust_of(m));
	ringbuf_robust_set_busy(&ringbuf_robust_self, 0);
}

/* Is it, or was it to the end, somebody's? Of a lock that nobody takes any more. */
RINGBUF_FUNC int
ringbuf_robust_was_held(const pthread_mutex_t *m)
{
	const struct ringbuf_robust *lock = (const struct ringbuf_robust *)(const void *)m;

	/* of the words only two are ever written: the library decides which */
	for (size_t i = 0; i < sizeof(lock->words) / sizeof(lock->words[0]); i++)
		if (lock->words[i])
			return 1;
	return 0;
}

#endif /* RINGBUF_CERTIFICATE_HEADER */

#endif /* RINGBUF_CERTIFICATE_H */
