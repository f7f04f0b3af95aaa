/* metrics.h: counters, gauges and histograms. */
#define HARNESS_HOOKS
#include "harness.h"

#define TEXT(m, field, text) ((m).field = (text), (m).field##_size = (uint32_t)strlen(text))

static struct ringbuf_metric
metric(uint32_t kind, const char *name, const char *labels)
{
	static const double bounds[] = {0.5, 1, 2};
	struct ringbuf_metric m;

	memset(&m, 0, sizeof(m));
	m.kind = kind;
	m.unit = m.help = "";
	TEXT(m, name, name);
	TEXT(m, labels, labels);
	m.bounds = bounds;
	m.n_bounds = kind == RINGBUF_HISTOGRAM ? 3 : 0;
	return m;
}

static struct ringbuf_metric
declared(struct ringbuf_channel *ch, uint32_t kind, const char *name, const char *labels)
{
	struct ringbuf_metric m = metric(kind, name, labels);

	EQ(ringbuf_declare_metric(ch, &m), 0);
	return m;
}

static uint32_t
series(struct ringbuf_channel *ch, const struct ringbuf_metric *m, const char *value)
{
	char labels[64];
	uint32_t size = (uint32_t)strlen(value);
	int64_t word;

	memcpy(labels, &size, 4);
	memcpy(labels + 4, value, size);
	word = ringbuf_metric_series(ch, m, labels, size + 4);
	GE(word, 0);
	return (uint32_t)word;
}

static void
count_entries(const struct ringbuf_channel *ch, unsigned int *metrics, unsigned int *n_series)
{
	struct ringbuf_metric m;

	*metrics = *n_series = 0;
	for (uint64_t off = 0; ringbuf_next_metric(ch, &off, &m);)
		++*(m.kind == RINGBUF_SERIES ? n_series : metrics);
}

TEST(the_same_declaration_is_the_same_metric)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_metric a = declared(ch, RINGBUF_COUNTER, "a", ""), b = declared(ch, RINGBUF_COUNTER, "b", "");
	unsigned int metrics, n_series;

	NE(a.word, b.word);
	EQ(declared(ch, RINGBUF_COUNTER, "a", "").word, a.word);
	EQ(declared(ch, RINGBUF_COUNTER, "b", "").number, 1);
	count_entries(ch, &metrics, &n_series);
	EQ(metrics, 2);
	EQ(n_series, 2);
}

TEST(one_name_is_one_thing)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_metric other = metric(RINGBUF_GAUGE, "a", "");
	double bounds[] = {1, 2, 3};

	declared(ch, RINGBUF_COUNTER, "a", "");
	declared(ch, RINGBUF_HISTOGRAM, "h", "");
	EQ(ringbuf_declare_metric(ch, &other), -EEXIST);
	other = metric(RINGBUF_COUNTER, "a", "x:str");
	EQ(ringbuf_declare_metric(ch, &other), -EEXIST);
	other = metric(RINGBUF_COUNTER, "a", "");
	TEXT(other, unit, "s");
	EQ(ringbuf_declare_metric(ch, &other), -EEXIST);
	other = metric(RINGBUF_HISTOGRAM, "h", "");
	other.bounds = bounds;
	EQ(ringbuf_declare_metric(ch, &other), -EEXIST);
	other = metric(RINGBUF_COUNTER, "a", "");
	TEXT(other, help, "better said");
	EQ(ringbuf_declare_metric(ch, &other), 0);
}

TEST(what_is_no_metric_is_refused)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_metric m = metric(RINGBUF_COUNTER, "", "");
	double descending[] = {1, 1}, endless[] = {1, 1.0 / 0.0};

	EQ(ringbuf_declare_metric(ch, &m), -EINVAL);
	m = metric(RINGBUF_SERIES, "a", "");
	EQ(ringbuf_declare_metric(ch, &m), -EINVAL);
	m = metric(RINGBUF_HISTOGRAM, "a", "");
	m.n_bounds = 0;
	EQ(ringbuf_declare_metric(ch, &m), -EINVAL);
	m.n_bounds = 2;
	m.bounds = descending;
	EQ(ringbuf_declare_metric(ch, &m), -EINVAL);
	m.bounds = endless;
	EQ(ringbuf_declare_metric(ch, &m), -EINVAL);
	m.n_bounds = RINGBUF_BOUNDS_MAX + 1;
	EQ(ringbuf_declare_metric(ch, &m), -EINVAL);
}

