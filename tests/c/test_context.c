/* context.h: the block that a thread's records carry. */
#include "harness.h"

static uint8_t block[RINGBUF_CONTEXT_BLOCK_MAX];

static size_t
encode(const char *contexts)
{
	memset(block, 0xff, sizeof(block));
	return ringbuf_encode_contexts(contexts, block, sizeof(block));
}

TEST(what_a_thread_knows_of_itself_is_there)
{
	EQ(encode("vpid:i32,vtid:i32"), 8);
	EQ(get_le(block, 4), (uint64_t)getpid());
	EQ(get_le(block + 4, 4), (uint64_t)syscall(SYS_gettid));
	EQ(encode("procname:str"), strlen((char *)block) + 1);
	GT(strlen((char *)block), 0);
	EQ(encode(""), 0);
}

TEST(what_only_others_know_is_nothing_of_the_right_size)
{
	static const struct {
		const char *type;
		size_t size;
	} cases[] = {
		{"u8", 1},      {"u64", 8},     {"i16", 2},       {"f32", 4},     {"bool", 1},
		{"str", 1},     {"bytes", 4},   {"u32[]", 4},     {"f64[3]", 24}, {"bool[5]", 5},
		{"u8[4096]", 4096}, {"i32{A=1,B=2}", 4},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char field[64];

		snprintf(field, sizeof(field), "mine:%s", cases[i].type);
		EQ(encode(field), cases[i].size);
		for (size_t n = 0; n < cases[i].size; n++)
			EQ(block[n], 0);
		EQ(cases[i].size < sizeof(block) && block[cases[i].size] != 0xff, 0);
	}
	EQ(encode("a:u8,b:i32{A=1,B=2},vpid:i32"), 9);
	EQ(get_le(block + 5, 4), (uint64_t)getpid());
}

TEST(a_block_that_is_too_large_is_told_whatever_the_text_says)
{
	static const char *const cases[] = {
		"a:u8[4097]",
		"a:u64[4096]",
		"a:u8[4000],b:u8[97]",
		"a:u64[2305843009213693952],b:u8",                     /* 2^61 */
		"a:u8[18446744073709551615],b:u8[2]",                  /* 2^64 - 1 */
		"a:u64[4611686018427387904],b:u64[4611686018427387904]",
		"a:u99999999999999999999",
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		GT(encode(cases[i]), sizeof(block));
}

TEST(nobody_records_with_a_block_that_is_too_large)
{
	struct ringbuf_channel *ch = create(CONFIG(.contexts = "a:u8[4097]"));
	struct ringbuf_reservation r = {.payload_size = 8};

	EQ(ringbuf_reserve(ch, &r), -EUSERS);
	EQ(stats_of(ch).lost[RINGBUF_LOST_SLOTS], 1);
	ringbuf_close(ch);
}
