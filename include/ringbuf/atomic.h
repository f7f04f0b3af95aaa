/*
 * ringbuf/atomic.h - the one seam to the memory model.
 *
 * Every atomic access and every copy into or out of a sub-buffer goes through
 * the names below, so that the same headers compile as C11 (production), as
 * C++17 (users' C++), against a model checker, and with test points.
 *
 * RINGBUF_ATOMIC_HEADER, if defined, names a header that supplies all of it
 * (the model checker's seam).
 */
#ifndef RINGBUF_ATOMIC_H
#define RINGBUF_ATOMIC_H

#if !defined(__linux__) || __SIZEOF_POINTER__ != 8 || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "ringbuf needs Linux on a little-endian 64-bit processor"
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GLIBC__) ? !defined(__USE_MISC) : defined(__STRICT_ANSI__) && !defined(_GNU_SOURCE)
#error "ringbuf needs more than ISO C: compile with -std=gnu11, or with -D_GNU_SOURCE"
#endif

#if defined(__GNUC__)
#define RINGBUF_LIKELY(x) __builtin_expect(!!(x), 1)
#define RINGBUF_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define RINGBUF_INLINE static inline __attribute__((always_inline, unused))
#define RINGBUF_FUNC static inline __attribute__((unused))
#define RINGBUF_SLOW static __attribute__((noinline, unused, cold))
#else
#error "ringbuf needs GCC or Clang"
#endif

#if defined(__cplusplus)
#define RINGBUF_THREAD_LOCAL thread_local
#else
#define RINGBUF_THREAD_LOCAL _Thread_local
#endif

#if defined(RINGBUF_ATOMIC_HEADER)
#include RINGBUF_ATOMIC_HEADER
#else

#if defined(__cplusplus)

#include <atomic>
typedef std::atomic<uint64_t> ringbuf_atomic_u64;
typedef std::atomic<uint32_t> ringbuf_atomic_u32;
#define RINGBUF_RELAXED std::memory_order_relaxed
#define RINGBUF_ACQUIRE std::memory_order_acquire
#define RINGBUF_RELEASE std::memory_order_release
#define RINGBUF_ACQ_REL std::memory_order_acq_rel
#define RINGBUF_SEQ_CST std::memory_order_seq_cst
#define ringbuf_load(p, order) ((p)->load(order))
#define ringbuf_store(p, v, order) ((p)->store((v), (order)))
#define ringbuf_add(p, v, order) ((p)->fetch_add((v), (order)))
#define ringbuf_or(p, v, order) ((p)->fetch_or((v), (order)))
#define ringbuf_and(p, v, order) ((p)->fetch_and((v), (order)))
#define ringbuf_exchange(p, v, order) ((p)->exchange((v), (order)))
#define ringbuf_cas(p, expected, desired, success, failure) \
	((p)->compare_exchange_strong(*(expected), (desired), (success), (failure)))

#else

#include <stdatomic.h>
typedef _Atomic uint64_t ringbuf_atomic_u64;
typedef _Atomic uint32_t ringbuf_atomic_u32;
#define RINGBUF_RELAXED memory_order_relaxed
#define RINGBUF_ACQUIRE memory_order_acquire
#define RINGBUF_RELEASE memory_order_release
#define RINGBUF_ACQ_REL memory_order_acq_rel
#define RINGBUF_SEQ_CST memory_order_seq_cst
#define ringbuf_load(p, order) atomic_load_explicit((p), (order))
#define ringbuf_store(p, v, order) atomic_store_explicit((p), (v), (order))
#define ringbuf_add(p, v, order) atomic_fetch_add_explicit((p), (v), (order))
#define ringbuf_or(p, v, order) atomic_fetch_or_explicit((p), (v), (order))
#define ringbuf_and(p, v, order) atomic_fetch_and_explicit((p), (v), (order))
#define ringbuf_exchange(p, v, order) atomic_exchange_explicit((p), (v), (order))
#define ringbuf_cas(p, expected, desired, success, failure) \
	atomic_compare_exchange_strong_explicit((p), (expected), (desired), (success), (failure))

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
	       "ringbuf needs lock-free 64-bit atomics");
_Static_assert(sizeof(ringbuf_atomic_u64) == 8 && sizeof(ringbuf_atomic_u32) == 4,
	       "atomics must have no hidden lock: they live in shared memory");

#endif

/* Sub-buffer bytes are plain memory; only the model looks at these. */
#define ringbuf_data_write(dst, src, len) memcpy((dst), (src), (len))
#define ringbuf_data_read(dst, src, len) memcpy((dst), (src), (len))
#define ringbuf_data_fill(dst, byte, len) memset((dst), (byte), (len))

#endif /* RINGBUF_ATOMIC_HEADER */

/* In a branch that is rarely taken: keeps the compiler from computing both sides and
 * selecting, which would make all that follows wait for the condition. */
#define ringbuf_stay_branch() __asm__ volatile("")

/* Order this thread's accesses as its own signal handlers see them. */
#if !defined(ringbuf_signal_fence)
#define ringbuf_signal_fence() __asm__ volatile("" ::: "memory")
#endif

/*
 * Add to a word that one thread alone writes, its signal handlers included: one
 * instruction, which a handler cannot split, or else an atomic addition.
 */
#if defined(__x86_64__) && !defined(RINGBUF_ATOMIC_HEADER)
#define ringbuf_add_own(p, v) \
	__asm__ volatile("addq %1, %0" : "+m"(*(p)) : "er"((uint64_t)(v)) : "cc")
#elif !defined(ringbuf_add_own)
#define ringbuf_add_own(p, v) ((void)ringbuf_add((p), (v), RINGBUF_RELAXED))
#endif

/*
 * A test point marks a step whose effect another thread or a post-mortem
 * reader can observe. Empty in production; a test build defines
 * RINGBUF_TESTPOINT before inclusion to stop, kill or reschedule there.
 */
#ifndef RINGBUF_TESTPOINT
#define RINGBUF_TESTPOINT(name) ((void)0)
#endif

#endif /* RINGBUF_ATOMIC_H */