TEST(series_are_told_by_their_labels)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_metric m = declared(ch, RINGBUF_COUNTER, "a", "x:str"), n = declared(ch, RINGBUF_COUNTER, "b", "x:str");
	uint32_t get = series(ch, &m, "GET"), put = series(ch, &m, "PUT");

	NE(get, put);
	EQ(series(ch, &m, "GET"), get);
	NE(series(ch, &n, "GET"), get);
	ringbuf_metric_add(ch, get, 3);
	ringbuf_metric_add(ch, put, 4);
	EQ(ringbuf_metric_sum(ch, get), 3);
	EQ(ringbuf_metric_sum(ch, put), 4);
}

TEST(what_finds_no_room_is_counted_with_the_rest)
{
	struct ringbuf_channel *ch = create(CONFIG(.metrics_size = 4096));
	struct ringbuf_metric m = declared(ch, RINGBUF_COUNTER, "a", "x:str");
	uint64_t sum = 0;
	unsigned int own = 0;
	char value[16];

	for (unsigned int i = 0; i < 100; i++) {
		uint32_t word;

		snprintf(value, sizeof(value), "%u", i);
		word = series(ch, &m, value);
		own += word != m.rest;
		ringbuf_metric_add(ch, word, 1);
	}
	GT(own, 30);
	EQ(ringbuf_metric_sum(ch, m.rest), 100 - own);
	for (uint32_t word = 0; word < 512; word++)
		sum += ringbuf_metric_sum(ch, word);
	EQ(sum, 100);
	m = metric(RINGBUF_COUNTER, "a name for which there is no room", "");
	EQ(ringbuf_declare_metric(ch, &m), -ENOSPC);
}

TEST(words_run_out_before_declarations)
{
	struct ringbuf_channel *ch = create(CONFIG(.metrics_size = 65536));
	struct ringbuf_metric m = metric(RINGBUF_HISTOGRAM, "h", "x:str");
	double bounds[1000];
	uint32_t first;

	for (int i = 0; i < 1000; i++)
		bounds[i] = i;
	m.bounds = bounds;
	m.n_bounds = 1000;
	EQ(ringbuf_declare_metric(ch, &m), 0);
	first = series(ch, &m, "0");
	NE(first, m.rest);
	for (char value[] = "1"; *value < '7'; ++*value)
		NE(series(ch, &m, value), m.rest);
	EQ(series(ch, &m, "7"), m.rest); /* 8 * 1002 of 8192 words */
	EQ(series(ch, &m, "0"), first);
}

TEST(values_go_into_the_bucket_whose_bound_is_not_below_them)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_metric m = declared(ch, RINGBUF_HISTOGRAM, "h", "");
	double values[] = {-1, 0, 0.5, 0.6, 1, 1.5, 2, 2.1, 1e300};
	uint64_t expected[] = {3, 2, 2, 2};

	for (unsigned int i = 0; i < ARRAY_SIZE(values); i++)
		ringbuf_observe(ch, &m, m.word, values[i]);
	for (unsigned int i = 0; i < ARRAY_SIZE(expected); i++)
		EQ(ringbuf_metric_sum(ch, m.word + 1 + i), expected[i]);
	OK(ringbuf_metric_real(ch, m.word) > 9e299);
}

