/* lttng_events.h - the tracepoint of lttng_producer.c. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER bench
#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "lttng_events.h"

#if !defined(LTTNG_EVENTS_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define LTTNG_EVENTS_H
#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(bench, one, LTTNG_UST_TP_ARGS(uint64_t, n),
			   LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(uint64_t, n, n)))

#endif
#include <lttng/tracepoint-event.h>
