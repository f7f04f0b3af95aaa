/*
 * tests/model/main.cc - runs models by name.
 *
 *	models --list
 *	models [--seconds=S] [--executions=N] [--search=all|tree|pct|random]
 *	       [--preemptions=N] [--stale=N] [--loud]
 *	       [--mutant=SITE:ORDER]... [--history] [--sites] NAME...
 *
 * --loud: in the tree too, threads are preempted before every atomic operation, not
 * only before those on words they contend for. --sites lists the memory orders that
 * were executed, by number.
 *
 * For each run one line: name, search, executions, seconds, result. Exit status
 * 1 if any model failed; what failed is said on standard error.
 *
 * --search=all, the default, first searches the tree to the end within bounds
 * that it widens as long as half of the time lasts, then at random.
 */
#include <stdio.h>
#include <stdlib.h>

#include "explore.h"
#include "model.h"

static const struct model *current;
static struct model_table *tables;
static bool loud, history;

model_table::model_table(const struct model *models, size_t n) : models(models), n(n), next(tables)
{
	tables = this;
}

static int
n_threads(void)
{
	int n = 0;

	while (n < MODEL_THREADS_MAX && current->threads[n])
		n++;
	return n;
}

void
model_before(int n)
{
	memset(&model_log, 0, sizeof(model_log));
	memset(&model_machine, 0, sizeof(model_machine));
	model_machine.tick = 1;
	model_machine.quiet = model_limits.search == MODEL_TREE && !loud;
	model_orders.strong = current->strong;
	model_walk = NULL;
	model_region.build(current->config, (uint32_t)n + 1); /* one more producer, for the end */
	if (current->begin)
		current->begin();
}

void
model_thread(int i)
{
	current->threads[i]();
}

void
model_after(void)
{
	if (current->end)
		current->end();
	model_finish();
	model_region.destroy();
}

static int
run_once(double seconds, uint64_t *executions)
{
	int failed;

	model_limits.seconds = seconds;
	failed = model_explore(n_threads());
	*executions += model_limits.done;
	if (failed)
		fprintf(stderr, "%s: %s\n%s", current->name, model_limits.what.c_str(),
			history ? (model_limits.history + "\n").c_str() : "");
	return failed;
}

/* ^ says that positions start just below their wrap. */
static int
print(const char *how, uint64_t executions, double start, int failed)
{
	const struct model_config *c = &current->config;

	printf("%-30s %d  %-9s %ux%ux%u%s  %-18s %11llu %7.1f  %s\n", current->name, n_threads(),
	       c->mode == RINGBUF_DISCARD ? "discard" : "overwrite", c->n_streams, 1u << c->count_order,
	       MODEL_SUBBUF_SIZE, c->start_pos ? "^" : " ", how, (unsigned long long)executions,
	       model_seconds() - start, failed ? "FAILED" : "ok");
	fflush(stdout);
	return failed;
}

static void
describe_bounds(char *text, size_t size)
{
	char p[16] = "any", s[16] = "any";

	if (model_limits.preemptions != MODEL_UNBOUNDED)
		snprintf(p, sizeof(p), "%u", model_limits.preemptions);
	if (model_limits.stale != MODEL_UNBOUNDED)
		snprintf(s, sizeof(s), "%u", model_limits.stale);
	snprintf(text, size, "tree p=%s s=%s", p, s);
}

/* Widen the bounds until the time is over; what is reported ended. */
static int
run_tree(double seconds)
{
	static const unsigned bounds[][2] = {{0, 0}, {1, 0}, {1, 1}, {2, 0}, {1, 2}, {2, 1}, {2, 2}, {3, 1}, {3, 2}, {4, 2},
					     {5, 3}, {6, 4}, {MODEL_UNBOUNDED, MODEL_UNBOUNDED}};
	char how[32] = "tree", done[32] = "tree (none)";
	double start = model_seconds();
	uint64_t executions = 0;

	for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
		double left = seconds - (model_seconds() - start);

		if (left <= 0)
			break;
		model_limits.preemptions = bounds[i][0];
		model_limits.stale = bounds[i][1];
		describe_bounds(how, sizeof(how));
		if (run_once(left, &executions))
			return print(how, executions, start, 1);
		if (model_limits.complete)
			memcpy(done, how, sizeof(done));
	}
	return print(done, executions, start, 0);
}