TEST(every_number_of_bounds_finds_its_bucket)
{
	double bounds[20];

	for (uint32_t i = 0; i < ARRAY_SIZE(bounds); i++)
		bounds[i] = i;
	for (uint32_t n = 1; n <= ARRAY_SIZE(bounds); n++)
		for (uint32_t i = 0; i <= n; i++) {
			EQ(ringbuf_bucket_of(bounds, n, i), i);
			EQ(ringbuf_bucket_of(bounds, n, i - 0.5), i);
			EQ(ringbuf_bucket_of(bounds, n, 0.0 / 0.0), n);
		}
}

TEST(a_gauge_is_what_was_set_and_what_was_added_since)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_metric m = declared(ch, RINGBUF_GAUGE, "g", "");

	ringbuf_metric_add_real(ch, m.word, 2.5);
	EQ(ringbuf_metric_real(ch, m.word), 2.5);
	ringbuf_gauge_set(ch, m.word, 10);
	EQ(ringbuf_metric_real(ch, m.word), 10);
	ringbuf_metric_add_real(ch, m.word, -4);
	EQ(ringbuf_metric_real(ch, m.word), 6);
	ringbuf_gauge_set(ch, m.word, 0);
	EQ(ringbuf_metric_real(ch, m.word), 0);
}

TEST(each_cpu_has_a_row)
{
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_metric m = declared(ch, RINGBUF_COUNTER, "a", "");
	int cpus[4], n = allowed_cpus(cpus, 4);

	need_cpus(2);
	for (int i = 0; i < n; i++) {
		pin(cpus[i]);
		ringbuf_metric_add(ch, m.word, 1);
		EQ(ringbuf_load(ringbuf_metric_word(ch, (uint32_t)cpus[i], m.word), RINGBUF_RELAXED), 1);
	}
	EQ(ringbuf_metric_sum(ch, m.word), (uint64_t)n);
	for (uint32_t row = 0; row < ch->metrics_rows; row++) /* no line is shared by two rows */
		GE((uint8_t *)ringbuf_metric_word(ch, row + 1, 0) - (uint8_t *)ringbuf_metric_word(ch, row, 0),
		   (int64_t)ch->metrics_size + RINGBUF_CACHE_LINE);
}

/* ---- many at once ---- */

#define TIMES 20000

struct counting {
	struct ringbuf_channel *ch;
	struct ringbuf_metric counter, gauge, histogram;
	_Atomic uint64_t begun, done;
};

static struct counting *counting;

static void
count_all(void)
{
	const struct counting *c = counting;

	for (unsigned int i = 0; i < TIMES; i++) {
		ringbuf_metric_add(c->ch, c->counter.word, 1);
		ringbuf_metric_add_real(c->ch, c->gauge.word, i % 2 ? 1 : -1);
		ringbuf_observe(c->ch, &c->histogram, c->histogram.word, i % 4);
	}
}

static void *
counting_thread(void *arg)
{
	count_all();
	return arg;
}

static void
begin_counting(void)
{
	counting = shared_memory(sizeof(*counting));
	counting->ch = create(CONFIG());
	counting->counter = declared(counting->ch, RINGBUF_COUNTER, "c", "");
	counting->gauge = declared(counting->ch, RINGBUF_GAUGE, "g", "");
	counting->histogram = declared(counting->ch, RINGBUF_HISTOGRAM, "h", "");
}

TEST(threads_and_processes_lose_no_count)
{
	pid_t pids[3];
	pthread_t t[3];

	begin_counting();
	for (int i = 0; i < 3; i++) {
		pids[i] = spawn();
		if (!pids[i]) {
			count_all();
			_exit(0);
		}
	}
	for (int i = 0; i < 3; i++)
		t[i] = start(counting_thread, NULL);
	for (int i = 0; i < 3; i++)
		join(t[i]);
	for (int i = 0; i < 3; i++)
		reap(pids[i]);
	EQ(ringbuf_metric_sum(counting->ch, counting->counter.word), 6 * TIMES);
	EQ(ringbuf_metric_real(counting->ch, counting->gauge.word), 0);
	EQ(ringbuf_metric_real(counting->ch, counting->histogram.word), 6 * TIMES / 4 * 6.0);
	for (uint32_t i = 0; i < 3; i++)
		EQ(ringbuf_metric_sum(counting->ch, counting->histogram.word + 1 + i), 6 * TIMES / 4);
}

