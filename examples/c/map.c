/*
 * map.c - look into a stream through its mapping: the meta page, then the reader's sub-buffer.
 *
 * Build:
 *	include=$(python -c 'import ringbuf; print(ringbuf.get_include())')
 *	cc -std=gnu11 -O2 -pthread -I"$include" map.c -o map
 *
 * Run: ./map BUFFER [STREAM]
 * BUFFER is a file that a Channel or Tracer was made with (path=), or /proc/PID/fd/N of a
 * process that has one open. What is printed with its records counts as read.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <ringbuf/files.h>

int
main(int argc, char **argv)
{
	struct ringbuf_channel *ch;
	struct ringbuf_map map;
	const struct ringbuf_meta *meta;
	const uint8_t *data;
	int id, ret;

	if (argc < 2) {
		fprintf(stderr, "usage: %s BUFFER [STREAM]\n", argv[0]);
		return EXIT_FAILURE;
	}
	ret = ringbuf_attach(argv[1], &ch);
	if (!ret) {
		ret = ringbuf_map_open(ch, argc > 2 ? (uint32_t)atoi(argv[2]) : 0, &map);
		if (ret)
			ringbuf_close(ch);
	}
	if (ret) {
		fprintf(stderr, "%s: %s\n", argv[1], ringbuf_strerror(ret));
		return EXIT_FAILURE;
	}

	id = ringbuf_map_get_reader(&map);
	if (id < 0) {
		fprintf(stderr, "%s: %s\n", argv[1], ringbuf_strerror(id));
		return EXIT_FAILURE;
	}
	meta = ringbuf_map_meta(&map);
	printf("entries:     %" PRIu64 "\n", meta->entries);
	printf("overrun:     %" PRIu64 "\n", meta->overrun);
	printf("read:        %" PRIu64 "\n", meta->read);
	printf("nr_subbufs:  %" PRIu32 "\n", meta->nr_subbufs);

	data = ringbuf_map_subbuf(&map, (uint32_t)id);
	printf("reader:      sub-buffer %d, at %td of the mapping, %" PRIu32 " bytes to read\n", id, data - map.base,
	       meta->reader.read);

	ringbuf_map_close(&map);
	ringbuf_close(ch);
	return EXIT_SUCCESS;
}
