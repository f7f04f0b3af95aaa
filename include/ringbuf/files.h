/*
 * ringbuf/files.h - what works on whole channels: traces on disk, snapshots,
 * mapped streams, recovery. A program that only records does not need it.
 */
#ifndef RINGBUF_FILES_H
#define RINGBUF_FILES_H

#include "ringbuf.h"
#include "directory.h"
#include "look.h"
#include "trace.h"
#include "snapshot.h"
#include "consumer.h"
#include "map.h"
#include "recover.h"

#endif /* RINGBUF_FILES_H */