static void
count_in_handler(int number)
{
	(void)number;
	ringbuf_metric_add(counting->ch, counting->counter.word, 1);
	ringbuf_metric_add_real(counting->ch, counting->gauge.word, 1);
}

TEST(a_signal_handler_counts_too)
{
	unsigned int raised = 0;
	pthread_t self = pthread_self(), t;

	begin_counting();
	signal(SIGUSR1, count_in_handler);
	t = start(counting_thread, NULL);
	while (raised < 500) {
		pthread_kill(self, SIGUSR1);
		ringbuf_metric_add(counting->ch, counting->counter.word, 1);
		if (pthread_kill(t, SIGUSR1) == 0)
			ringbuf_metric_add(counting->ch, counting->counter.word, 1);
		raised++;
	}
	join(t);
	GE(ringbuf_metric_sum(counting->ch, counting->counter.word), TIMES + 3 * 500);
	LE(ringbuf_metric_sum(counting->ch, counting->counter.word), TIMES + 4 * 500);
	EQ(ringbuf_metric_sum(counting->ch, counting->counter.word) - TIMES - 1000,
	   (uint64_t)ringbuf_metric_real(counting->ch, counting->gauge.word));
}

TEST(the_killed_have_counted_what_they_had_done)
{
	begin_counting();
	for (int round = 0; round < 20; round++) {
		pid_t pid = spawn();
		uint64_t sum;

		if (!pid)
			for (;;) {
				atomic_fetch_add(&counting->begun, 1);
				ringbuf_metric_add(counting->ch, counting->counter.word, 1);
				atomic_fetch_add(&counting->done, 1);
			}
		sleep_ms(1 + round % 3);
		kill_child(pid);
		sum = ringbuf_metric_sum(counting->ch, counting->counter.word);
		GE(sum, atomic_load(&counting->done));
		LE(sum, atomic_load(&counting->begun));
		atomic_store(&counting->done, sum);
		atomic_store(&counting->begun, sum);
	}
	GT(atomic_load(&counting->done), 20);
}

static void
die(void *arg)
{
	(void)arg;
	raise(SIGKILL);
}

TEST(who_dies_over_a_value_has_counted_it)
{
	pid_t pid;

	begin_counting();
	pid = spawn();
	if (!pid) {
		hook_after("metric_bucket_counted", 2, die, NULL);
		for (;;)
			ringbuf_observe(counting->ch, &counting->histogram, counting->histogram.word, 1);
	}
	reap_killed(pid);
	EQ(ringbuf_metric_sum(counting->ch, counting->histogram.word + 2), 3);
	EQ(ringbuf_metric_real(counting->ch, counting->histogram.word), 2);
}

TEST(who_dies_over_a_declaration_leaves_one_that_others_complete)
{
	static const char *const points[] = {"metric_written", "metric_without_series"};
	struct ringbuf_channel *ch = create(CONFIG());
	struct ringbuf_metric m;

	for (unsigned int skip = 0; skip < 2; skip++)
		for (unsigned int i = 0; i < ARRAY_SIZE(points); i++) {
			char name[16];
			pid_t pid;

			snprintf(name, sizeof(name), "m%u%u", skip, i);
			pid = spawn();
			if (!pid) {
				m = metric(RINGBUF_COUNTER, name, "");
				hook_after(points[i], i ? 0 : skip, die, NULL);
				ringbuf_declare_metric(ch, &m);
				_exit(1);
			}
			reap_killed(pid);
			m = declared(ch, RINGBUF_COUNTER, name, "");
			ringbuf_metric_add(ch, m.word, 1);
			EQ(ringbuf_metric_sum(ch, m.word), 1);
			EQ(declared(ch, RINGBUF_COUNTER, name, "").word, m.word);
		}
}

/* ---- series of processes ---- */

