/* counter.c - what calls.py asks of callgrind. */
#include <valgrind/callgrind.h>

void
begin_part(void)
{
	CALLGRIND_ZERO_STATS;
}

void
end_part(const char *name)
{
	CALLGRIND_DUMP_STATS_AT(name);
}
