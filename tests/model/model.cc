/* tests/model/model.cc - records, packets and the common checks of model.h. */
#include "model.h"

struct model_log model_log;
uint64_t (*model_walk)(struct ringbuf_stream_reader *r);

static const uint32_t payload_sizes[MODEL_EVENTS] = {4, 52, 84, 172, 173};

/* What a record's payload begins with, and ends with if it is long enough. */
static uint32_t
word_of(int thread, unsigned seq, uint32_t event)
{
	return UINT32_C(0xa5) << 24 | (uint32_t)thread << 16 | seq << 8 | event;
}

/* ---- recording ---- */

static struct model_record *
record_of(uint32_t word)
{
	uint32_t thread = word >> 16 & 0xff, seq = word >> 8 & 0xff;

	RL_ASSERT(word >> 24 == 0xa5 && thread < MODEL_THREADS_MAX && seq < model_log.n[thread]);
	return &model_log.records[thread][seq];
}

static uint32_t
word_at(const uint8_t *p)
{
	uint32_t word;

	memcpy(&word, p, 4);
	return word;
}

static enum ringbuf_cause
cause_of(int ret)
{
	int cause = ringbuf_loss_of_error(ret);

	return cause < 0 ? RINGBUF_N_CAUSES : (enum ringbuf_cause)cause; /* -EAGAIN: not counted */
}

struct ringbuf_producer_slot *
model_producer(void)
{
	struct ringbuf_producer_slot *slot = model_self().producer;

	return slot ? slot : model_region.producer(model_me());
}

/* What ringbuf_reserve() does once it knows the thread's slot. */
static int
reserve_blocking(struct ringbuf_producer_slot *producer, struct ringbuf_reservation *r)
{
	int ret;

	r->flags |= RINGBUF_NONBLOCK;
	ret = ringbuf_reserve_as(&model_region.ch, producer, r);
	r->flags &= ~RINGBUF_NONBLOCK;
	return ret == -EAGAIN ? ringbuf_reserve_blocking(&model_region.ch, producer, r, UINT64_MAX) : ret;
}

int
model_reserve(enum model_event event, struct ringbuf_reservation *r, uint32_t flags)
{
	int me = model_me(), ret;
	unsigned seq = model_log.n[me]++;
	struct model_record *record = &model_log.records[me][seq];
	uint32_t word = word_of(me, seq, event);

	RL_ASSERT(seq < MODEL_RECORDS_MAX);
	memset(r, 0, sizeof(*r));
	r->event_id = event;
	r->payload_size = payload_sizes[event];
	r->flags = flags & ~MODEL_BLOCK;
	record->state = MODEL_TRYING;
	record->event = event;
	if (flags & MODEL_BLOCK)
		ret = reserve_blocking(model_producer(), r);
	else
		ret = ringbuf_reserve_as(&model_region.ch, model_producer(), r);
	if (ret) {
		enum ringbuf_cause cause = cause_of(ret);

		record->state = MODEL_LOST;
		if (cause < RINGBUF_N_CAUSES) {
			model_log.attempts++;
			model_log.lost[cause]++;
		}
		return ret;
	}
	model_log.attempts++;
	record->state = MODEL_RESERVED;
	record->timestamp = r->timestamp;
	ringbuf_data_write(r->payload, &word, 4);
	if (r->payload_size >= 8)
		ringbuf_data_write(r->payload + r->payload_size - 4, &word, 4);
	return 0;
}

void
model_resolve(struct ringbuf_reservation *r, enum model_fate fate)
{
	struct model_record *record = record_of(word_at(r->payload));

	RL_ASSERT(record->state == MODEL_RESERVED);
	if (fate == MODEL_COMMIT) {
		record->state = MODEL_COMMITTED;
		ringbuf_commit(&model_region.ch, r);
	} else {
		record->state = MODEL_DISCARDED;
		model_log.discarded++;
		ringbuf_discard(&model_region.ch, r);
	}
}

int
model_write(enum model_event event, enum model_fate fate, uint32_t flags)
{
	struct ringbuf_reservation r;
	int ret = model_reserve(event, &r, flags);

	if (!ret)
		model_resolve(&r, fate);
	return ret;
}

void
model_flush(unsigned int flags, uint32_t stream_idx)
{
	ringbuf_flush(&model_region.ch, model_producer(), stream_idx, flags);
}

/* ---- death ---- */

void
model_bury(void)
{
	model_region.bury(&model_producer()->certificate);
	for (auto &held : model_self().held) {
		if (held)
			model_region.bury(held);
		held = NULL;
	}
}

/* ---- reading ---- */

static uint64_t
header_u64(const struct ringbuf_packet *p, size_t off)
{
	uint64_t v;

	ringbuf_data_read(&v, p->data + off, 8);
	return v;
}

