/* tests/model/region.cc - builds and takes down the region of region.h. */
#include "region.h"

struct model_region model_region;
struct model_machine model_machine;
struct model_orders model_orders;

/* f(word, kind) for each atomic word of the region. The kinds repeat what layout.h says
 * about who writes what. */
template <typename F>
void
model_region::each_stream_word(struct ringbuf_stream *s, F f)
{
	uint32_t n = ringbuf_n_subbufs(&ch.geometry);

	f(s->produced, MODEL_SHARED);
	f(s->base_timestamp, MODEL_PRIVATE);
	for (int i = 0; i < RINGBUF_N_CAUSES; i++)
		f(s->lost[i], MODEL_PRIVATE);
	f(s->consumed_pos, MODEL_SHARED);
	f(s->read_seq, MODEL_PRIVATE);
	for (int i = 0; i < 2; i++) {
		f(s->read_total[i], MODEL_OWNED);
		f(s->dropped_total[i], MODEL_OWNED);
	}
	f(s->hold_pos, MODEL_OWNED);
	f(s->read_discarded, MODEL_OWNED);
	f(s->hold, MODEL_PRIVATE);
	f(s->hold_seq, MODEL_OWNED);
	f(s->spare, MODEL_SHARED);
	f(s->custom_timestamp, MODEL_SHARED);
	f(s->space_seq, MODEL_SHARED);
	f(s->space_wanted, MODEL_SHARED);
	f(s->repair_pos, MODEL_OWNED);
	f(s->repair_torn, MODEL_OWNED);
	f(s->repair_subbuf, MODEL_OWNED);
	f(s->parked, MODEL_PRIVATE);
	f(s->parking, MODEL_PRIVATE);
	f(s->map_read, MODEL_OWNED);
	for (uint32_t i = 0; i < n; i++)
		f(ringbuf_slot_at(&ch, s, (uint64_t)i << MODEL_ORDER)->subbuf_ref, MODEL_SHARED);
	for (uint32_t i = 0; i < ch.n_all; i++) {
		struct ringbuf_subbuf *sb = ringbuf_subbuf_at(&ch, s, i);

		f(sb->committed, MODEL_SHARED);
		f(sb->stage, MODEL_SHARED);
		f(sb->close_timestamp, MODEL_OWNED);
		f(sb->close_size, MODEL_OWNED);
		f(sb->close_discarded, MODEL_OWNED);
		f(sb->fillers, MODEL_PRIVATE);
		f(sb->open_noted, MODEL_OWNED);
		f(sb->close_noted, MODEL_OWNED);
		for (int j = 0; j < 2; j++) {
			f(sb->delivered[j], MODEL_SHARED); /* a mapper looks before it knows */
			f(sb->records[j], MODEL_OWNED);
			f(sb->total[j], MODEL_OWNED);
			f(sb->overrun[j], MODEL_OWNED);
		}
		f(ringbuf_filler_map(&ch, s, i)[0], MODEL_PRIVATE);
		f(sb->pos, MODEL_OWNED);
		f(sb->timestamp_begin, MODEL_OWNED);
		f(sb->timestamp_end, MODEL_OWNED);
		f(sb->events_discarded, MODEL_OWNED);
		f(sb->sequence_number, MODEL_OWNED);
		f(sb->content_size, MODEL_OWNED);
		f(sb->packet_size, MODEL_OWNED);
		f(sb->n_records, MODEL_OWNED);
	}
}

template <typename F>
void
model_region::each_word(F f)
{
	f(ch.control->state, MODEL_SHARED);
	f(ch.control->data_seq, MODEL_SHARED);
	f(ch.control->data_wanted, MODEL_SHARED);
	f(ch.control->producers_used, MODEL_PRIVATE);
	f(ch.control->repair_after, MODEL_PRIVATE);
	for (int i = 0; i <= (int)ch.n_producers; i++) {
		struct ringbuf_producer_slot *p = producer(i);

		for (int j = 0; j < RINGBUF_NESTING_MAX; j++) {
			f(p->ledger[j].word, MODEL_PRIVATE);
			f(p->ledger[j].timestamp, MODEL_PRIVATE);
			f(p->ledger[j].extent, MODEL_PRIVATE);
			f(p->ledger[j].discarded, MODEL_PRIVATE);
		}
		f(p->lost_disabled, MODEL_PRIVATE);
	}
	for (uint32_t i = 0; i < ch.n_streams; i++)
		each_stream_word(stream(i), f);
}