/* At random, with few preemptions and with many, in turns. */
static int
run_random(double seconds)
{
	static const unsigned preemptions[] = {1, 2, 3, 4, 6, 10};
	double start = model_seconds();
	uint64_t executions = 0;
	char how[32];

	for (size_t i = 0; i <= sizeof(preemptions) / sizeof(preemptions[0]); i++) {
		bool plain = i == sizeof(preemptions) / sizeof(preemptions[0]);

		model_limits.search = plain ? MODEL_RANDOM : MODEL_PCT;
		model_limits.preemptions = plain ? 0 : preemptions[i];
		snprintf(how, sizeof(how), plain ? "random" : "pct p=%u", model_limits.preemptions);
		if (run_once(seconds / 7, &executions))
			return print(how, executions, start, 1);
	}
	return print("pct 1-10, random", executions, start, 0);
}

static const struct model *
find(const char *name)
{
	for (struct model_table *t = tables; t; t = t->next)
		for (size_t i = 0; i < t->n; i++)
			if (strcmp(t->models[i].name, name) == 0)
				return &t->models[i];
	return NULL;
}

static const char *
value_of(const char *arg, const char *option)
{
	size_t len = strlen(option);

	return strncmp(arg, option, len) == 0 ? arg + len : NULL;
}

static rl::memory_order
order_named(const char *name)
{
	if (strcmp(name, "relaxed") == 0)
		return rl::mo_relaxed;
	if (strcmp(name, "acquire") == 0)
		return rl::mo_acquire;
	if (strcmp(name, "release") == 0)
		return rl::mo_release;
	return rl::mo_acq_rel;
}

int
main(int argc, char **argv)
{
	const char *search = "all", *v;
	unsigned preemptions = 2, stale = 2;
	double seconds = 10;
	uint64_t limit = 0;
	bool sites = false;
	int failed = 0;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--list") == 0) {
			for (struct model_table *t = tables; t; t = t->next)
				for (size_t j = 0; j < t->n; j++)
					puts(t->models[j].name);
			return 0;
		} else if ((v = value_of(argv[i], "--seconds=")))
			seconds = atof(v);
		else if ((v = value_of(argv[i], "--executions=")))
			limit = strtoull(v, NULL, 10);
		else if ((v = value_of(argv[i], "--search=")))
			search = v;
		else if ((v = value_of(argv[i], "--preemptions=")))
			preemptions = (unsigned)atoi(v);
		else if ((v = value_of(argv[i], "--stale=")))
			stale = (unsigned)atoi(v);
		else if (strcmp(argv[i], "--loud") == 0)
			loud = true;
		else if (strcmp(argv[i], "--history") == 0)
			history = true;
		else if (strcmp(argv[i], "--sites") == 0)
			sites = true;
		else if ((v = value_of(argv[i], "--mutant="))) {
			model_orders.weak[atoi(v)] = true;
			model_orders.weakened[atoi(v)] = order_named(strchr(v, ':') + 1);
		} else if (!(current = find(argv[i]))) {
			fprintf(stderr, "no such model: %s\n", argv[i]);
			return 2;
		} else {
			model_limits.executions = limit;
			if (strcmp(search, "all") == 0) {
				model_limits.search = MODEL_TREE;
				if (run_tree(seconds / 2) || run_random(seconds / 2))
					failed = 1;
				continue;
			}
			double start = model_seconds();
			uint64_t executions = 0;
			char how[32];

			model_limits.search = strcmp(search, "tree") == 0  ? MODEL_TREE
					      : strcmp(search, "pct") == 0 ? MODEL_PCT
									   : MODEL_RANDOM;
			model_limits.preemptions = preemptions;
			model_limits.stale = stale;
			describe_bounds(how, sizeof(how));
			failed |= run_once(seconds, &executions);
			print(model_limits.search == MODEL_TREE ? (model_limits.complete ? how : "tree (not ended)") : search,
			      executions, start, failed);
		}
	}
	for (int i = 0; sites && i < MODEL_SITES_MAX; i++)
		if (model_orders.seen[i])
			printf("site %d\n", i);
	return failed;
}
