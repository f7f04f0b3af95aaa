/* cut.h: a file that is cut short ends its recording, and not the process. */
#include "harness.h"
#include "ringbuf/ringbuf.h"

/* A channel over a file, and a description to cut it with. */
static struct ringbuf_channel *
create_in_file(char *path, size_t size, const char *name, int *fd)
{
	struct ringbuf_channel *ch;

	snprintf(path, size, "/dev/shm/ringbuf-cut-%s-%d", name, (int)getpid());
	unlink(path);
	ch = create(CONFIG(.path = path));
	*fd = open(path, O_RDWR | O_CLOEXEC);
	unlink(path);
	return ch;
}

static void
outlives(off_t length)
{
	char path[64];
	int fd;
	struct ringbuf_channel *ch = create_in_file(path, sizeof(path), "one", &fd), *other;

	EQ(ringbuf_outlive_cuts(), 0);
	other = create_in_file(path, sizeof(path), "other", &(int){0});
	EQ(record(ch, 8, 0), 0);
	EQ(record(other, 8, 0), 0);
	EQ(ftruncate(fd, length), 0);
	for (uint64_t n = 1; n < 10000; n++)
		record(ch, 8, n); /* some may still find room in what was not cut off */
	if (ringbuf_is_buried(ch))
		EQ(record(ch, 8, 0), -ESHUTDOWN);
	CHECK(!ringbuf_is_whole(ch), "it still says that it is cut short");
	EQ(record(other, 8, 1), 0);
	EQ(stats_of(other).written, 2);
	ringbuf_close(ch);
	EQ(record(other, 8, 2), 0);
	ringbuf_close(other);
	close(fd);
}

TEST(a_producer_outlives_a_file_that_is_emptied) { outlives(0); }
TEST(a_producer_outlives_a_file_that_keeps_a_page) { outlives(4096); }

TEST(a_forked_child_outlives_it_too)
{
	char path[64];
	int fd, status;
	struct ringbuf_channel *ch = create_in_file(path, sizeof(path), "fork", &fd);
	pid_t child;

	EQ(record(ch, 8, 0), 0);
	EQ(ftruncate(fd, 0), 0);
	child = fork(); /* no handler: forking itself touches nothing that is gone */
	if (child == 0)
		_exit(record(ch, 8, 1) == -ESHUTDOWN ? 0 : 1);
	EQ(waitpid(child, &status, 0), child);
	EQ(status, 0);
	ringbuf_close(ch);
}

static _Atomic int n_before;

static void
before(int signal)
{
	(void)signal;
	n_before++;
}

TEST(a_sigbus_of_others_goes_to_the_handler_before)
{
	struct sigaction theirs = {.sa_handler = before};
	char path[64];
	int fd;
	struct ringbuf_channel *ch = create_in_file(path, sizeof(path), "others", &fd);

	EQ(sigaction(SIGBUS, &theirs, NULL), 0);
	EQ(ringbuf_outlive_cuts(), 0);
	EQ(ringbuf_outlive_cuts(), 0);
	raise(SIGBUS);
	EQ(n_before, 1);
	EQ(ftruncate(fd, 0), 0);
	record(ch, 8, 0);
	EQ(n_before, 1);
	ringbuf_close(ch);
}

static void
die_of(int by_fault)
{
	int status, fd;
	pid_t child = fork();

	if (child == 0) {
		volatile char *gone;

		EQ(ringbuf_outlive_cuts(), 0);
		fd = (int)syscall(SYS_memfd_create, "others", 1u);
		EQ(ftruncate(fd, 4096), 0);
		gone = (char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		EQ(ftruncate(fd, 0), 0);
		if (by_fault)
			*gone = 1;
		else
			raise(SIGBUS);
		_exit(0);
	}
	EQ(waitpid(child, &status, 0), child);
	/* sanitizers have a handler of their own, which was there before */
	CHECK(SANITIZED ? status != 0 : WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "it ended with status %x", status);
}

TEST(a_fault_in_others_memory_ends_the_process_as_before) { die_of(1); }
TEST(a_sigbus_that_was_sent_ends_the_process_as_before) { die_of(0); }

static _Atomic int stop;

static void *
records(void *arg)
{
	for (uint64_t n = 0; !stop; n++)
		record((struct ringbuf_channel *)arg, 8, n);
	return NULL;
}

/* Channels come and go while handlers walk the list of them. */
TEST(cutting_and_closing_beside_threads_that_record)
{
	EQ(ringbuf_outlive_cuts(), 0);
	for (int i = 0; i < 50; i++) {
		char path[64];
		int fd[2];
		struct ringbuf_channel *ch[2] = {create_in_file(path, sizeof(path), "a", &fd[0]),
						 create_in_file(path, sizeof(path), "b", &fd[1])};
		pthread_t threads[4];

		stop = 0;
		for (int t = 0; t < 4; t++)
			EQ(pthread_create(&threads[t], NULL, records, ch[t % 2]), 0);
		usleep(500);
		EQ(ftruncate(fd[i % 2], i % 3 ? 0 : 8192), 0);
		usleep(500);
		stop = 1;
		for (int t = 0; t < 4; t++)
			EQ(pthread_join(threads[t], NULL), 0);
		ringbuf_close(ch[0]);
		ringbuf_close(ch[1]);
		close(fd[0]);
		close(fd[1]);
	}
}