/* n objects at *off of the memory, which moves behind them. */
template <typename S>
S *
model_region::place(uint64_t *off, uint64_t n)
{
	S *first = reinterpret_cast<S *>(memory + *off);

	for (uint64_t i = 0; i < n; i++)
		::new ((void *)(first + i)) S;
	*off = ringbuf_align_up(*off + n * sizeof(S), RINGBUF_CACHE_LINE);
	RL_ASSERT(*off <= sizeof(memory));
	return first;
}

void
model_region::build(const struct model_config &cfg, uint32_t n_producers)
{
	struct ringbuf_superblock *super;
	uint64_t off = 0, n;

	memset((void *)&ch, 0, sizeof(ch));
	memset(shadowed, 0, sizeof(shadowed));
	n_touched = n_owners = 0;
	granule = cfg.header == RINGBUF_LARGE ? 2 : 4;
	ch.base = memory;
	ch.geometry = ringbuf_geometry_of(MODEL_ORDER, cfg.count_order);
	n = ringbuf_n_subbufs(&ch.geometry);
	ch.n_all = (uint32_t)n + 1 + cfg.n_spares;
	RL_ASSERT(ch.n_all <= MODEL_SUBBUFS_MAX);
	ch.mode = (uint8_t)cfg.mode;
	ch.streams = cfg.n_streams > 1 ? RINGBUF_PER_CPU : RINGBUF_GLOBAL;
	ch.header = (uint8_t)cfg.header;
	ch.wakeup = (uint8_t)cfg.wakeup;
	ch.clock = RINGBUF_CLOCK_TSC;
	ch.n_streams = cfg.n_streams;
	ch.n_producers = n_producers;
	ch.page_size = 16;
	ch.packet_header_size = cfg.packet_header_size ? cfg.packet_header_size
				: cfg.n_streams > 1    ? RINGBUF_CTF_PACKET_HEADER_SIZE
						       : RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL;
	ch.client = cfg.client;
	ch.start_pos = cfg.start_pos;
	ch.fd = -1;

	ch.super = super = place<struct ringbuf_superblock>(&off, 1);
	memset(super->uuid, 0xab, sizeof(super->uuid));
	ch.control = place<struct ringbuf_control>(&off, 1);
	ch.producers_off = off;
	place<struct ringbuf_producer_slot>(&off, n_producers + 1);
	ch.streams_off = off;
	ch.stream0 = ch.base + off;
	for (uint32_t i = 0; i < ch.n_streams; i++) {
		uint64_t begin = off;

		place<struct ringbuf_stream>(&off, 1);
		ch.slots_off = off - begin;
		place<struct ringbuf_slot>(&off, n);
		ch.subbufs_off = off - begin;
		place<struct ringbuf_subbuf>(&off, ch.n_all);
		ch.fillers_off = off - begin;
		place<ringbuf_atomic_u64>(&off, ch.n_all * ringbuf_filler_map_words(&ch.geometry));
		ch.data_off = off - begin;
		off += (uint64_t)ch.n_all << MODEL_ORDER;
		ch.stream_stride = off - begin;
	}
	RL_ASSERT(off <= sizeof(memory));

	each_word([this](auto &w, enum model_word_kind kind) {
		w.kind = kind;
		w.word.store(0, rl::mo_relaxed, $);
		if (kind == MODEL_OWNED) {
			RL_ASSERT(n_owners < sizeof(owners) / sizeof(owners[0]));
			w.owner = ::new ((void *)owners[n_owners++]) shadow(0);
		}
	});
	for (uint32_t i = 0; i < ch.n_streams; i++)
		ringbuf_init_stream(&ch, i);
	for (uint32_t i = 0; i <= n_producers; i++)
		::new ((void *)&certificates[i]) rl::atomic<int>(i < n_producers ? MODEL_MUTEX_LOCKED : MODEL_MUTEX_FREE);
	ringbuf_store(&ch.control->producers_used, n_producers, rl::mo_relaxed);
	::new ((void *)&right) rl::atomic<int>(MODEL_MUTEX_FREE);
}

/* Check from here on that no two threads use the slot's ledger without an order between. */
void
model_region::check_ledger(int i)
{
	for (int j = 0; j < RINGBUF_NESTING_MAX; j++) {
		ringbuf_atomic_u64 &word = producer(i)->ledger[j].word;

		word.owner = ::new ((void *)owners[n_owners++]) shadow(0);
		RL_ASSERT(n_owners <= sizeof(owners) / sizeof(owners[0]));
	}
}

