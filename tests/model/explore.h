/*
 * tests/model/explore.h - run one model over many executions.
 *
 * The part that instantiates Relacy stands by itself (explore.cc): it takes long
 * to compile, and knows nothing of the headers under test.
 */
#ifndef MODEL_EXPLORE_H
#define MODEL_EXPLORE_H

#include <stdint.h>
#include <string>
#include <time.h>

enum model_search { MODEL_TREE, MODEL_PCT, MODEL_RANDOM };

#define MODEL_UNBOUNDED (~0u)

struct model_limits {
	enum model_search search;
	unsigned preemptions; /* tree: at most, pct: this many, random: not used */
	unsigned stale;       /* tree: loads that return an older value, at most */
	double seconds;       /* of processor time, so that a busy machine searches as much */
	uint64_t executions;  /* stop after so many, 0: no limit */

	/* out: */
	uint64_t done;
	bool complete;        /* the tree was searched to its end */
	std::string what;     /* what failed, and where */
	std::string history;  /* and all that led to it */
};

extern struct model_limits model_limits;

/* Explore a model of so many threads within model_limits. Returns 0 if no execution failed. */
int model_explore(int n_threads);

/* The model, in model.cc: called for each execution, and for each thread of it. */
void model_before(int n_threads);
void model_thread(int i);
void model_after(void);

inline double
model_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

#endif /* MODEL_EXPLORE_H */
