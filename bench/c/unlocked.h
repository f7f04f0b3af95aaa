/*
 * unlocked.h - atomic.h's names without a locked instruction: what a record would take
 * if these cost nothing. Right for one thread only. See bench_parts.py.
 */
#include <stdatomic.h>

typedef _Atomic uint64_t ringbuf_atomic_u64;
typedef _Atomic uint32_t ringbuf_atomic_u32;
#define RINGBUF_RELAXED memory_order_relaxed
#define RINGBUF_ACQUIRE memory_order_acquire
#define RINGBUF_RELEASE memory_order_release
#define RINGBUF_ACQ_REL memory_order_acq_rel
#define RINGBUF_SEQ_CST memory_order_seq_cst
#define ringbuf_load(p, order) atomic_load_explicit((p), (order))
#define ringbuf_store(p, v, order) atomic_store_explicit((p), (v), memory_order_release)

#define ringbuf_update(p, new_value)                                                     \
	__extension__({                                                                  \
		__auto_type old_ = atomic_load_explicit((p), memory_order_relaxed);      \
		atomic_store_explicit((p), (new_value), memory_order_release);           \
		old_;                                                                    \
	})
#define ringbuf_add(p, v, order) ringbuf_update(p, old_ + (v))
#define ringbuf_or(p, v, order) ringbuf_update(p, old_ | (v))
#define ringbuf_and(p, v, order) ringbuf_update(p, old_ & (v))
#define ringbuf_exchange(p, v, order) ringbuf_update(p, (v))
#define ringbuf_cas(p, expected, desired, success, failure)                              \
	__extension__({                                                                  \
		__auto_type seen_ = atomic_load_explicit((p), memory_order_relaxed);     \
		int same_ = seen_ == *(expected);                                        \
		if (same_)                                                               \
			atomic_store_explicit((p), (desired), memory_order_release);     \
		else                                                                     \
			*(expected) = seen_;                                             \
		same_;                                                                   \
	})

#define ringbuf_data_write(dst, src, len) memcpy((dst), (src), (len))
#define ringbuf_data_read(dst, src, len) memcpy((dst), (src), (len))
#define ringbuf_data_fill(dst, byte, len) memset((dst), (byte), (len))