void
model_region::destroy(void)
{
	uint32_t n = ringbuf_n_subbufs(&ch.geometry);

	for (size_t i = 0; i < n_touched; i++)
		shadow_at(touched[i])->~shadow();
	for (size_t i = 0; i < n_owners; i++)
		reinterpret_cast<shadow *>(owners[i])->~shadow();
	for (uint32_t i = 0; i < ch.n_streams; i++) {
		struct ringbuf_stream *s = stream(i);

		for (uint32_t j = 0; j < n; j++)
			ringbuf_slot_at(&ch, s, (uint64_t)j << MODEL_ORDER)->~ringbuf_slot();
		for (uint32_t j = 0; j < ch.n_all; j++) {
			ringbuf_filler_map(&ch, s, j)->~ringbuf_atomic_u64();
			ringbuf_subbuf_at(&ch, s, j)->~ringbuf_subbuf();
		}
		s->~ringbuf_stream();
	}
	for (int i = 0; i <= (int)ch.n_producers; i++) {
		producer(i)->~ringbuf_producer_slot();
		certificates[i].~atomic();
	}
	right.~atomic();
	ch.control->~ringbuf_control();
	const_cast<struct ringbuf_superblock *>(ch.super)->~ringbuf_superblock();
}

void
model_region::touch(const void *p, size_t len, bool write, rl::debug_info_param info)
{
	const uint8_t *at = (const uint8_t *)p;
	uint64_t size = (uint64_t)ch.n_all << MODEL_ORDER;
	uint32_t i = 0;

	if (!len)
		return;
	while (i < ch.n_streams && (at < (uint8_t *)stream(i) + ch.data_off ||
				    at + len > (uint8_t *)stream(i) + ch.data_off + size))
		i++;
	if (i == ch.n_streams)
		rl::ctx().fail_test("bytes of no sub-buffer", rl::test_result_user_assert_failed, info);

	size_t base = i * (n_shadows / MODEL_STREAMS_MAX);
	size_t off = (size_t)(at - ((uint8_t *)stream(i) + ch.data_off));

	for (size_t g = off / granule; g <= (off + len - 1) / granule; g++) {
		if (!shadowed[base + g]) {
			::new ((void *)shadows[base + g]) shadow();
			shadowed[base + g] = true;
			touched[n_touched++] = base + g;
		}
		if (write)
			(*shadow_at(base + g))(info).store(0);
		else
			(void)(*shadow_at(base + g))(info).load();
	}
}

/* ---- locks ---- */

bool
model_region::take_right(void)
{
	int was = MODEL_MUTEX_FREE;

	return right.compare_exchange(rl::bool_t<false>(), was, MODEL_MUTEX_LOCKED, rl::mo_acquire, rl::mo_relaxed, $);
}

void
model_region::give_right(void)
{
	right.store(MODEL_MUTEX_FREE, rl::mo_release, $);
}

rl::atomic<int> &
model_region::certificate(const pthread_mutex_t *m)
{
	for (uint32_t i = 0; i <= ch.n_producers; i++)
		if (m == &producer((int)i)->certificate)
			return certificates[i];
	RL_ASSERT(false);
	return certificates[0];
}

static const pthread_mutex_t **
held_place(const pthread_mutex_t *m)
{
	for (auto &held : model_self().held)
		if (held == m)
			return &held;
	return NULL;
}

/* Its owner is dead: the kernel says so. */
void
model_region::bury(const pthread_mutex_t *m)
{
	certificate(m).store(MODEL_MUTEX_OWNER_DEAD, rl::mo_release, $);
}

int
model_mutex_lock(const pthread_mutex_t *m, rl::debug_info_param info)
{
	rl::atomic<int> &word = model_region.certificate(m);
	int was = MODEL_MUTEX_FREE;

	model_step();
	if (!word.compare_exchange(rl::bool_t<false>(), was, MODEL_MUTEX_LOCKED, rl::mo_acquire, rl::mo_relaxed, info) &&
	    (was != MODEL_MUTEX_OWNER_DEAD ||
	     !word.compare_exchange(rl::bool_t<false>(), was, MODEL_MUTEX_LOCKED, rl::mo_acquire, rl::mo_relaxed, info)))
		return -EBUSY;
	*held_place(NULL) = m;
	return 0;
}

void
model_mutex_unlock(const pthread_mutex_t *m, rl::debug_info_param info)
{
	const pthread_mutex_t **place = held_place(m);

	model_step();
	if (place)
		*place = NULL;
	model_region.certificate(m).store(MODEL_MUTEX_FREE, rl::mo_release, info);
}

void
model_touch(const void *p, size_t len, bool write, rl::debug_info_param info)
{
	model_region.touch(p, len, write, info);
}
