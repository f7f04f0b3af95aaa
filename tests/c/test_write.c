/* write.h: the cursor over a reservation's payload. */
#include "harness.h"

static uint8_t memory[256];

static struct ringbuf_writer
writer_of(uint64_t size)
{
	struct ringbuf_reservation r = {.payload = memory + 64, .payload_size = size};
	struct ringbuf_writer w;

	memset(memory, 0xaa, sizeof(memory));
	ringbuf_writer_init(&w, &r);
	EQ(ringbuf_writer_left(&w), size);
	return w;
}

/* memory[64..64+n) is `expected`, and nothing else was touched. */
static void
check_written(const void *expected, size_t n)
{
	CHECK(!memcmp(memory + 64, expected, n), "the bytes differ");
	for (size_t i = 0; i < sizeof(memory); i++)
		if (i < 64 || i >= 64 + n)
			CHECK(memory[i] == 0xaa, "byte %zd was touched", (ssize_t)i - 64);
}

TEST(pieces_follow_one_another)
{
	struct ringbuf_writer w = writer_of(16);

	ringbuf_write(&w, "abc", 3);
	EQ(ringbuf_writer_left(&w), 13);
	ringbuf_memset(&w, 'x', 2);
	ringbuf_write(&w, "de", 2);
	EQ(ringbuf_writer_left(&w), 9);
	check_written("abcxxde", 7);
}

TEST(nothing_is_written_past_the_end)
{
	struct ringbuf_writer w = writer_of(5);

	ringbuf_write(&w, "abc", 3);
	ringbuf_write(&w, "defgh", 5);
	EQ(ringbuf_writer_left(&w), 0);
	ringbuf_write(&w, "i", 1);
	ringbuf_memset(&w, 'x', 10);
	ringbuf_strcpy(&w, "text", 4, '#');
	check_written("abcde", 5);

	w = writer_of(5);
	ringbuf_memset(&w, 'x', SIZE_MAX);
	check_written("xxxxx", 5);
}

TEST(zero_bytes_touch_nothing_even_at_the_end)
{
	struct ringbuf_writer w = writer_of(0);

	ringbuf_write(&w, NULL, 0);
	ringbuf_memset(&w, 'x', 0);
	ringbuf_strcpy(&w, "abc", 0, '#');
	ringbuf_strcpy(&w, "abc", 4, '#');
	EQ(ringbuf_writer_left(&w), 0);
	check_written("", 0);
}

TEST(a_string_is_padded_and_ended)
{
	struct ringbuf_writer w = writer_of(20);

	ringbuf_strcpy(&w, "ab", 6, '#');
	EQ(ringbuf_writer_left(&w), 14);
	check_written("ab###", 6);

	w = writer_of(20);
	ringbuf_strcpy(&w, "", 3, 0);
	check_written("\0\0", 3);

	w = writer_of(20);
	ringbuf_strcpy(&w, "abc", 4, '#'); /* fits exactly */
	check_written("abc", 4);

	w = writer_of(20);
	ringbuf_strcpy(&w, "abcdef", 4, '#');
	check_written("abc", 4);

	w = writer_of(20);
	ringbuf_strcpy(&w, "abc", 1, '#');
	check_written("", 1);
}

TEST(a_string_cut_by_the_end_of_the_payload_is_still_ended)
{
	struct ringbuf_writer w = writer_of(3);

	ringbuf_strcpy(&w, "abcdef", 10, '#');
	EQ(ringbuf_writer_left(&w), 0);
	check_written("ab", 3);
}

/* ---- a source that changes meanwhile ---- */

static char changing[32];
static atomic_int stop;

static void *
change(void *arg)
{
	volatile char *s = changing;

	(void)arg;
	for (unsigned int i = 0; !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
		s[i % 30] = 0;
		s[i % 30] = 'a' + (char)(i % 26);
	}
	return NULL;
}

TEST(a_string_that_changes_during_the_copy_gives_a_well_formed_field)
{
	uint64_t end = now_ns() + 100000000;
	pthread_t t;

	if (TSAN)
		SKIP("a data race on purpose");
	memset(changing, 'x', 31);
	t = start(change, NULL);
	while (now_ns() < end) {
		struct ringbuf_writer w = writer_of(40);
		int ended = 0;

		ringbuf_strcpy(&w, changing, 24, 0);
		EQ(ringbuf_writer_left(&w), 16);
		for (int i = 0; i < 24; i++) {
			CHECK(!ended || !memory[64 + i], "text after the NUL at %d", i);
			ended |= !memory[64 + i];
		}
		OK(ended);
		for (int i = 24; i < 40; i++)
			EQ(memory[64 + i], 0xaa);
	}
	atomic_store(&stop, 1);
	join(t);
}

TEST(a_record_written_in_pieces_is_read_whole)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_reservation r = {.event_id = 1, .payload_size = 24, .flags = RINGBUF_LENGTH_PREFIX};
	struct stamp stamp = {STAMP_MAGIC, 7, 9};
	struct ringbuf_writer w;
	uint8_t tail[8];

	for (unsigned int i = 0; i < sizeof(tail); i++)
		tail[i] = stamp_byte(7, 9, 16 + i);
	EQ(ringbuf_reserve(ch, &r), 0);
	ringbuf_writer_init(&w, &r);
	ringbuf_write(&w, &stamp, sizeof(stamp));
	ringbuf_write(&w, tail, sizeof(tail));
	EQ(ringbuf_writer_left(&w), 0);
	ringbuf_commit(ch, &r);
	EQ(flush_and_read(ch), 1);
}
