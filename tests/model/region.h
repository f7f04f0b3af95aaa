/*
 * tests/model/region.h - a tiny channel in plain memory.
 *
 * The structures are those of layout.h, put at offsets of the model's own, since
 * a model's atomics are larger than eight bytes. Sub-buffers have 256 bytes.
 */
#ifndef MODEL_REGION_H
#define MODEL_REGION_H

#include <new>

#define RINGBUF_ATOMIC_HEADER "seam.h"
#define RINGBUF_CLOCK_HEADER "seam.h"
#define RINGBUF_CPU_HEADER "seam.h"
#define RINGBUF_WAIT_HEADER "seam.h"
#include <ringbuf/channel.h>
#include <ringbuf/discard.h>
#include <ringbuf/map.h>
#include <ringbuf/reader.h>
#include <ringbuf/stats.h>

#define MODEL_ORDER 8 /* log2 of bytes in a sub-buffer: the smallest that has a filler map */
#define MODEL_SUBBUF_SIZE (1 << MODEL_ORDER)
#define MODEL_SUBBUFS_MAX 6
#define MODEL_STREAMS_MAX 2

struct model_config {
	int mode;
	uint32_t count_order; /* log2 of sub-buffers in the ring */
	uint32_t n_streams;   /* 1: one global stream */
	int header;
	int wakeup;
	uint64_t start_pos;
	const struct ringbuf_client *client;
	uint32_t packet_header_size; /* 0: the CTF client's */
	uint32_t n_spares;
};

/* One lap below the wrap of 48 bits, for a ring of so many sub-buffers. */
#define MODEL_BELOW_WRAP(n) ((RINGBUF_POS_MASK + 1) - (uint64_t)(n) * MODEL_SUBBUF_SIZE)

struct model_region {
	struct ringbuf_channel ch;

	model_region() {}
	~model_region() {}
	void build(const struct model_config &cfg, uint32_t n_producers);
	void destroy(void);
	void touch(const void *p, size_t len, bool write, rl::debug_info_param info);

	struct ringbuf_stream *stream(uint32_t idx = 0) { return ringbuf_stream_at(&ch, idx); }
	struct ringbuf_producer_slot *producer(int i) { return ringbuf_producer_slot_at(&ch, (uint32_t)i); }
	/* All are locked at first: threads have their slots for life, and need not register. */
	rl::atomic<int> &certificate(const pthread_mutex_t *m);
	void bury(const pthread_mutex_t *m);
	void check_ledger(int i);
	/* The right to read, as the kernel's lock gives it. */
	bool take_right(void);
	void give_right(void);

private:
	typedef rl::var<int> shadow;
	static const size_t n_shadows = MODEL_STREAMS_MAX * MODEL_SUBBUFS_MAX * MODEL_SUBBUF_SIZE / 2;

	RINGBUF_ALIGNED uint8_t memory[192 * 1024];
	unsigned granule; /* bytes of sub-buffer that share one shadow */
	bool shadowed[n_shadows];
	size_t touched[n_shadows], n_touched;
	alignas(shadow) unsigned char shadows[n_shadows][sizeof(shadow)];
	alignas(shadow) unsigned char owners[1024][sizeof(shadow)];
	size_t n_owners;
	union { /* built and destroyed as the rest is */
		rl::atomic<int> certificates[MODEL_THREADS_MAX + 2]; /* one for the test, and the repairer's */
	};
	union {
		rl::atomic<int> right;
	};

	shadow *shadow_at(size_t i) { return reinterpret_cast<shadow *>(shadows[i]); }
	template <typename S> S *place(uint64_t *off, uint64_t n);
	template <typename F> void each_word(F f);
	template <typename F> void each_stream_word(struct ringbuf_stream *s, F f);
};

extern struct model_region model_region;

#endif /* MODEL_REGION_H */