void
model_found(struct ringbuf_stream_reader *r, uint32_t word, uint32_t last_word, uint64_t timestamp)
{
	struct model_record *record = record_of(word);

	RL_ASSERT(word == last_word);
	RL_ASSERT(record->state == MODEL_COMMITTED);
	RL_ASSERT((word & 0xff) == record->event);
	RL_ASSERT(timestamp == record->timestamp);
	RL_ASSERT(timestamp >= r->packet.timestamp_begin && timestamp <= r->packet.timestamp_end);
	RL_ASSERT(!record->found);
	record->found = true;
}

/* What stands at `off` of a packet. */
struct ctf_item {
	uint32_t id;
	bool hole;
	size_t size;        /* of the header, or of the whole hole */
	uint64_t timestamp; /* reconstructed from `last` if short */
};

static struct ctf_item
ctf_item_at(const uint8_t *p, uint64_t last)
{
	bool compact = model_region.ch.header == RINGBUF_COMPACT;
	const uint64_t mask = (UINT64_C(1) << RINGBUF_CTF_TIME_BITS) - 1;
	struct ctf_item item = {0, false, 0, 0};
	size_t tag_size = compact ? 1 : 2;
	uint16_t tag = 0;
	uint32_t rest = 0;

	ringbuf_data_read(&tag, p, tag_size);
	item.id = compact ? tag & 31u : tag;
	if (item.id == (compact ? RINGBUF_CTF_COMPACT_EXTENDED : RINGBUF_CTF_LARGE_EXTENDED)) {
		ringbuf_data_read(&item.id, p + tag_size, 4);
		ringbuf_data_read(&item.timestamp, p + tag_size + 4, 8);
		item.size = tag_size + 12;
		return item;
	}
	ringbuf_data_read(&rest, compact ? p : p + 2, 4);
	if (compact)
		rest >>= 5;
	item.size = compact ? 4 : 6;
	if (item.id == (compact ? RINGBUF_CTF_COMPACT_HOLE : RINGBUF_CTF_LARGE_HOLE)) {
		item.hole = true;
		item.size += rest;
		return item;
	}
	item.timestamp = (last & ~mask) | (rest & mask);
	if (item.timestamp < last)
		item.timestamp += mask + 1;
	return item;
}

/* The record whose header was `item`, with its payload at `off`: the word that it begins and ends with. */
static uint32_t
record_at(const struct ringbuf_packet *p, const struct ctf_item *item, uint64_t off, uint32_t *last_word)
{
	uint32_t word, size = payload_sizes[item->id];

	ringbuf_data_read(&word, p->data + off, 4);
	ringbuf_data_read(last_word, p->data + off + size - 4, 4);
	return word;
}

void
model_check_part(struct ringbuf_stream_reader *r, uint64_t from, uint64_t to)
{
	const struct ringbuf_packet *p = &r->packet;
	uint64_t last = header_u64(p, 32);

	while (from < to) {
		struct ctf_item item;
		uint32_t word, last_word;

		from = ringbuf_align_up(from, RINGBUF_CTF_ALIGN);
		item = ctf_item_at(p->data + from, last);
		from += item.size;
		if (item.hole)
			continue;
		RL_ASSERT(item.id < MODEL_EVENTS && from + payload_sizes[item.id] <= to);
		word = record_at(p, &item, from, &last_word);
		RL_ASSERT(word == last_word && record_of(word)->state == MODEL_COMMITTED);
		RL_ASSERT(model_log.n_handed_out < MODEL_RECORDS_MAX);
		model_log.handed_out[model_log.n_handed_out++] = record_of(word);
		from += payload_sizes[item.id];
	}
	RL_ASSERT(from == to);
}

void
model_note_parts(void)
{
	for (unsigned i = 0; i < model_log.n_handed_out; i++)
		model_log.handed_out[i]->reads++;
	model_log.read += model_log.n_handed_out;
	model_log.n_handed_out = 0;
}

static uint64_t
walk_ctf(struct ringbuf_stream_reader *r)
{
	const struct ringbuf_packet *p = &r->packet;
	uint64_t off = model_region.ch.packet_header_size, last = p->timestamp_begin, records = 0;
	bool after_hole = false;

	RL_ASSERT(header_u64(p, 32) == p->timestamp_begin);
	RL_ASSERT(header_u64(p, 40) == p->timestamp_end);
	RL_ASSERT(header_u64(p, 48) == p->content_size * 8);
	RL_ASSERT(header_u64(p, 56) == p->packet_size * 8);
	RL_ASSERT(header_u64(p, 64) == p->sequence_number);
	RL_ASSERT(header_u64(p, 72) == p->events_discarded);
	while (off < p->content_size) {
		struct ctf_item item;
		uint32_t word, last_word;

		off = ringbuf_align_up(off, RINGBUF_CTF_ALIGN);
		RL_ASSERT(off + RINGBUF_CTF_ALIGN <= p->content_size);
		item = ctf_item_at(p->data + off, last);
		off += item.size;
		RL_ASSERT(off <= p->content_size);
		if (item.hole) {
			RL_ASSERT(!after_hole); /* joined */
			after_hole = true;
			continue;
		}
		after_hole = false;
		RL_ASSERT(item.id < MODEL_EVENTS && item.timestamp >= last);
		last = item.timestamp;
		RL_ASSERT(off + payload_sizes[item.id] <= p->content_size);
		word = record_at(p, &item, off, &last_word);
		off += payload_sizes[item.id];
		model_found(r, word, last_word, last);
		records++;
	}
	RL_ASSERT(off == p->content_size);
	RL_ASSERT(!after_hole); /* left out of the content */
	return records;
}

