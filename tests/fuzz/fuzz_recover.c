/*
 * The file of a channel whose producers are dead, with any of its bytes
 * changed, or cut short, is recovered.
 */
#include "fuzz.h"

#include <fcntl.h>

static char directory[] = "/dev/shm/ringbuf-fuzz-XXXXXX/trace";

/* Says what a packet's records may be: that it cannot be read, or a number. */
static int64_t
judge(void *arg, const struct ringbuf_packet *p, int agrees)
{
	uint64_t says = fuzz_take(1);

	(void)agrees;
	fuzz_read((const struct ringbuf_channel *)arg, p);
	return says < 200 ? (int64_t)p->records : says < 230 ? -1 : (int64_t)says;
}

/* Records, some of which stay open. */
static struct ringbuf_channel *
make_region(void)
{
	struct ringbuf_channel *ch = fuzz_create(fuzz_take(1) & ~UINT64_C(64));
	unsigned int n_open = 0;

	for (uint64_t n = fuzz_take(1) % 40; n; n--) {
		uint64_t how = fuzz_take(2);
		struct ringbuf_reservation r;

		fuzz_cpu = how >> 15 & 1;
		if (fuzz_record(ch, how % 3000, &r))
			continue;
		if (how >> 12 & 7)
			ringbuf_commit(ch, &r);
		else if (n_open++ >= 3)
			ringbuf_discard(ch, &r);
	}
	return ch;
}

/* Its file: each change is to a control word, or to any byte. */
static int
make_file(const struct ringbuf_channel *ch)
{
	int fd = (int)syscall(SYS_memfd_create, "fuzz", 0);
	uint64_t changes = fuzz_take(1) % 32, size = ch->region_size;

	FUZZ_REQUIRE(fd >= 0 && write(fd, ch->base, size) == (ssize_t)size);
	while (changes--) {
		uint64_t where = fuzz_take(2), n = where & 2 ? 8 : 1, value = fuzz_take(n), off = where >> 2;

		if (where & 2)
			off *= 8;
		if (where & 1)
			off += ch->streams_off + (off & 8 ? ch->stream_stride * (ch->n_streams - 1) : 0);
		FUZZ_REQUIRE(pwrite(fd, &value, n, (off_t)(off % (size - 8))) == (ssize_t)n);
	}
	if (fuzz_take(1) > 200)
		FUZZ_REQUIRE(ftruncate(fd, (off_t)(size - fuzz_take(2) % size)) == 0);
	return fd;
}

static void
remove_trace(void)
{
	static const char *const names[] = {"/stream", "/stream_0", "/stream_1"};
	char path[64];

	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s%s", directory, names[i]);
		unlink(path);
	}
	rmdir(directory);
}

static void
recover(int fd)
{
	struct ringbuf_recovery how = {.files = {.directory = directory}, .all = (int)fuzz_take(1) & 1, .check = judge};
	struct ringbuf_recovered_stream streams[2] = {{0}};
	struct ringbuf_last_words words;
	struct ringbuf_channel *ch;
	uint64_t missing;
	int copy = ringbuf_recover_copy(fd, &missing);

	if (copy < 0)
		return;
	if (ringbuf_attach_fd(copy, NULL, NULL, &ch)) {
		close(copy);
		return;
	}
	how.arg = ch;
	for (uint32_t i = 0; i < ch->n_producers; i++)
		ringbuf_get_last_words(ch, i, &words);
	if (ch->n_streams <= 2 && ch->region_size < 1 << 20)
		ringbuf_recover_files(ch, &how, streams);
	remove_trace();
	fuzz_close(ch);
}

static void
remove_directory(void)
{
	directory[strlen(directory) - 6] = 0;
	rmdir(directory);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int ready;
	struct ringbuf_channel *ch;
	int fd;

	if (!ready) {
		char *end = strrchr(directory, '/');

		*end = 0;
		FUZZ_REQUIRE(mkdtemp(directory));
		*end = '/';
		atexit(remove_directory);
		ready = 1;
	}
	fuzz_tape.at = data;
	fuzz_tape.left = size;
	ch = make_region();
	fd = make_file(ch);
	fuzz_close(ch);
	recover(fd);
	close(fd);
	return 0;
}
