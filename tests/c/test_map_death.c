/* map.h: mappers and producers that are really killed. */
#include "harness.h"

static struct ringbuf_channel *ch;
static struct ringbuf_stream *s;
static struct ringbuf_map map;

static void
setup(void)
{
	ch = create(CONFIG(.mode = RINGBUF_OVERWRITE));
	s = ringbuf_stream_at(ch, 0);
	EQ(ringbuf_map_open(ch, 0, &map), 0);
}

TEST(a_mapper_killed_inside_the_call_leaves_the_lock_to_the_others)
{
	pid_t pid;

	setup();
	EQ(record(ch, 1000, 0), 0);
	pid = fork();
	if (!pid) {
		struct ringbuf_map own;

		EQ(ringbuf_map_open(ch, 0, &own), 0);
		EQ(ringbuf_robust_lock(&s->map_lock, 1), 0);
		kill(getpid(), SIGKILL);
	}
	reap_killed(pid);
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(ringbuf_map_meta(&map)->read, 1);
	ringbuf_map_close(&map);
	EQ(ringbuf_has_no_reader(ch, 0), 1);
}

/* Its descriptor may be there for a moment after its lock is free: the next is not alone. */
TEST(a_page_that_a_killed_mapper_had_not_filled_is_filled_by_the_next)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_map killed, next;

	EQ(ringbuf_map_open(ch, 0, &killed), 0);
	memset(ringbuf_meta_of(&killed.reader), 0, sizeof(struct ringbuf_meta));
	EQ(ringbuf_map_open(ch, 0, &next), 0);
	EQ(ringbuf_map_meta(&next)->meta_struct_len, sizeof(struct ringbuf_meta));
	EQ(ringbuf_map_meta(&next)->nr_subbufs, ringbuf_n_subbufs(&ch->geometry) + 1);
	EQ(ringbuf_map_meta(&next)->reader.id, (uint64_t)ringbuf_map_get_reader(&next));
	ringbuf_map_close(&next);
	ringbuf_map_close(&killed);
}

TEST(a_wait_repairs_what_a_killed_producer_left)
{
	struct ringbuf_reservation r;
	pid_t pid;

	setup();
	EQ(record(ch, 1000, 0), 0);
	EQ(ringbuf_map_get_reader(&map), 1);
	pid = fork();
	if (!pid) {
		EQ(reserve(ch, &r, 1000, 1), 0);
		kill(getpid(), SIGKILL);
	}
	reap_killed(pid);
	EQ(record(ch, 1000, 2), 0);
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(ringbuf_map_meta(&map)->read, 1); /* behind the hole */
	flush(ch);
	EQ(ringbuf_map_wait(&map, 0, 1000 * 1000, ringbuf_deadline(UINT64_C(20000000000))), 0);
	EQ(ringbuf_map_get_reader(&map), 1);
	EQ(ringbuf_map_meta(&map)->read, 2);
	EQ(ringbuf_map_meta(&map)->torn, 1);
	EQ(ringbuf_map_meta(&map)->entries, 2);
}

static void *
get_reader(void *arg)
{
	return (void *)(intptr_t)ringbuf_map_get_reader(arg);
}

/* It has found the right to be there, and waits for the lock of whoever gives it up. */
TEST(a_call_that_waited_while_its_mapping_was_released_swaps_nothing)
{
	struct ringbuf_right reader;
	pthread_t t;

	setup();
	EQ(record(ch, 1000, 0), 0);
	EQ(ringbuf_robust_lock(&s->map_lock, 1), 0);
	t = start(get_reader, &map);
	sleep_ms(20);
	ringbuf_close_reader(&map.right); /* as ringbuf_map_release does it */
	EQ(ringbuf_open_reader(ch, 0, 1, &reader), 0);
	ringbuf_robust_unlock(&s->map_lock);
	EQ((intptr_t)join(t), -ECHILD);
	EQ(atomic_load(&s->hold), 0);
}
