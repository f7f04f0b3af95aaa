/*
 * ringbuf/format.h - what stands in a packet of Common Trace Format 1.8: its header,
 * the ids and sizes of record headers. Needs no other header of ringbuf.
 *
 * C, Cython and Python take these facts from here; tests/c/test_format.c and
 * tests/ctf/test_metadata.py compare them with the metadata that describes them.
 */
#ifndef RINGBUF_FORMAT_H
#define RINGBUF_FORMAT_H

#include <stdint.h>

#define RINGBUF_CTF_MAGIC UINT32_C(0xC1FC1FC1)

/* Everything is packed, but for record headers, which are aligned to RINGBUF_CTF_ALIGN bytes. */
struct ringbuf_ctf_packet_header {
	uint32_t magic;
	uint8_t uuid[16];
	uint32_t stream_id;
	uint64_t stream_instance_id;
	uint64_t timestamp_begin;
	uint64_t timestamp_end;
	uint64_t content_size; /* bits, with this header */
	uint64_t packet_size;  /* bits, with the padding to the next page */
	uint64_t packet_seq_num;
	uint64_t events_discarded; /* since the stream began */
	uint32_t cpu_id;           /* only where each CPU has a stream of its own */
} __attribute__((packed));

#define RINGBUF_CTF_PACKET_HEADER_SIZE 84
#define RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL 80 /* without cpu_id */

#ifdef __cplusplus
#define RINGBUF_FORMAT_ASSERT static_assert
#else
#define RINGBUF_FORMAT_ASSERT _Static_assert
#endif
RINGBUF_FORMAT_ASSERT(sizeof(struct ringbuf_ctf_packet_header) == RINGBUF_CTF_PACKET_HEADER_SIZE, "it is packed");
RINGBUF_FORMAT_ASSERT(__builtin_offsetof(struct ringbuf_ctf_packet_header, cpu_id) ==
			      RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL,
		      "cpu_id comes last");

/*
 * Record header, compact: one u32, id in 5 bits and time in 27; id 31 means
 * extended: that byte, u32 id, u64 time. Large: u16 id and u32 time; id 65535
 * means extended: that u16, u32 id, u64 time.
 *
 * A hole stands where a record was discarded or torn: id 30 (large: 65534),
 * then its length in 27 (large: 32) bits, then that many bytes, then the next
 * record's header. To a reader it is part of that next header, so it is never
 * seen. Holes that touch are joined, and one at the end of the packet is left
 * out of its content, before anybody reads it (holes.h).
 */
#define RINGBUF_CTF_ALIGN 4
#define RINGBUF_CTF_TIME_BITS 27 /* of a short timestamp, also in the large header */
#define RINGBUF_CTF_COMPACT_ID_BITS 5
#define RINGBUF_CTF_COMPACT_HOLE 30u
#define RINGBUF_CTF_COMPACT_EXTENDED 31u
#define RINGBUF_CTF_LARGE_HOLE 65534u
#define RINGBUF_CTF_LARGE_EXTENDED 65535u
#define RINGBUF_CTF_COMPACT_SIZE 4 /* bytes of a header that is not extended */
#define RINGBUF_CTF_LARGE_SIZE 6
#define RINGBUF_CTF_HEADER_SIZE_MAX 14

#endif /* RINGBUF_FORMAT_H */
