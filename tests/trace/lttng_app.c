/* lttng_app.c - `lttng_app COUNT`: waits until it is traced, and records so many events of each kind. */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng_app.h"
#include <stdlib.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	static const uint16_t numbers[] = {1, 2, 65535};
	int count = argc > 1 ? atoi(argv[1]) : 1;

	for (int i = 0; !lttng_ust_tracepoint_enabled(app, all); i++) {
		if (i == 60000)
			return 1;
		usleep(1000);
	}
	for (int i = 0; i < count; i++) {
		lttng_ust_tracepoint(app, all, i - 2, i / 4.0, "text", numbers, (size_t)(i % 4));
		lttng_ust_tracepoint(app, empty);
	}
	return 0;
}
