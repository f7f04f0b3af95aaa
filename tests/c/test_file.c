/* file.h: whole or cut short, used or not, and another descriptor of it. */
#include "harness.h"

static char path[64];

static struct ringbuf_channel *
in_file(void)
{
	snprintf(path, sizeof(path), "/dev/shm/ringbuf-file-%d", (int)getpid());
	unlink(path);
	return create(CONFIG(.path = path));
}

static int
stranger(int number)
{
	int fd = open("/dev/null", O_RDWR);

	EQ(dup2(fd, number), number);
	close(fd);
	return number;
}

TEST(a_lost_descriptor_does_not_make_a_file_cut_short)
{
	struct ringbuf_channel *ch = in_file();
	int number = ch->fd;

	close(number);
	OK(ringbuf_is_whole(ch));
	stranger(number);
	OK(ringbuf_is_whole(ch));
	EQ(record(ch, 8, 1), 0);
	EQ(truncate(path, 4096), 0);
	OK(!ringbuf_is_whole(ch));
	ringbuf_close(ch);
	EQ(fcntl(number, F_GETFD), 0); /* the stranger's */
	close(number);
	unlink(path);
}

TEST(a_file_is_opened_again_by_its_path_only_if_that_is_still_its_name)
{
	struct ringbuf_channel *ch = in_file();
	char other[80];
	int number = ch->fd, fd;

	stranger(number);
	fd = ringbuf_reopen(ch, O_RDWR);
	OK(fd >= 0 && ringbuf_is_ours(fd, &ch->file));
	close(fd);
	if (!geteuid()) { /* root has another way */
		ringbuf_close(ch);
		unlink(path);
		return;
	}
	snprintf(other, sizeof(other), "%s-other", path);
	EQ(rename(path, other), 0);
	EQ(ringbuf_reopen(ch, O_RDWR), -RINGBUF_E_CLOSED);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	close(fd);
	EQ(ringbuf_reopen(ch, O_RDWR), -RINGBUF_E_CLOSED);
	unlink(path);
	unlink(other);
	ringbuf_close(ch);
}

TEST(a_lost_descriptor_does_not_make_a_file_unused)
{
	struct ringbuf_channel *ch = in_file();
	int fd = open(path, O_RDWR | O_CLOEXEC);

	OK(ringbuf_is_used(fd));
	close(ch->fd);
	OK(ringbuf_is_used(fd));
	ringbuf_close(ch);
	OK(!ringbuf_is_used(fd));
	close(fd);
	unlink(path);
}

TEST(a_forked_child_is_a_user_of_its_own)
{
	struct ringbuf_channel *ch = in_file(), *other;
	int fd = open(path, O_RDWR | O_CLOEXEC), number = ch->fd, ends[2];
	pid_t pid;

	EQ(ringbuf_attach(path, &other), 0);
	OK(ringbuf_is_last_user(fd)); /* whatever this process itself has of it */
	flock(fd, LOCK_UN);
	EQ(pipe(ends), 0);
	pid = fork();
	if (!pid) {
		char c;

		close(ends[1]);
		for (int i = 3; i < 64; i++) /* as a daemon does: the mapping keeps the lock */
			if (i != ends[0])
				close(i);
		_exit(read(ends[0], &c, 1) != 0 || ch->fd != number || record(ch, 8, 1));
	}
	close(ends[0]);
	OK(ringbuf_is_used(fd));
	OK(!ringbuf_is_last_user(fd));
	ringbuf_close(ch);
	ringbuf_close(other);
	OK(ringbuf_is_used(fd));
	close(ends[1]);
	reap(pid);
	OK(!ringbuf_is_used(fd));
	close(fd);
	unlink(path);
}

TEST(the_right_to_read_is_had_again_unless_another_has_it)
{
	struct ringbuf_channel *ch = in_file();
	struct ringbuf_right right, other;

	EQ(ringbuf_open_reader(ch, 0, 1, &right), 0);
	EQ(ringbuf_keep_right(ch, 0, 1, F_WRLCK, &right), 0);
	stranger(right.fd);
	EQ(ringbuf_keep_right(ch, 0, 1, F_WRLCK, &right), 1);
	EQ(ringbuf_open_reader(ch, 0, 1, &other), -EBUSY);
	stranger(right.fd);
	EQ(ringbuf_open_reader(ch, 0, 1, &other), 0);
	EQ(ringbuf_keep_right(ch, 0, 1, F_WRLCK, &right), -EBUSY);
	ringbuf_close_reader(&other);
	ringbuf_close_reader(&right);
	ringbuf_close(ch);
	unlink(path);
}
