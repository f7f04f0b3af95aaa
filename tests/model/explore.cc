/* tests/model/explore.cc - Relacy, for 1 to 4 threads and both schedulers of search.h. */
#include <fstream>

#include "explore.h"
#include "search.h"

struct model_limits model_limits;

template <rl::thread_id_t N>
struct model_suite : rl::test_suite<model_suite<N>, N> {
	void before() { model_before(N); }
	void thread(unsigned i) { model_thread((int)i); }
	void after() { model_after(); }
};

/* rl::simulate(), with schedulers of our own. */
template <typename suite, typename scheduler>
static int
simulate(rl::test_params &params)
{
	rl::ostringstream state, ignored;
	uint64_t done;

	if (rl::run_test<suite, scheduler>(params, state, false) == rl::test_result_success)
		return 0;
	/* once more, with a history */
	done = params.stop_iteration;
	params.initial_state = state.str();
	params.collect_history = true;
	rl::run_test<suite, scheduler>(params, ignored, true);
	model_limits.done = done;
	return 1;
}

template <rl::thread_id_t N>
static int
simulate_with(rl::test_params &params)
{
	if (model_limits.search == MODEL_TREE)
		return simulate<model_suite<N>, model_tree_scheduler<N> >(params);
	return simulate<model_suite<N>, model_random_scheduler<N> >(params);
}

/* Out of Relacy's report: the last event of the history, and the history without the
 * making of the region. */
static void
explain(const rl::string &report)
{
	size_t first_line = report.find('\n'), begin = report.find("[BEFORE END]"), end, at;

	if (begin == rl::string::npos)
		begin = 0;
	end = report.find("\nthread 0:", begin);
	at = report.rfind('\n', report.rfind(report.substr(0, first_line), end));
	at = report.find("] ", at) + 2;
	model_limits.what = "thread " + std::string(report.substr(at, report.find('\n', at) - at).c_str());
	model_limits.history = report.substr(begin, end - begin).c_str();
}

int
model_explore(int n_threads)
{
	static std::ofstream nowhere("/dev/null");
	rl::ostringstream report; /* not std::: Relacy owns operator new while it runs */
	rl::test_params params;
	int failed;

	model_limits.done = 0;
	model_limits.complete = false;
	params.progress_stream = &nowhere;
	params.output_stream = &report;
	params.execution_depth_limit = 20000;
	params.search_type = model_limits.search == MODEL_TREE ? rl::sched_bound : rl::sched_random;
	switch (n_threads) {
	case 1: failed = simulate_with<1>(params); break;
	case 2: failed = simulate_with<2>(params); break;
	case 3: failed = simulate_with<3>(params); break;
	default: failed = simulate_with<4>(params); break;
	}
	if (failed)
		explain(report.str());
	return failed;
}