void
model_check_packet(struct ringbuf_stream_reader *r)
{
	const struct ringbuf_packet *p = &r->packet;
	struct model_packet *packet = &model_log.packets[r->stream_idx][p->sequence_number];

	RL_ASSERT(p->sequence_number < MODEL_PACKETS_MAX);
	RL_ASSERT(ringbuf_pos_sub(p->pos, model_region.ch.start_pos) >> MODEL_ORDER == p->sequence_number);
	RL_ASSERT(p->content_size >= model_region.ch.packet_header_size);
	RL_ASSERT(p->timestamp_begin <= p->timestamp_end);
	for (int i = 0; i < MODEL_THREADS_MAX; i++)
		for (unsigned j = 0; j < model_log.n[i]; j++)
			model_log.records[i][j].found = false;
	RL_ASSERT((model_walk ? model_walk(r) : walk_ctf(r)) == p->records);
	if (packet->seen++) /* again: nothing may have changed */
		RL_ASSERT(packet->begin == p->timestamp_begin && packet->end == p->timestamp_end &&
			  packet->discarded == p->events_discarded && packet->records == p->records);
	packet->begin = p->timestamp_begin;
	packet->end = p->timestamp_end;
	packet->discarded = p->events_discarded;
	packet->records = p->records;
}

/* Count the packet checked last as read, or take that back. */
static void
note(struct ringbuf_stream_reader *r, int times)
{
	for (int i = 0; i < MODEL_THREADS_MAX; i++)
		for (unsigned j = 0; j < model_log.n[i]; j++)
			if (model_log.records[i][j].found)
				model_log.records[i][j].reads += (unsigned)times;
	model_log.read += (uint64_t)times * r->packet.records;
}

void
model_note_read(struct ringbuf_stream_reader *r)
{
	note(r, 1);
}

void
model_unnote_read(struct ringbuf_stream_reader *r)
{
	note(r, -1);
}

int
model_hold(struct ringbuf_stream_reader *r)
{
	int ret = ringbuf_get_next_subbuf(r);

	if (!ret)
		model_check_packet(r);
	return ret;
}

int
model_read(struct ringbuf_stream_reader *r, enum ringbuf_put how)
{
	int ret = model_hold(r);

	if (ret)
		return ret;
	if (how == RINGBUF_PUT_READ)
		model_note_read(r);
	ringbuf_put_subbuf(r, how);
	return 0;
}

void
model_snapshot(struct ringbuf_stream_reader *r)
{
	uint64_t pos, to;

	for (ringbuf_snapshot_range(r, &pos, &to); ringbuf_pos_diff(to, pos) > 0;
	     pos = ringbuf_pos_add(pos, MODEL_SUBBUF_SIZE))
		if (ringbuf_get_subbuf(r, pos) == 0) {
			model_check_packet(r);
			ringbuf_put_subbuf(r, RINGBUF_PUT_BACK);
		}
}

/* ---- the end of each execution ---- */

static void
check_identities(const struct ringbuf_stats *st, uint64_t committed)
{
	uint64_t lost = 0;

	for (int cause = RINGBUF_LOST_FULL; cause <= RINGBUF_LOST_DISABLED; cause++) {
		RL_ASSERT(st->lost[cause] == model_log.lost[cause]);
		lost += st->lost[cause];
	}
	RL_ASSERT(st->written == committed);
	RL_ASSERT(st->discarded == model_log.discarded);
	RL_ASSERT(st->read == model_log.read);
	RL_ASSERT(model_log.attempts == st->written + st->discarded + lost);
	RL_ASSERT(st->written == st->read + st->overrun + st->unread);
}

static void
check_time(uint32_t stream_idx, uint64_t lost)
{
	uint64_t time = 0, discarded = 0;

	for (int i = 0; i < MODEL_PACKETS_MAX; i++) {
		const struct model_packet *p = &model_log.packets[stream_idx][i];

		if (!p->seen)
			continue;
		RL_ASSERT(p->begin >= time);
		RL_ASSERT(p->discarded >= discarded && p->discarded <= lost);
		time = p->end;
		discarded = p->discarded;
	}
}

