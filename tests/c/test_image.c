/* image.h: a process image has a number of its own, and its end is seen: by exec in any thread, by death, by nothing
 * else. What the kernel does not free of the dead is had all the same, once. */
#define HARNESS_HOOKS
#include "harness.h"
#include <sched.h>
#include <sys/wait.h>

static struct ringbuf_channel *ch;

static pid_t
run_child(void *(*fn)(void *), int in_thread)
{
	pid_t pid = spawn();

	if (!pid) {
		if (in_thread)
			join(start(fn, NULL));
		else
			fn(NULL);
		_exit(99);
	}
	return pid;
}

/* This very process goes on as another program, which waits until it is killed or its input ends. */
static void
exec_and_wait(void)
{
	char *argv[] = {(char *)"sleep", (char *)"1000", NULL};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execvp(argv[0], argv);
	_exit(98);
}

static void *
record_and_exec(void *arg)
{
	EQ(record(ch, 16, 0), 0);
	exec_and_wait();
	return arg;
}

static void
exec_hook(void *arg)
{
	(void)arg;
	exec_and_wait();
}

static void *
exec_over_a_claim(void *arg)
{
	hook_at("ledger_claimed", exec_hook, NULL);
	record(ch, 16, 0);
	return arg;
}

static void *
exec_over_a_record(void *arg)
{
	struct ringbuf_reservation r = {.payload_size = 16};

	EQ(ringbuf_reserve(ch, &r), 0);
	exec_and_wait();
	return arg;
}

/* Wait for it to be another program. */
static void
wait_for_exec(pid_t pid)
{
	char path[64], name[32] = "";

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	for (uint64_t end = now_ns() + 20 * 1000000000ull; strcmp(name, "sleep\n"); sleep_ms(1)) {
		FILE *f = fopen(path, "re");

		LT(now_ns(), end);
		if (f && !fgets(name, sizeof(name), f))
			name[0] = 0;
		if (f)
			fclose(f);
	}
}

TEST(a_forked_child_is_another_image_and_the_parent_stays_what_it_was)
{
	uint32_t image, *child = shared_memory(sizeof(*child));
	pid_t pid;

	ch = create(CONFIG());
	image = ch->image;
	EQ(image, 1);
	OK(ch->image_lock);
	pid = spawn();
	if (!pid) {
		*child = ch->image;
		OK(ringbuf_image_is_locked(ch, ch->image));
		OK(ringbuf_image_is_locked(ch, image));
		_exit(0);
	}
	reap(pid);
	EQ(*child, 2);
	EQ(ch->image, image);
	OK(!ringbuf_image_is_locked(ch, *child));
	OK(ringbuf_image_is_dead(ch, *child));
	OK(!ringbuf_image_is_dead(ch, image));
}

TEST(a_child_that_lives_on_does_not_keep_its_parents_image_alive)
{
	uint32_t *image = shared_memory(sizeof(*image));
	pid_t pid, *grandchild = shared_memory(sizeof(*grandchild));

	ch = create(CONFIG());
	pid = spawn();
	if (!pid) {
		*image = ch->image;
		pid = fork();
		if (!pid)
			for (;;)
				pause();
		*grandchild = pid;
		_exit(0);
	}
	reap(pid);
	GE(*grandchild, 1);
	OK(!kill(*grandchild, 0));
	OK(ringbuf_image_is_dead(ch, *image));
	for (uint64_t end = now_ns() + 20 * 1000000000ull; ringbuf_image_is_dead(ch, *image + 1); sleep_ms(1))
		LT(now_ns(), end); /* it may not have come to itself yet */
	kill(*grandchild, SIGKILL);
}

static void
check_exec_frees(int in_thread)
{
	ch = create(CONFIG(.n_producers = 1));
	for (int i = 0; i < 3; i++) {
		pid_t pid = run_child(record_and_exec, in_thread);

		wait_for_exec(pid);
		EQ(record(ch, 16, 0), 0); /* though the process lives */
		ringbuf_release_producers(&ringbuf_thread_self, ch, 0);
		kill_child(pid);
	}
	CHECK_IDENTITIES(stats_of(ch), 6);
	EQ(flush_and_read(ch), 6);
}

TEST(exec_by_the_first_thread_gives_its_slot_back) { check_exec_frees(0); }
TEST(exec_by_another_thread_gives_its_slot_back) { check_exec_frees(1); }

