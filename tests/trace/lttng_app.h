/* lttng_app.h - tracepoints with fields of every kind that LTTng-UST has, for lttng_app.c. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER app
#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "lttng_app.h"

#if !defined(LTTNG_APP_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define LTTNG_APP_H
#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_ENUM(app, state,
	LTTNG_UST_TP_ENUM_VALUES(
		lttng_ust_field_enum_value("IDLE", 0)
		lttng_ust_field_enum_range("BUSY", 1, 3)
		lttng_ust_field_enum_value("LOST", 7)))

/* `part` is never empty: babeltrace2 prints the text of another event for that. */
LTTNG_UST_TRACEPOINT_EVENT(app, all,
	LTTNG_UST_TP_ARGS(int, n, double, x, const char *, text, const uint16_t *, numbers, size_t, many),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(int, n, n)
		lttng_ust_field_integer_hex(uint8_t, hexadecimal, n)
		lttng_ust_field_integer_network(uint32_t, network, (uint32_t)n)
		lttng_ust_field_float(double, x, x)
		lttng_ust_field_float(float, single, (float)x)
		lttng_ust_field_string(text, text)
		lttng_ust_field_array(uint16_t, fixed, numbers, 3)
		lttng_ust_field_array_text(char, letters, text, 4)
		lttng_ust_field_sequence(uint16_t, numbers, numbers, size_t, many)
		lttng_ust_field_sequence_text(char, part, text, size_t, many + 1)
		lttng_ust_field_enum(app, state, int, state, n % 9)))

LTTNG_UST_TRACEPOINT_EVENT(app, empty, LTTNG_UST_TP_ARGS(), LTTNG_UST_TP_FIELDS())

#endif
#include <lttng/tracepoint-event.h>