static uint32_t
own_gauge(struct ringbuf_channel *ch, double value)
{
	struct ringbuf_metric m = metric(RINGBUF_GAUGE, "rss", "");
	int64_t word;

	m.flags = RINGBUF_METRIC_PROCESS;
	EQ(ringbuf_declare_metric(ch, &m), 0);
	word = ringbuf_metric_series(ch, &m, "", 0);
	GE(word, 0);
	NE(word, m.rest);
	ringbuf_gauge_set(ch, (uint32_t)word, value);
	return (uint32_t)word;
}

/* How many series of processes there are, and of how many the process is gone. */
static unsigned int
owned(const struct ringbuf_channel *ch, unsigned int *gone)
{
	struct ringbuf_metric m;
	unsigned int n = 0;

	*gone = 0;
	for (uint64_t off = 0; ringbuf_next_metric(ch, &off, &m);)
		if (m.kind == RINGBUF_SERIES && m.owner && !(m.flags & RINGBUF_METRIC_REST)) {
			n++;
			*gone += (unsigned int)ringbuf_owner_is_gone(ch->fd, m.owner);
		}
	return n;
}

TEST(the_series_of_the_dead_go_to_those_who_come)
{
	struct ringbuf_channel *ch = create(CONFIG());
	uint32_t mine = own_gauge(ch, 7);
	unsigned int gone;

	for (int i = 0; i < 5; i++) {
		pid_t pid = spawn();

		if (!pid) {
			OK(own_gauge(ch, 100) != mine);
			raise(SIGKILL);
		}
		reap_killed(pid);
		EQ(owned(ch, &gone), 2); /* mine, and one for all five */
		EQ(gone, 1);
	}
	EQ(own_gauge(ch, 8), mine);
	EQ(ringbuf_metric_real(ch, mine), 8);
}

TEST(two_processes_have_a_series_each)
{
	struct ringbuf_channel *ch = create(CONFIG());
	uint32_t mine = own_gauge(ch, 7);
	unsigned int gone;
	int fds[2];
	char byte;
	pid_t pid;

	EQ(pipe(fds), 0);
	pid = spawn();
	if (!pid) {
		own_gauge(ch, 9);
		EQ(write(fds[1], "x", 1), 1);
		for (;;)
			pause();
	}
	EQ(read(fds[0], &byte, 1), 1);
	EQ(owned(ch, &gone), 2);
	EQ(gone, 0);
	EQ(ringbuf_metric_real(ch, mine), 7);
	kill_child(pid);
	EQ(owned(ch, &gone), 2);
	EQ(gone, 1);
}

/* ---- what others may have written ---- */

TEST(an_area_that_makes_no_sense_ends_there)
{
	struct ringbuf_channel *ch = create(CONFIG(.metrics_size = 4096));
	struct ringbuf_metric m = declared(ch, RINGBUF_HISTOGRAM, "h", "x:str");
	uint8_t *area = ch->base + ch->metrics_off;
	uint8_t saved[4096];

	series(ch, &m, "a");
	memcpy(saved, area, sizeof(saved));
	for (unsigned int i = 0; i < 20000; i++) {
		struct ringbuf_metric have;

		memcpy(area, saved, sizeof(saved));
		for (int edits = 0; edits < 3; edits++)
			area[rnd_below(256)] = (uint8_t)rnd();
		if (i % 4 == 0)
			ringbuf_store(&ch->control->metrics_used, rnd_below(2) ? rnd() : rnd_below(8192), RINGBUF_RELAXED);
		for (uint64_t off = 0; ringbuf_next_metric(ch, &off, &have);) {
			LE(off, 4096);
			LE((uint64_t)((const uint8_t *)have.labels + have.labels_size - area), 4096);
			if (have.kind == RINGBUF_SERIES && ringbuf_series_fits(ch, &m, have.word))
				LE((have.word + 5) * 8, 4096);
		}
		have = metric(RINGBUF_HISTOGRAM, "h", "x:str");
		if (ringbuf_declare_metric(ch, &have) == 0)
			LE((have.word + 5) * 8, 4096);
	}
}