static void
check_exec_over(void *(*what)(void *), int in_thread, uint64_t torn)
{
	pid_t pid;

	ch = create(CONFIG(.n_producers = 2));
	pid = run_child(what, in_thread);
	wait_for_exec(pid);
	for (uint64_t i = 0; i < 5; i++)
		EQ(record(ch, 16, i), 0);
	EQ(ringbuf_repair(ch), torn); /* else nothing is missing: ending the packet delivers it */
	EQ(flush_and_read(ch), 5);
	EQ(stats_of(ch).lost[RINGBUF_LOST_TORN], torn);
	CHECK_IDENTITIES(stats_of(ch), 5 + torn);
	OK(ringbuf_ledger_is_idle(ringbuf_producer_slot_at(ch, 0)));
	kill_child(pid);
}

TEST(exec_over_an_open_record_by_the_first_thread_is_repaired) { check_exec_over(exec_over_a_record, 0, 1); }
TEST(exec_over_an_open_record_by_another_thread_is_repaired) { check_exec_over(exec_over_a_record, 1, 1); }
TEST(exec_over_a_claim_by_another_thread_is_repaired) { check_exec_over(exec_over_a_claim, 1, 0); }

/* ---- what the kernel cannot walk ---- */

static struct ringbuf_channel *other;

static void *
record_in_both_and_wait(void *arg)
{
	struct ringbuf_reservation r = {.payload_size = 16};

	EQ(ringbuf_reserve(ch, &r), 0); /* older in the list than the other channel's lock */
	EQ(record(other, 16, 0), 0);
	__atomic_store_n((int *)arg, 1, __ATOMIC_RELEASE);
	for (;;)
		pause();
}

static void
check_list_broken_by(void (*damage)(struct ringbuf_producer_slot *))
{
	int *ready = shared_memory(sizeof(*ready));
	pid_t pid;

	ch = create(CONFIG(.n_producers = 4));
	other = create(CONFIG(.n_producers = 4));
	pid = spawn();
	if (!pid)
		join(start(record_in_both_and_wait, ready));
	while (!__atomic_load_n(ready, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	damage(ringbuf_producer_slot_at(other, 0));
	kill_child(pid);
	EQ(record(ch, 16, 0), 0);
	GE(ringbuf_repair(ch), 1);
	EQ(flush_and_read(ch), 1);
	EQ(stats_of(ch).lost[RINGBUF_LOST_TORN], 1);
}

static void
scribble_on_the_link(struct ringbuf_producer_slot *slot)
{
	memset((uint8_t *)&slot->certificate + 24, 0x5a, 16);
}

TEST(a_scribble_in_one_channel_keeps_no_record_of_another_from_repair) { check_list_broken_by(scribble_on_the_link); }

/* ---- whose descriptor it is ---- */

TEST(whose_descriptor_is_gone_or_a_strangers_takes_nobody_for_dead)
{
	int *ready = shared_memory(sizeof(*ready));
	pid_t pid;
	int fd;

	ch = create(CONFIG(.n_producers = 1));
	pid = spawn();
	if (!pid) {
		EQ(record(ch, 16, 0), 0);
		__atomic_store_n(ready, 1, __ATOMIC_RELEASE);
		for (;;)
			pause();
	}
	while (!__atomic_load_n(ready, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	EQ(record(ch, 16, 0), -EUSERS);
	fd = dup(ch->fd);
	close(ch->fd);
	EQ(record(ch, 16, 0), -EUSERS);
	GE(dup2(open("/dev/null", O_RDWR | O_CLOEXEC), ch->fd), 0);
	EQ(record(ch, 16, 0), -EUSERS);
	dup2(fd, ch->fd);
	EQ(record(ch, 16, 0), -EUSERS);
	kill_child(pid);
	EQ(record(ch, 16, 0), 0);
}

TEST(all_descriptors_closed_an_image_still_lives)
{
	int *ready = shared_memory(sizeof(*ready));
	pid_t pid;

	ch = create(CONFIG(.n_producers = 1));
	pid = spawn();
	if (!pid) {
		EQ(record(ch, 16, 0), 0);
		for (int fd = 3; fd < 64; fd++)
			close(fd);
		__atomic_store_n(ready, 1, __ATOMIC_RELEASE);
		for (;;)
			pause();
	}
	while (!__atomic_load_n(ready, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	OK(ringbuf_image_is_locked(ch, 2));
	EQ(record(ch, 16, 0), -EUSERS);
	kill_child(pid);
	OK(!ringbuf_image_is_locked(ch, 2));
}
