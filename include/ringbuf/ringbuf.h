/*
 * ringbuf/ringbuf.h - all that records into a channel and reads from it, each header below those that use it.
 * What writes files, maps and recovers is in files.h.
 *
 *	struct ringbuf_channel *ch;
 *	ringbuf_attach("/dev/shm/demo", &ch);
 *	int64_t id = ringbuf_declare_event(ch, "tick", "", "n:u64");
 *
 *	struct ringbuf_reservation r = {.event_id = id, .payload_size = sizeof(n)};
 *	if (ringbuf_reserve(ch, &r) == 0) {
 *		memcpy(r.payload, &n, sizeof(n));
 *		ringbuf_commit(ch, &r);
 *	}
 *
 * Compile with -std=gnu11 -pthread, or as C++17.
 */
#ifndef RINGBUF_RINGBUF_H
#define RINGBUF_RINGBUF_H

#include "atomic.h"
#include "position.h"
#include "descriptor.h"
#include "layout.h"
#include "file.h"
#include "clock.h"
#include "cpu.h"
#include "client.h"
#include "format.h"
#include "ctf.h"
#include "certificate.h"
#include "image.h"
#include "ledger.h"
#include "wait.h"
#include "holes.h"
#include "park.h"
#include "commit.h"
#include "switch.h"
#include "reader.h"
#include "repair.h"
#include "reserve.h"
#include "discard.h"
#include "write.h"
#include "context.h"
#include "cut.h"
#include "producer.h"
#include "channel.h"
#include "schema.h"
#include "metrics.h"
#include "stats.h"

#endif /* RINGBUF_RINGBUF_H */
