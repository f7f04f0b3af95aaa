/*
 * tests/model/search.h - how executions are chosen.
 *
 * Two ways beside Relacy's own:
 *
 * tree: depth first, all executions with at most so many preemptions and so many
 * loads of an older value than the newest. Without bounds this is the full
 * search. If it ends, every execution within the bounds has been seen.
 *
 * pct: random, but few preemptions at random places (Burckhardt et al., "A
 * randomized scheduler with probabilistic guarantees of finding bugs"): the
 * thread of the highest priority runs, and its priority drops at so many random
 * steps. Finds what needs one thread to stand still while others run long.
 */
#ifndef MODEL_SEARCH_H
#define MODEL_SEARCH_H

#include "seam.h"
#include "explore.h"

/* Is it time to stop? Called after each execution. */
inline bool
model_enough(double start)
{
	uint64_t n = ++model_limits.done;

	if (model_limits.executions && n >= model_limits.executions)
		return true;
	return n % 64 == 0 && model_seconds() - start > model_limits.seconds;
}

/* ---- tree ---- */

template <rl::thread_id_t N>
class model_tree_scheduler
	: public rl::tree_search_scheduler<model_tree_scheduler<N>, rl::tree_search_scheduler_thread_info<N>, N> {
public:
	typedef rl::tree_search_scheduler<model_tree_scheduler<N>, rl::tree_search_scheduler_thread_info<N>, N> base;
	typedef typename base::thread_info_t thread_info_t;
	typedef typename base::shared_context_t shared_context_t;

	model_tree_scheduler(rl::test_params &params, shared_context_t &ctx, rl::thread_id_t dynamic)
		: base(params, ctx, dynamic), start(model_seconds())
	{
	}

	rl::thread_id_t
	iteration_begin_impl()
	{
		preemptions = model_limits.preemptions;
		stale = model_limits.stale;
		return base::iteration_begin_impl();
	}

	bool
	iteration_end_impl()
	{
		if (base::iteration_end_impl()) {
			model_limits.done++;
			model_limits.complete = true;
			return true;
		}
		return model_enough(start);
	}

	bool can_switch(thread_info_t &) { return preemptions != 0; }

	void
	on_switch(thread_info_t &t)
	{
		if (t.state_ == rl::thread_state_running && preemptions != MODEL_UNBOUNDED)
			preemptions--;
	}

	unsigned
	rand_impl(unsigned limit, rl::sched_type type)
	{
		unsigned r;

		if (type != rl::sched_type_atomic_load)
			return base::rand_impl(limit, type);
		if (!stale) /* 0: the newest */
			return 0;
		r = base::rand_impl(limit, type);
		if (r && stale != MODEL_UNBOUNDED)
			stale--;
		return r;
	}

	double iteration_count_approx() { return 1; }

private:
	double start;
	unsigned preemptions, stale;
};

/* ---- pct, and plain random ---- */

template <rl::thread_id_t N>
class model_random_scheduler : public rl::scheduler<model_random_scheduler<N>, rl::scheduler_thread_info, N> {
public:
	typedef rl::scheduler<model_random_scheduler<N>, rl::scheduler_thread_info, N> base;
	typedef rl::scheduler_thread_info thread_info_t;
	typedef typename base::shared_context_t shared_context_t;

	struct task_t {};

	model_random_scheduler(rl::test_params &params, shared_context_t &ctx, rl::thread_id_t dynamic)
		: base(params, ctx, dynamic), start(model_seconds()), length(64)
	{
	}

	rl::thread_id_t
	iteration_begin_impl()
	{
		state = this->iter_ * UINT64_C(0x9e3779b97f4a7c15) + 1;
		length_used = length;
		steps = 0;
		for (rl::thread_id_t i = 0; i < N; i++)
			priority[i] = MODEL_CHANGES + 1 + (unsigned)i;
		for (rl::thread_id_t i = N; i > 1; i--)
			std::swap(priority[i - 1], priority[next() % (unsigned)i]);
		n_changes = model_limits.preemptions < MODEL_CHANGES ? model_limits.preemptions : MODEL_CHANGES;
		for (unsigned i = 0; i < n_changes; i++)
			change[i] = next() % length;
		/* how readily loads return an older value: from hardly ever to every other time */
		staleness = 1 + next() % 8;
		return pick();
	}

	bool
	iteration_end_impl()
	{
		length = steps > length ? steps : length - (length - steps) / 64;
		return model_enough(start);
	}

	rl::thread_id_t
	schedule_impl(rl::unpark_reason &reason, unsigned yield)
	{
		rl::thread_id_t timed = this->timed_thread_count_;

		steps++;
		if (timed && (!this->running_threads_count || next() % 4 == 0)) {
			rl::thread_id_t th = this->timed_threads_[next() % (unsigned)timed]->index_;

			this->unpark_thread(th);
			reason = rl::unpark_reason_timeout;
			return th;
		}
		reason = rl::unpark_reason_normal;
		for (unsigned i = 0; i < n_changes; i++)
			if (change[i] == steps)
				priority[this->thread_->index_] = i;
		if (yield)
			priority[this->thread_->index_] = 0;
		return pick();
	}

	unsigned
	rand_impl(unsigned limit, rl::sched_type type)
	{
		if (type == rl::sched_type_atomic_load)
			return next() % 16 < staleness;
		return next() % limit;
	}

	rl::iteration_t iteration_count_impl() { return ~UINT64_C(0); }

	/* An execution can be repeated from its number and the length that was assumed. */
	void get_state_impl(std::ostream &ss) { ss << length_used << " "; }
	void set_state_impl(std::istream &ss) { ss >> length; }
	void on_thread_block(rl::thread_id_t, bool) {}

private:
	enum { MODEL_CHANGES = 16 };
	double start;
	uint64_t state;
	uint64_t length, length_used, steps, change[MODEL_CHANGES];
	unsigned n_changes, priority[N], staleness;

	unsigned
	next() /* splitmix64 */
	{
		uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));

		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		return (unsigned)((z ^ (z >> 31)) >> 33);
	}

	rl::thread_id_t
	pick()
	{
		rl::thread_id_t best = this->running_threads[0];

		if (model_limits.search == MODEL_RANDOM)
			return this->running_threads[next() % (unsigned)this->running_threads_count];
		for (rl::thread_id_t i = 1; i < this->running_threads_count; i++)
			if (priority[this->running_threads[i]] > priority[best])
				best = this->running_threads[i];
		return best;
	}
};

#endif /* MODEL_SEARCH_H */