static void
check_subbufs(uint32_t stream_idx)
{
	struct ringbuf_channel *ch = &model_region.ch;
	struct ringbuf_stream *s = model_region.stream(stream_idx);
	uint32_t n = ringbuf_n_subbufs(&ch->geometry);
	uint64_t there = UINT64_C(1) << ringbuf_load(&s->spare, rl::mo_relaxed);
	uint64_t next = ringbuf_subbuf_ceil(&ch->geometry, ringbuf_load(&s->produced, rl::mo_relaxed));

	for (uint32_t i = 0; i < n; i++)
		there |= UINT64_C(1) << (ringbuf_load(&ringbuf_slot_at(ch, s, (uint64_t)i << MODEL_ORDER)->subbuf_ref,
						      rl::mo_relaxed) & RINGBUF_REF_IDX_MASK);
	/* each once: they are n + 1; and the others are spares */
	RL_ASSERT(__builtin_popcountll(there) == (int)n + 1);
	for (uint32_t i = 0; i < ch->n_all; i++) {
		uint64_t stage = ringbuf_load(&ringbuf_subbuf_at(ch, s, i)->stage, rl::mo_relaxed);

		RL_ASSERT(!(stage & RINGBUF_STAGE_KEPT));
		if (there >> i & 1)
			RL_ASSERT(ringbuf_stage_phase(stage) != RINGBUF_STAGE_FREE);
		else
			RL_ASSERT(ringbuf_stage_is(stage, next, RINGBUF_STAGE_TAKEN) || ringbuf_is_spare(ch, s, i, stage, next));
	}
	RL_ASSERT(!ringbuf_load(&s->hold, rl::mo_relaxed));
}

void
model_finish(void)
{
	struct ringbuf_channel *ch = &model_region.ch;
	struct ringbuf_producer_slot *producer = model_region.producer((int)ch->n_producers - 1);
	struct ringbuf_stats st;
	uint64_t committed = 0, unread = 0, lost = 0;

	memset(model_machine.threads, 0, sizeof(model_machine.threads));
	for (int i = 0; i < MODEL_THREADS_MAX; i++)
		for (unsigned j = 0; j < model_log.n[i]; j++) {
			RL_ASSERT(model_log.died || model_log.records[i][j].state >= MODEL_COMMITTED);
			committed += model_log.records[i][j].state == MODEL_COMMITTED;
		}
	for (int cause = RINGBUF_LOST_FULL; cause <= RINGBUF_LOST_SLOTS; cause++)
		lost += model_log.lost[cause];

	if (model_log.died)
		RL_ASSERT(ringbuf_repair(ch) >= 0);
	for (uint32_t i = 0; i < ch->n_streams; i++)
		RL_ASSERT(ringbuf_flush(ch, producer, i, 0) == 0);
	ringbuf_channel_stats(ch, &st);
	if (!model_log.died)
		check_identities(&st, committed);

	for (uint32_t i = 0; i < ch->n_streams; i++) {
		struct ringbuf_stream_reader r;

		ringbuf_stream_reader_init(ch, i, &r);
		if (r.holding)
			ringbuf_put_subbuf(&r, RINGBUF_PUT_BACK);
		while (model_read(&r) == 0)
			RL_ASSERT(!model_log.ended);
		RL_ASSERT(ringbuf_is_drained(&r));
		check_time(i, lost + ringbuf_load(&model_region.stream(i)->lost[RINGBUF_LOST_TORN], rl::mo_relaxed));
		check_subbufs(i);
	}

	ringbuf_channel_stats(ch, &st);
	for (int i = 0; i < MODEL_THREADS_MAX; i++)
		for (unsigned j = 0; j < model_log.n[i]; j++) {
			const struct model_record *record = &model_log.records[i][j];

			if (record->state != MODEL_COMMITTED)
				continue;
			RL_ASSERT(record->reads <= 1);
			unread += !record->reads;
		}
	if (model_log.died) {
		/* one record was in flight: perhaps torn, perhaps whole, perhaps it never was */
		RL_ASSERT(st.written == st.read + st.overrun + st.unread + st.lost[RINGBUF_LOST_TORN]);
		RL_ASSERT(st.read == model_log.read && st.lost[RINGBUF_LOST_TORN] <= 1);
		/* a packet that is given up tears what was whole in it too */
		RL_ASSERT(unread <= st.overrun + st.lost[RINGBUF_LOST_TORN] + 1);
		return;
	}
	check_identities(&st, committed);
	RL_ASSERT(st.unread == 0);
	RL_ASSERT(unread == st.overrun);
	RL_ASSERT(ch->mode == RINGBUF_OVERWRITE || st.overrun == st.cleared);
}
