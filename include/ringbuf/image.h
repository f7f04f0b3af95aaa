/*
 * ringbuf/image.h - a process image: the life of a process from its start, fork or exec to its exit or exec.
 *
 * A process id names no image: exec keeps it, it is used again, and two PID
 * namespaces have the same ones. So the region numbers those who use it: 1, 2,
 * ..., in the order in which they come, and none twice.
 *
 * The end of an image is seen by a lock, one byte of the region's file for each
 * number. It is an open-file-description lock, of a description that has no
 * descriptor: a mapping alone keeps it, which forked children do not get. So the
 * kernel drops the lock when the address space goes, by exec in whichever thread
 * or by death of whatever kind, and at no other time: nobody closes it by
 * closing all descriptors. It is seen in any PID namespace, and nothing of it
 * lies in memory that others write.
 *
 * All of this is for those who come, and those who want a lock that is held.
 */
#ifndef RINGBUF_IMAGE_H
#define RINGBUF_IMAGE_H

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "certificate.h"
#include "file.h"

#define RINGBUF_IMAGE_LOCK (INT64_C(1) << 61) /* lock byte of image 0: far beyond the file */
#define RINGBUF_OFD_GETLK 36                  /* F_OFD_*: not all C libraries have their names */
#define RINGBUF_OFD_SETLK 37

/* A lock on bytes of the region's file. `type` is F_WRLCK, F_RDLCK or F_UNLCK; n = 0: to the end. */
RINGBUF_FUNC struct flock
ringbuf_file_lock(short type, int64_t first, int64_t n)
{
	struct flock lock;

	memset(&lock, 0, sizeof(lock));
	lock.l_type = type;
	lock.l_whence = SEEK_SET;
	lock.l_start = (off_t)first;
	lock.l_len = (off_t)n;
	return lock;
}

/* A mapping that holds the image's lock, or NULL: there is no /proc, or the file system has no such locks. */
RINGBUF_FUNC void *
ringbuf_lock_image(const struct ringbuf_channel *ch, uint32_t image)
{
	struct flock lock = ringbuf_file_lock(F_WRLCK, RINGBUF_IMAGE_LOCK + image, 1);
	void *mapping = MAP_FAILED;
	int fd = ringbuf_reopen(ch, O_RDWR);

	if (fd < 0)
		return NULL;
	if (fcntl(fd, RINGBUF_OFD_SETLK, &lock) == 0)
		mapping = mmap(NULL, ch->page_size, PROT_NONE, MAP_SHARED, fd, 0);
	close(fd); /* the lock is the mapping's now */
	if (mapping == MAP_FAILED)
		return NULL;
	if (madvise(mapping, ch->page_size, MADV_DONTFORK)) {
		munmap(mapping, ch->page_size);
		return NULL;
	}
	return mapping;
}

/*
 * This process is a new image of the region: at creation, attachment, and in a forked child.
 * Callers: with the registry's lock: no fork comes while the lock has a descriptor.
 */
RINGBUF_FUNC void
ringbuf_begin_image(struct ringbuf_channel *ch)
{
	/* relaxed: that numbers differ is all; the lock is taken before anything says the number */
	ch->image = ringbuf_add(&ch->control->images, 1, RINGBUF_RELAXED) + 1;
	ch->image_lock = ringbuf_lock_image(ch, ch->image);
}

/* A number for a code whose calls are recorded, which no other image of the region has: so it says the image, too. */
RINGBUF_FUNC uint32_t
ringbuf_new_code(const struct ringbuf_channel *ch)
{
	return ringbuf_add(&ch->control->codes, 1, RINGBUF_RELAXED) + 1; /* relaxed: that numbers differ is all */
}

/* Nothing of this image holds anything of the region any more. */
RINGBUF_FUNC void
ringbuf_end_image(struct ringbuf_channel *ch)
{
	if (ch->image_lock)
		munmap(ch->image_lock, ch->page_size);
}

#if !defined(RINGBUF_CERTIFICATE_HEADER)

RINGBUF_FUNC int
ringbuf_image_is_locked(const struct ringbuf_channel *ch, uint32_t image)
{
	struct flock lock = ringbuf_file_lock(F_WRLCK, RINGBUF_IMAGE_LOCK + image, 1);

	return fcntl(ch->fd, RINGBUF_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/*
 * Is an image known to be gone? My own lock tells whether one can know: where it is not seen,
 * the descriptor is closed, or has become another file's.
 */
RINGBUF_FUNC int
ringbuf_image_is_dead(const struct ringbuf_channel *ch, uint32_t image)
{
	return image && ch->image_lock && image != ch->image && ringbuf_image_is_locked(ch, ch->image) &&
	       !ringbuf_image_is_locked(ch, image);
}

/*
 * ringbuf_has_others - is there another image of the region that lives?
 *
 * Be it in another PID namespace, be it that it has closed all descriptors. An image
 * that could not lock its number (no /proc) is not seen.
 * Callers: any thread.
 * Returns: 1, 0; -ENOTSUP: my own lock is not seen, so nothing is known.
 */
RINGBUF_FUNC int
ringbuf_has_others(const struct ringbuf_channel *ch)
{
	/* my own stands between the two */
	struct flock before = ringbuf_file_lock(F_WRLCK, RINGBUF_IMAGE_LOCK, ch->image);
	struct flock after = ringbuf_file_lock(F_WRLCK, RINGBUF_IMAGE_LOCK + ch->image + 1, INT64_C(1) << 32);

	if (!ch->image_lock || !ringbuf_image_is_locked(ch, ch->image))
		return -ENOTSUP;
	return fcntl(ch->fd, RINGBUF_OFD_GETLK, &before) || before.l_type != F_UNLCK ||
	       fcntl(ch->fd, RINGBUF_OFD_GETLK, &after) || after.l_type != F_UNLCK;
}

/* What a lock says of its owner: an image, if its end can be seen. */
RINGBUF_FUNC struct ringbuf_robust_claim
ringbuf_claim_for_image(const struct ringbuf_channel *ch)
{
	struct ringbuf_robust_claim claim = {ch->image_lock ? ch->image : 0, 0, 0};

	return claim;
}

/* Take a certificate if its slot has no owner: as far as the kernel marked it. Returns 0, -EBUSY or -errno. */
RINGBUF_FUNC int
ringbuf_certificate_try(const struct ringbuf_channel *ch, pthread_mutex_t *certificate)
{
	struct ringbuf_robust_claim claim = ringbuf_claim_for_image(ch);

	return ringbuf_robust_claim(certificate, 0, &claim);
}

/* The same, and from an image that is gone. Two system calls more where somebody lives. */
RINGBUF_FUNC int
ringbuf_certificate_take(const struct ringbuf_channel *ch, pthread_mutex_t *certificate)
{
	struct ringbuf_robust_claim claim = ringbuf_claim_for_image(ch);
	int ret = ringbuf_robust_claim(certificate, 0, &claim);

	if (ret == -EBUSY && ringbuf_image_is_dead(ch, (uint32_t)(claim.holder >> 32))) {
		claim.from = claim.holder;
		ret = ringbuf_robust_claim(certificate, 0, &claim);
	}
	return ret;
}

#else

#define ringbuf_certificate_try(ch, certificate) ringbuf_robust_lock((certificate), 0)
#define ringbuf_certificate_take(ch, certificate) ringbuf_robust_lock((certificate), 0)

#endif /* RINGBUF_CERTIFICATE_HEADER */

#endif /* RINGBUF_IMAGE_H */
