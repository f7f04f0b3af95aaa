/* cpu.h: which CPU a thread is on, and how many there can be. */
#include "harness.h"

TEST(a_pinned_thread_is_where_it_was_pinned)
{
	int cpus[64], n = allowed_cpus(cpus, 64);

	for (int lap = 0; lap < 20; lap++)
		for (int i = 0; i < n; i++) {
			pin(cpus[i]);
			EQ(ringbuf_cpu(), cpus[i]);
			EQ(sched_getcpu(), cpus[i]);
		}
}

static void *
on_another_thread(void *arg)
{
	(void)arg;
	return (void *)(uintptr_t)ringbuf_cpu();
}

TEST(a_new_thread_and_a_forked_child_know_theirs)
{
	int cpus[64], n = allowed_cpus(cpus, 64);
	pid_t pid;

	pin(cpus[n - 1]); /* they inherit it */
	EQ((uintptr_t)join(start(on_another_thread, NULL)), cpus[n - 1]);
	pid = spawn();
	if (!pid) {
		EQ(ringbuf_cpu(), cpus[n - 1]);
		_exit(0);
	}
	reap(pid);
}

TEST(no_cpu_has_a_number_beyond_the_possible_ones)
{
	int cpus[CPU_SETSIZE], n = allowed_cpus(cpus, CPU_SETSIZE);

	LT(cpus[n - 1], ringbuf_cpus_possible());
	GE((long)ringbuf_cpus_possible(), sysconf(_SC_NPROCESSORS_ONLN));
	LT(ringbuf_cpus_possible(), 1u << 20);
}

TEST(a_channel_knows_whether_cpus_share_its_streams)
{
	uint32_t possible = ringbuf_cpus_possible();

	EQ(create(CONFIG(.streams = RINGBUF_PER_CPU))->cpus_share, 0);
	EQ(create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = possible + 1))->cpus_share, 0);
	EQ(create(CONFIG(.streams = RINGBUF_GLOBAL))->cpus_share, 0);
	if (possible > 1)
		EQ(create(CONFIG(.streams = RINGBUF_PER_CPU, .n_streams = possible - 1))->cpus_share, 1);
}

/* glibc.pthread.rseq=0 takes the kernel's area away; the answer must not. */
TEST(without_restartable_sequences_the_answer_is_the_same)
{
	const char *tunables = getenv("GLIBC_TUNABLES");

	if (!tunables) {
		char self[4096];
		ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
		pid_t pid = spawn();

		OK(size > 0);
		self[size] = 0;
		if (!pid) {
			setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
			OK(freopen("/dev/null", "w", stdout)); /* the verdict is its exit status */
			execl(self, self, "a_pinned_thread_is_where_it_was_pinned", (char *)NULL);
			_exit(1);
		}
		reap(pid);
	}
}
