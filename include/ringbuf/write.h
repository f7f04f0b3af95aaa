/*
 * ringbuf/write.h - fill a reservation's payload piece by piece.
 *
 * A cursor over the payload, for callers that do not write r->payload
 * themselves. Nothing is written past its end; ringbuf_writer_left() tells.
 */
#ifndef RINGBUF_WRITE_H
#define RINGBUF_WRITE_H

#include "client.h"

struct ringbuf_writer {
	uint8_t *at, *end;
};

RINGBUF_INLINE void
ringbuf_writer_init(struct ringbuf_writer *w, const struct ringbuf_reservation *r)
{
	w->at = r->payload;
	w->end = r->payload + r->payload_size;
}

RINGBUF_INLINE size_t
ringbuf_writer_left(const struct ringbuf_writer *w)
{
	return (size_t)(w->end - w->at);
}

RINGBUF_INLINE size_t
ringbuf_writer_fit(const struct ringbuf_writer *w, size_t len)
{
	return len < ringbuf_writer_left(w) ? len : ringbuf_writer_left(w);
}

/* Copy `len` bytes, or as many as fit. Zero is nothing, and touches nothing. */
RINGBUF_INLINE void
ringbuf_write(struct ringbuf_writer *w, const void *src, size_t len)
{
	len = ringbuf_writer_fit(w, len);
	if (len)
		ringbuf_data_write(w->at, src, len);
	w->at += len;
}

RINGBUF_INLINE void
ringbuf_memset(struct ringbuf_writer *w, int byte, size_t len)
{
	len = ringbuf_writer_fit(w, len);
	if (len)
		ringbuf_data_fill(w->at, byte, len);
	w->at += len;
}

/*
 * A field of exactly `len` bytes: at most len - 1 bytes of `src` up to its NUL,
 * then `pad`, then a NUL. Each byte of `src` is loaded once, so a string that
 * changes meanwhile still gives a well-formed field.
 */
RINGBUF_INLINE void
ringbuf_strcpy(struct ringbuf_writer *w, const char *src, size_t len, char pad)
{
	const volatile char *from = src;
	size_t i, last;

	len = ringbuf_writer_fit(w, len);
	if (!len)
		return;
	last = len - 1;
	/* Hides which string it is: of a literal, gcc believes that its NUL may change, and warns of what comes after. */
	__asm__("" : "+r"(from));
	for (i = 0; i < last; i++) {
		char c = from[i];

		if (!c)
			break;
		ringbuf_data_write(w->at + i, &c, 1);
	}
	for (; i < last; i++)
		ringbuf_data_write(w->at + i, &pad, 1);
	ringbuf_data_fill(w->at + last, 0, 1);
	w->at += len;
}

#endif /* RINGBUF_WRITE_H */
