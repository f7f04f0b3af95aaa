/* schema.h: event declarations. */
#define HARNESS_HOOKS
#include "harness.h"

static unsigned int
count_schemas(const struct ringbuf_channel *ch)
{
	struct ringbuf_schema s;
	uint64_t off = 0;
	unsigned int n = 0;

	while (ringbuf_next_schema(ch, &off, &s))
		EQ(s.id, n++);
	return n;
}

static int64_t
declare(struct ringbuf_channel *ch, unsigned int n)
{
	char name[16];

	snprintf(name, sizeof(name), "event%u", n);
	return ringbuf_declare_event(ch, name, "", "n:u64");
}

TEST(ids_are_places_in_the_order)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_schema s;
	uint64_t off = 0;

	EQ(count_schemas(ch), 0);
	EQ(ringbuf_declare_event(ch, "first", "", "n:u64"), 0);
	EQ(ringbuf_declare_event(ch, "second", "cpu:u32", "path:str,ms:f64"), 1);
	EQ(ringbuf_declare_event(ch, "third", "", ""), 2);
	EQ(count_schemas(ch), 3);
	OK(ringbuf_next_schema(ch, &off, &s));
	OK(ringbuf_next_schema(ch, &off, &s));
	EQ(s.name_size, 6);
	OK(!memcmp(s.name, "second", 6));
	EQ(s.contexts_size, 7);
	OK(!memcmp(s.contexts, "cpu:u32", 7));
	EQ(s.fields_size, 15);
	OK(!memcmp(s.fields, "path:str,ms:f64", 15));
}

TEST(the_same_declaration_has_the_same_id)
{
	struct ringbuf_channel *ch = create(CONFIG());

	EQ(ringbuf_declare_event(ch, "a", "", "n:u64"), 0);
	EQ(ringbuf_declare_event(ch, "b", "", "n:u64"), 1);
	EQ(ringbuf_declare_event(ch, "a", "", "n:u64"), 0);
	EQ(ringbuf_declare_event(ch, "a", "", "n:u32"), 2);
	EQ(ringbuf_declare_event(ch, "a", "c:u8", "n:u64"), 3);
	EQ(ringbuf_declare_event(ch, "b", "", "n:u64"), 1);
	/* the same bytes, divided otherwise */
	EQ(ringbuf_declare_event(ch, "ab", "", "c"), 4);
	EQ(ringbuf_declare_event(ch, "a", "b", "c"), 5);
	EQ(ringbuf_declare_event(ch, "a", "", "bc"), 6);
	EQ(count_schemas(ch), 7);
}

TEST(a_declaration_without_a_name_or_too_long_is_refused)
{
	struct ringbuf_channel *ch = create(CONFIG(.schema_size = MIB));
	char *text = malloc(65537);

	memset(text, 'x', 65536);
	text[65536] = 0;
	EQ(ringbuf_declare_event(ch, "", "", "n:u64"), -EINVAL);
	EQ(ringbuf_declare_event(ch, text, "", ""), -EINVAL);
	EQ(ringbuf_declare_event(ch, "a", text, ""), -EINVAL);
	EQ(ringbuf_declare_event(ch, "a", "", text), -EINVAL);
	EQ(count_schemas(ch), 0);
	text[65535] = 0;
	EQ(ringbuf_declare_event(ch, text, text, text), 0);
	EQ(count_schemas(ch), 1);
	EQ(ringbuf_declare_event(ch, text, text, text), 0);
	free(text);
}

TEST(a_full_area_refuses_and_stays_as_it_was)
{
	struct ringbuf_channel *ch = create(CONFIG(.schema_size = 4096));
	int64_t id;
	unsigned int n = 0;

	while ((id = declare(ch, n)) >= 0)
		EQ(id, n++);
	EQ(id, -ENOSPC);
	GT(n, 4096 / 64 - 1);
	EQ(count_schemas(ch), n);
	EQ(declare(ch, n), -ENOSPC);
	for (unsigned int i = 0; i < n; i++)
		EQ(declare(ch, i), i);
	EQ(count_schemas(ch), n);
}

TEST(an_area_is_used_to_its_last_byte)
{
	struct ringbuf_channel *ch = create(CONFIG(.schema_size = 4096));
	char fields[4096];

	memset(fields, 'f', sizeof(fields));
	fields[4096 - sizeof(struct ringbuf_schema_entry) - 1] = 0;
	EQ(ringbuf_declare_event(ch, "e", "", fields), 0);
	EQ(ringbuf_declare_event(ch, "g", "", ""), -ENOSPC);
	EQ(count_schemas(ch), 1);
}

/* ---- many at once ---- */

#define EVENTS 60

struct declarers {
	struct ringbuf_channel *ch;
	int64_t ids[4][EVENTS];
};

static void
declare_all(struct declarers *d, unsigned int who)
{
	for (unsigned int i = 0; i < EVENTS; i++) {
		unsigned int n = (i * 7 + who * 13) % EVENTS;

		d->ids[who][n] = declare(d->ch, n);
	}
}

