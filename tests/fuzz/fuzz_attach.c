/*
 * A file that claims to be a channel: its superblock, its length and its
 * declarations are the input's. What is attached to is then used.
 */
#include "fuzz.h"

#include <sys/stat.h>

#define FILE_MAX (UINT64_C(1) << 26)

/* A file like the channel's, with changes to the superblock: offset, bytes, and up to eight of them. */
static int
make_file(const struct ringbuf_channel *ch)
{
	uint8_t page[4096];
	int fd = (int)syscall(SYS_memfd_create, "fuzz", 0);
	uint64_t size = ch->region_size, edits = fuzz_take(1) % 16, area = fuzz_take(1) % 64;
	struct ringbuf_superblock *sb = (struct ringbuf_superblock *)(void *)page;

	memcpy(page, ch->base, sizeof(page));
	while (edits--) {
		uint64_t off = fuzz_take(2) % sizeof(*sb), n = fuzz_take(1) % 9, value = fuzz_take(n);

		memcpy(page + off, &value, n < sizeof(page) - off ? n : sizeof(page) - off);
	}
	if (fuzz_take(1) & 1 && ringbuf_check_geometry(sb) == 0)
		ringbuf_compute_layout(sb);
	if (fuzz_take(1) & 1)
		size = fuzz_take(4);
	else if (sb->region_size < FILE_MAX)
		size = sb->region_size;
	FUZZ_REQUIRE(fd >= 0 && ftruncate(fd, (off_t)(size < FILE_MAX ? size : FILE_MAX)) == 0);
	FUZZ_REQUIRE(pwrite(fd, page, size < sizeof(page) ? size : sizeof(page), 0) >= 0);
	while (size > 16384 && area--) { /* declarations, as far as they lie there */
		uint64_t off = fuzz_take(1), value = fuzz_take(4);

		FUZZ_REQUIRE(pwrite(fd, &value, 4, (off_t)(8192 + off * 4)) == 4);
	}
	return fd;
}

static void
walk_declarations(struct ringbuf_channel *ch)
{
	struct ringbuf_schema s;
	uint64_t off = 0, last = 0;

	ringbuf_store(&ch->control->schema_used, fuzz_take(2), RINGBUF_RELAXED);
	while (ringbuf_next_schema(ch, &off, &s)) {
		FUZZ_REQUIRE(off > last);
		FUZZ_REQUIRE((const uint8_t *)s.name >= ch->base + ch->schema_off);
		FUZZ_REQUIRE((const uint8_t *)s.fields + s.fields_size <= ch->base + ch->schema_off + ch->schema_size);
		last = off;
	}
	ringbuf_declare_event(ch, "event", "", "n:u64");
}

static void
use(struct ringbuf_channel *ch)
{
	struct ringbuf_reservation rec;
	struct ringbuf_stream_reader r;
	struct ringbuf_stats st;

	walk_declarations(ch);
	for (uint64_t n = fuzz_take(1) % 8; n; n--)
		if (fuzz_record(ch, fuzz_take(2), &rec) == 0)
			ringbuf_commit(ch, &rec);
	ringbuf_stream_reader_init(ch, ch->n_streams - 1, &r);
	if (ringbuf_this_producer(ch))
		ringbuf_clear_stream(&r, ringbuf_this_producer(ch)->slot);
	ringbuf_channel_stats(ch, &st);
	ringbuf_repair(ch);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ringbuf_channel *seed, *ch;
	uint64_t missing;
	int fd, copy;

	fuzz_tape.at = data;
	fuzz_tape.left = size;
	seed = fuzz_create(fuzz_take(1));
	fd = make_file(seed);
	fuzz_close(seed);
	copy = ringbuf_recover_copy(fd, &missing);
	if (copy >= 0)
		close(copy);
	if (ringbuf_attach_fd(fd, NULL, NULL, &ch)) {
		close(fd);
		return 0;
	}
	use(ch);
	fuzz_close(ch);
	return 0;
}