static struct declarers *declarers;

static void *
declaring_thread(void *arg)
{
	declare_all(declarers, (unsigned int)(uintptr_t)arg);
	return NULL;
}

static void
check_agreement(const struct declarers *d)
{
	uint8_t taken[EVENTS] = {0};

	EQ(count_schemas(d->ch), EVENTS);
	for (unsigned int n = 0; n < EVENTS; n++) {
		GE(d->ids[0][n], 0);
		LT(d->ids[0][n], EVENTS);
		OK(!taken[d->ids[0][n]]++);
		for (unsigned int who = 1; who < 4; who++)
			EQ(d->ids[who][n], d->ids[0][n]);
	}
}

TEST(threads_agree_on_the_ids)
{
	pthread_t t[4];

	declarers = shared_memory(sizeof(*declarers));
	declarers->ch = create(CONFIG(.schema_size = 65536));
	for (uintptr_t i = 0; i < 4; i++)
		t[i] = start(declaring_thread, (void *)i);
	for (int i = 0; i < 4; i++)
		join(t[i]);
	check_agreement(declarers);
}

TEST(processes_agree_on_the_ids)
{
	pid_t pids[4];

	declarers = shared_memory(sizeof(*declarers));
	declarers->ch = create(CONFIG(.schema_size = 65536));
	for (unsigned int i = 0; i < 4; i++) {
		pids[i] = spawn();
		if (!pids[i]) {
			declare_all(declarers, i);
			_exit(0);
		}
	}
	for (int i = 0; i < 4; i++)
		reap(pids[i]);
	check_agreement(declarers);
}

static void
die(void *arg)
{
	(void)arg;
	raise(SIGKILL);
}

TEST(a_declarer_killed_with_the_lock_leaves_no_trace)
{
	struct ringbuf_channel *ch = create(CONFIG());
	pid_t pid;

	EQ(declare(ch, 0), 0);
	pid = spawn();
	if (!pid) {
		hook_at("schema_written", die, NULL);
		declare(ch, 1);
		_exit(1);
	}
	reap_killed(pid);
	EQ(count_schemas(ch), 1);
	EQ(declare(ch, 2), 1);
	EQ(declare(ch, 1), 2);
	EQ(declare(ch, 0), 0);
	EQ(count_schemas(ch), 3);
}

TEST(a_declarer_killed_outright_holding_the_lock_does_not_block_others)
{
	struct ringbuf_channel *ch = create(CONFIG());
	int *locked = shared_memory(sizeof(*locked));
	pid_t pid = spawn();

	if (!pid) {
		EQ(ringbuf_robust_lock(&ch->control->schema_lock, 1), 0);
		__atomic_store_n(locked, 1, __ATOMIC_RELEASE);
		pause();
	}
	while (!__atomic_load_n(locked, __ATOMIC_ACQUIRE))
		sched_yield();
	kill_child(pid);
	EQ(declare(ch, 0), 0);
}

TEST(a_reader_sees_complete_declarations_only)
{
	struct ringbuf_channel *ch = create(CONFIG(.schema_size = MIB));
	pid_t pid = spawn();
	unsigned int seen = 0;

	if (!pid) {
		for (unsigned int i = 0; i < 2000; i++)
			declare(ch, i);
		_exit(0);
	}
	while (seen < 1000) {
		struct ringbuf_schema s;
		uint64_t off = 0;
		char name[16];

		for (seen = 0; ringbuf_next_schema(ch, &off, &s) && seen < 1000; seen++) {
			snprintf(name, sizeof(name), "event%u", seen);
			EQ(s.name_size, strlen(name));
			OK(!memcmp(s.name, name, s.name_size));
			EQ(s.fields_size, 5);
		}
	}
	kill_child(pid);
}

TEST(a_corrupt_area_ends_the_walk_inside_it)
{
	struct ringbuf_channel *ch = create(CONFIG());
	uint8_t *area = ch->base + ch->schema_off;
	uint64_t used;

	for (unsigned int i = 0; i < 20; i++)
		EQ(declare(ch, i), i);
	used = ringbuf_load(&ch->control->schema_used, RINGBUF_ACQUIRE);
	for (struct runs run = runs(0.1); next_run(&run);) {
		struct ringbuf_schema s;
		uint64_t off = rnd_below(2) ? 0 : rnd_below(used);

		for (int i = 0; i < 4; i++)
			area[rnd_below(used)] = (uint8_t)rnd();
		if (!rnd_below(4))
			ringbuf_store(&ch->control->schema_used, rnd() >> rnd_below(64), RINGBUF_RELEASE);
		while (ringbuf_next_schema(ch, &off, &s)) {
			OK((const uint8_t *)s.name >= area);
			OK((const uint8_t *)s.fields + s.fields_size <= area + ch->schema_size);
			OK(off <= ch->schema_size);
		}
		ringbuf_declare_event(ch, "more", "", ""); /* whatever it says */
	}
}
