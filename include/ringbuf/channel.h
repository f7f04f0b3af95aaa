/*
 * ringbuf/channel.h - create, attach to, check and close a channel; its states.
 */
#ifndef RINGBUF_CHANNEL_H
#define RINGBUF_CHANNEL_H

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>

#include "producer.h"
#include "reader.h"

struct ringbuf_config {
	const char *name;
	const char *contexts;      /* field text of the stream-level contexts, or NULL */
	const char *path;          /* file to create, or NULL: an anonymous memfd */
	uint64_t subbuf_size;      /* bytes: a power of two, >= one page, <= 32 MiB */
	uint64_t n_subbufs;        /* a power of two, >= 2, <= 16384 */
	uint32_t n_spares;         /* more sub-buffers in each stream, for overwrite mode: park.h; <= 1024 */
	uint32_t mode, streams, header, clock, wakeup;
	uint32_t n_streams;        /* 0: one for each possible CPU */
	uint32_t n_producers;      /* 0: 1024 */
	uint32_t packet_header_size; /* 0: the CTF client's */
	uint32_t preallocate;      /* all memory now; else files have the streams' when they are used first */
	uint64_t schema_size;      /* bytes; 0: 1 MiB */
	uint64_t metrics_size;     /* bytes for each CPU, and for the declarations: a power of two; 0: 64 KiB */
	uint64_t start_pos;        /* multiple of the ring's size; tests start below the wrap */
	uint64_t switch_timer_ns, read_timer_ns, blocking_timeout_ns;
	uint64_t clock_freq;       /* custom clock: ticks per second, 0: 1e9 */
	int64_t clock_offset_s;    /* custom clock */
	uint64_t clock_offset;     /* custom clock */
	const struct ringbuf_client *client;
	void *client_data;
};

/* ---- layout ---- */

RINGBUF_FUNC int
ringbuf_order_of(uint64_t value, uint32_t *order)
{
	if (!value || value & (value - 1))
		return -EINVAL;
	*order = (uint32_t)__builtin_ctzll(value);
	return 0;
}

/* Offsets that follow from geometry and counts: the one place that knows them. */
RINGBUF_FUNC void
ringbuf_compute_layout(struct ringbuf_superblock *sb)
{
	struct ringbuf_geometry g = ringbuf_geometry_of(sb->subbuf_order, sb->count_order);
	uint64_t page = sb->page_size, n = ringbuf_n_subbufs(&g), all = n + 1 + sb->n_spares, off;

	sb->control_off = ringbuf_align_up(sizeof(*sb), page);
	sb->schema_off = sb->control_off + ringbuf_align_up(sizeof(struct ringbuf_control), page);
	sb->producers_off = sb->schema_off + ringbuf_align_up(sb->schema_size, page);
	sb->metrics_off = ringbuf_align_up(
		sb->producers_off + (sb->n_producers + UINT64_C(1)) * sizeof(struct ringbuf_producer_slot), page);
	/* not a power of two: one word of all rows would share a set of each cache */
	sb->metrics_stride = sb->metrics_size + 2 * RINGBUF_CACHE_LINE;
	sb->streams_off = ringbuf_align_up(
		sb->metrics_off + sb->metrics_size + (sb->metrics_rows + 1) * sb->metrics_stride, page);
	off = sizeof(struct ringbuf_stream);
	sb->slots_off = off;
	off = ringbuf_align_up(off + n * sizeof(struct ringbuf_slot), RINGBUF_CACHE_LINE);
	sb->subbufs_off = off;
	off += all * sizeof(struct ringbuf_subbuf);
	sb->fillers_off = off;
	off += all * ringbuf_filler_map_words(&g) * 8;
	sb->meta_off = ringbuf_align_up(off, page);
	sb->data_off = sb->meta_off + page;
	sb->stream_stride = ringbuf_align_up(sb->data_off + (all << g.subbuf_order), page);
	sb->region_size = sb->streams_off + sb->n_streams * sb->stream_stride;
}

/* Are these the numbers of a region that could exist? Also bounds all arithmetic on them. */
RINGBUF_FUNC int
ringbuf_check_geometry(const struct ringbuf_superblock *sb)
{
	uint32_t page_order, metrics_order;

	if (ringbuf_order_of(sb->page_size, &page_order) || page_order < 12 || page_order > 16)
		return -RINGBUF_E_CORRUPT;
	if (sb->subbuf_order < page_order || sb->subbuf_order > RINGBUF_SUBBUF_ORDER_MAX ||
	    sb->count_order < 1 || sb->count_order > RINGBUF_COUNT_ORDER_MAX)
		return -RINGBUF_E_CORRUPT;
	if (!sb->n_streams || sb->n_streams > RINGBUF_STREAMS_MAX || sb->n_spares > RINGBUF_SPARES_MAX || !sb->n_producers ||
	    sb->n_producers > 1u << 20 || sb->schema_size > UINT64_C(1) << 30 ||
	    sb->schema_size < 4096)
		return -RINGBUF_E_CORRUPT;
	if (ringbuf_order_of(sb->metrics_size, &metrics_order) || metrics_order < 12 || metrics_order > 24 ||
	    !sb->metrics_rows || sb->metrics_rows > RINGBUF_STREAMS_MAX)
		return -RINGBUF_E_CORRUPT;
	if (sb->mode > RINGBUF_OVERWRITE || sb->streams > RINGBUF_GLOBAL ||
	    sb->header > RINGBUF_LARGE || sb->clock > RINGBUF_CLOCK_CUSTOM ||
	    sb->wakeup > RINGBUF_WAKEUP_NONE || (sb->streams == RINGBUF_GLOBAL && sb->n_streams != 1))
		return -RINGBUF_E_CORRUPT;
	if (sb->packet_header_size < 4 || sb->packet_header_size > 1u << (sb->subbuf_order - 1) ||
	    !sb->clock_freq || sb->start_pos & ~RINGBUF_POS_MASK ||
	    sb->start_pos & ((UINT64_C(1) << (sb->subbuf_order + sb->count_order)) - 1))
		return -RINGBUF_E_CORRUPT;
	return 0;
}

/* For those who find the region without its client: what the client decides. */
RINGBUF_FUNC uint32_t
ringbuf_client_flags(const struct ringbuf_client *client)
{
	if (!client)
		return 0;
	return RINGBUF_CLIENT_CUSTOM |
	       (ringbuf_has_holes(client) && !client->buffer_begin && !client->buffer_end ? 0 : RINGBUF_CLIENT_FORMAT);
}

/* ---- the process's view ---- */

#define RINGBUF_SEAL_SHRINK 2 /* F_SEAL_SHRINK; F_GET_SEALS, F_ADD_SEALS: not all C libraries have their names */
#define RINGBUF_GET_SEALS (1024 + 10)
#define RINGBUF_ADD_SEALS (1024 + 9)

RINGBUF_FUNC int
ringbuf_is_shrink_sealed(int fd)
{
	int seals = fcntl(fd, RINGBUF_GET_SEALS);

	return seals > 0 && (seals & RINGBUF_SEAL_SHRINK);
}

/* Returns 0 or -ENOMEM. */
RINGBUF_FUNC int
ringbuf_channel_set_path(struct ringbuf_channel *ch, const char *dir, const char *base)
{
	size_t size = strlen(dir) + strlen(base) + 2;

	ch->path = (char *)malloc(size);
	if (!ch->path)
		return -ENOMEM;
	snprintf(ch->path, size, "%s/%s", dir, base);
	return 0;
}

RINGBUF_FUNC void
ringbuf_channel_free(struct ringbuf_channel *ch)
{
	if (ch)
		free(ch->path);
	free(ch);
}

/* Copy the superblock into private memory; the one in the region is not read again. */
RINGBUF_FUNC struct ringbuf_channel *
ringbuf_channel_view(const struct ringbuf_superblock *sb, uint8_t *base, int fd)
{
	struct ringbuf_channel *ch = (struct ringbuf_channel *)calloc(1, sizeof(*ch) + sizeof(*sb));

	if (!ch)
		return NULL;
	ch->base = base;
	memcpy((void *)(ch + 1), (const void *)sb, sizeof(*sb));
	ch->super = (const struct ringbuf_superblock *)(void *)(ch + 1);
	ch->control = (struct ringbuf_control *)(void *)(base + sb->control_off);
	ch->geometry = ringbuf_geometry_of(sb->subbuf_order, sb->count_order);
	ch->mode = (uint8_t)sb->mode;
	ch->streams = (uint8_t)sb->streams;
	ch->header = (uint8_t)sb->header;
	ch->clock = (uint8_t)sb->clock;
	ch->wakeup = (uint8_t)sb->wakeup;
	ch->n_streams = sb->n_streams;
	ch->n_all = ringbuf_n_subbufs(&ch->geometry) + 1 + sb->n_spares;
	ch->cpus_share = sb->streams == RINGBUF_PER_CPU && sb->n_streams < ringbuf_cpus_possible();
	ch->n_producers = sb->n_producers;
	ch->packet_header_size = sb->packet_header_size;
	ch->stream0 = base + sb->streams_off;
	ch->streams_off = sb->streams_off;
	ch->stream_stride = sb->stream_stride;
	ch->slots_off = sb->slots_off;
	ch->subbufs_off = sb->subbufs_off;
	ch->fillers_off = sb->fillers_off;
	ch->meta_off = sb->meta_off;
	ch->data_off = sb->data_off;
	ch->producers_off = sb->producers_off;
	ch->schema_off = sb->schema_off;
	ch->schema_size = sb->schema_size;
	ch->metrics_off = sb->metrics_off;
	ch->metrics_size = sb->metrics_size;
	ch->metrics_rows = (uint32_t)sb->metrics_rows;
	ch->metrics_stride = sb->metrics_stride;
	ch->metrics0 = base + sb->metrics_off + sb->metrics_size;
	ch->region_size = sb->region_size;
	ch->page_size = sb->page_size;
	ch->start_pos = sb->start_pos;
	ch->blocking_timeout_ns = sb->mode == RINGBUF_DISCARD ? sb->blocking_timeout_ns : 0;
	memcpy(ch->contexts, sb->contexts, sizeof(ch->contexts) - 1);
	ch->fd = fd;
	ringbuf_identify(fd, &ch->file); /* of none, if that fails */
	ch->is_sealed = ringbuf_is_shrink_sealed(fd);
	ch->refs = 1;
	return ch;
}

/* From here on forks, thread exits and closing know of it. */
RINGBUF_FUNC int
ringbuf_channel_enlist(struct ringbuf_channel *ch)
{
	ch->is_rare = ch->client || ch->blocking_timeout_ns;
	pthread_once(&ringbuf_registry.once, ringbuf_registry_init);
	if (!ringbuf_registry.ready)
		return -EAGAIN;
	pthread_mutex_lock(&ringbuf_registry.lock);
	ch->id = ++ringbuf_registry.last_channel_id;
	ch->registry_next = ringbuf_registry.channels;
	ringbuf_registry.channels = ch;
	ringbuf_cut_watch(ch);
	ringbuf_begin_image(ch);
	pthread_mutex_unlock(&ringbuf_registry.lock);
	return 0;
}

/* ---- create ---- */

RINGBUF_FUNC int
ringbuf_open_memory(const char *name)
{
	int fd = (int)syscall(SYS_memfd_create, name, 3u /* MFD_CLOEXEC | MFD_ALLOW_SEALING */);

	return fd < 0 ? -errno : ringbuf_move_up(fd);
}

/*
 * A file is made under another name, and gets its own when it is finished: so nobody meets
 * half a region, and what a killed maker leaves can be told from what somebody needs.
 */
struct ringbuf_draft {
	int dir_fd;
	char dir[PATH_MAX];  /* absolute */
	char base[NAME_MAX + 1];
	char name[64];       /* RINGBUF_DRAFT_PREFIX, 32 hexadecimal digits, RINGBUF_DRAFT_SUFFIX */
};

#define RINGBUF_DRAFT_PREFIX "."
#define RINGBUF_DRAFT_SUFFIX ".ringbuf-new"

/* Where it is to be. Returns 0 or -errno: -EEXIST there is something. */
RINGBUF_FUNC int
ringbuf_draft_begin(struct ringbuf_draft *d, const char *path)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	char dir[PATH_MAX];
	struct stat st;

	d->dir_fd = -1;
	if (!*base || strlen(base) > NAME_MAX || (size_t)(base - path) >= sizeof(dir))
		return *base ? -ENAMETOOLONG : (*path ? -EISDIR : -ENOENT);
	memcpy(dir, slash ? path : "./", slash ? (size_t)(base - path) : 2);
	dir[slash ? base - path : 2] = 0;
	strcpy(d->base, base);
	if (!realpath(dir, d->dir))
		return -errno;
	d->dir_fd = ringbuf_open_at(AT_FDCWD, d->dir, RINGBUF_O_DIRECTORY, 0);
	if (d->dir_fd < 0)
		return d->dir_fd;
	return fstatat(d->dir_fd, d->base, &st, AT_SYMLINK_NOFOLLOW) == 0 ? -EEXIST : 0;
}

RINGBUF_FUNC void
ringbuf_random_uuid(uint8_t *uuid)
{
	/* version 4; no generator: distinct is enough, not secret */
	uint64_t seed = ringbuf_clock_ns(CLOCK_REALTIME) ^ (uint64_t)getpid() << 40;

	if (syscall(SYS_getrandom, uuid, 16, 1u /* GRND_NONBLOCK */) != 16)
		memcpy(uuid, &seed, 8);
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

RINGBUF_FUNC void
ringbuf_draft_pick_name(struct ringbuf_draft *d)
{
	uint8_t random[16];
	char digits[33];

	ringbuf_random_uuid(random);
	for (int i = 0; i < 16; i++)
		snprintf(digits + 2 * i, 3, "%02x", random[i]);
	snprintf(d->name, sizeof(d->name), "%s%s%s", RINGBUF_DRAFT_PREFIX, digits, RINGBUF_DRAFT_SUFFIX);
}

/* Returns the new file's descriptor, marked as used, or -errno. */
RINGBUF_FUNC int
ringbuf_draft_open(struct ringbuf_draft *d)
{
	struct stat st;
	int fd;

	for (;;) {
		ringbuf_draft_pick_name(d);
		fd = ringbuf_open_at(d->dir_fd, d->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
		if (fd < 0)
			d->name[0] = 0;
		else
			ringbuf_mark_used(fd);
		if (fd < 0 || fstat(fd, &st) || st.st_nlink)
			return fd;
		close(fd); /* somebody who cleans took it for a dead one's */
	}
}

/* Give the file its name, unless somebody else has taken it. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_draft_finish(struct ringbuf_draft *d)
{
	int ret = syscall(SYS_renameat2, d->dir_fd, d->name, d->dir_fd, d->base, 1u /* RENAME_NOREPLACE */) ? -errno : 0;

	if (ret == -EINVAL || ret == -ENOSYS) { /* a file system that cannot: network ones */
		ret = linkat(d->dir_fd, d->name, d->dir_fd, d->base, 0) ? -errno : 0;
		if (!ret)
			unlinkat(d->dir_fd, d->name, 0);
	}
	if (!ret)
		d->name[0] = 0;
	return ret;
}

/* Nothing is left of one that was not finished. */
RINGBUF_FUNC void
ringbuf_draft_end(struct ringbuf_draft *d)
{
	if (d->dir_fd >= 0 && d->name[0])
		unlinkat(d->dir_fd, d->name, 0);
	if (d->dir_fd >= 0)
		close(d->dir_fd);
}

/* Bytes of the region that it always has memory for: all but the streams' sub-buffers. */
RINGBUF_FUNC uint64_t
ringbuf_fixed_size(const struct ringbuf_superblock *sb)
{
	return sb->streams_off + sb->n_streams * sb->data_off;
}

/* Have the memory of a file, so that a full disk sends nobody SIGBUS; with *sparse that of the streams' sub-buffers comes
 * later (file.h). Where the file system cannot, *sparse becomes 0. Returns 0 or -errno. */
RINGBUF_FUNC int
ringbuf_allocate_region(int fd, const struct ringbuf_superblock *sb, int *sparse)
{
	int ret = *sparse ? ringbuf_allocate(fd, 0, sb->streams_off) : ringbuf_allocate(fd, 0, sb->region_size);

	for (uint32_t i = 0; *sparse && !ret && i < sb->n_streams; i++)
		ret = ringbuf_allocate(fd, sb->streams_off + i * sb->stream_stride, sb->data_off);
	if (ret != -EOPNOTSUPP && ret != -ENOSYS)
		return ret;
	*sparse = 0;
	return -posix_fallocate(fd, 0, (off_t)sb->region_size); /* writes to each of its blocks, which only its maker may */
}

/* Give the file its size; with `seal` for good: nobody can shrink it. */
RINGBUF_FUNC int
ringbuf_size_backing(int fd, uint64_t size, int seal)
{
	if (size > (uint64_t)INT64_MAX)
		return -EFBIG;
	if (ftruncate(fd, (off_t)size))
		return -errno;
	if (seal && fcntl(fd, RINGBUF_ADD_SEALS, 1 | RINGBUF_SEAL_SHRINK | 4)) /* F_SEAL_SEAL, F_SEAL_GROW */
		return -errno;
	return 0;
}

RINGBUF_FUNC void
ringbuf_copy_name(char *dst, size_t size, const char *src)
{
	memset(dst, 0, size);
	for (size_t i = 0; src && i < size - 1 && src[i]; i++)
		dst[i] = src[i];
}

RINGBUF_FUNC void
ringbuf_fill_clock(struct ringbuf_superblock *sb, const struct ringbuf_config *cfg)
{
	if (sb->clock == RINGBUF_CLOCK_CUSTOM) {
		sb->clock_freq = cfg->clock_freq ? cfg->clock_freq : RINGBUF_NS_PER_S;
		sb->clock_offset_s = cfg->clock_offset_s;
		sb->clock_offset = cfg->clock_offset;
		return;
	}
	sb->clock_freq = sb->clock == RINGBUF_CLOCK_TSC
				 ? (cfg->clock_freq ? cfg->clock_freq : ringbuf_tsc_measure_freq())
				 : RINGBUF_NS_PER_S;
	ringbuf_clock_offset((int)sb->clock, sb->clock_freq, &sb->clock_offset_s, &sb->clock_offset);
}

RINGBUF_FUNC int
ringbuf_fill_superblock(struct ringbuf_superblock *sb, const struct ringbuf_config *cfg)
{
	memset((void *)sb, 0, sizeof(*sb));
	sb->layout_version = RINGBUF_LAYOUT_VERSION;
	sb->byte_order = RINGBUF_BYTE_ORDER;
	sb->page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	sb->mode = cfg->mode;
	sb->streams = cfg->streams;
	sb->header = cfg->header;
	sb->clock = cfg->clock;
	sb->wakeup = cfg->wakeup;
	sb->custom_client = ringbuf_client_flags(cfg->client);
	sb->n_streams = cfg->streams == RINGBUF_GLOBAL ? 1
			: cfg->n_streams               ? cfg->n_streams
						       : ringbuf_cpus_possible();
	if (ringbuf_order_of(cfg->subbuf_size, &sb->subbuf_order) ||
	    ringbuf_order_of(cfg->n_subbufs, &sb->count_order))
		return -EINVAL;
	sb->n_spares = cfg->mode == RINGBUF_OVERWRITE ? cfg->n_spares : 0; /* nobody is lapped otherwise */
	sb->n_producers = cfg->n_producers ? cfg->n_producers : 1024;
	sb->packet_header_size = cfg->packet_header_size ? cfg->packet_header_size
							 : ringbuf_ctf_packet_header_size(cfg->streams);
	sb->schema_size = cfg->schema_size ? cfg->schema_size : UINT64_C(1) << 20;
	sb->metrics_size = cfg->metrics_size ? cfg->metrics_size : UINT64_C(64) << 10;
	sb->metrics_rows = ringbuf_bounded(ringbuf_cpus_possible(), RINGBUF_STREAMS_MAX);
	sb->start_pos = cfg->start_pos;
	sb->switch_timer_ns = cfg->switch_timer_ns;
	sb->read_timer_ns = cfg->read_timer_ns;
	sb->blocking_timeout_ns = cfg->blocking_timeout_ns;
	ringbuf_random_uuid(sb->uuid);
	sb->creator_pid = (uint64_t)getpid();
	sb->creator_start = ringbuf_process_start();
	ringbuf_copy_name(sb->name, sizeof(sb->name), cfg->name);
	ringbuf_copy_name(sb->contexts, sizeof(sb->contexts), cfg->contexts);
	prctl(PR_GET_NAME, sb->program);
	gethostname(sb->hostname, sizeof(sb->hostname) - 1);
	if (cfg->contexts && strlen(cfg->contexts) >= sizeof(sb->contexts))
		return -ENAMETOOLONG;
	sb->clock_freq = 1; /* checked before the clock is measured */
	if (ringbuf_check_geometry(sb))
		return -EINVAL;
	ringbuf_fill_clock(sb, cfg);
	ringbuf_compute_layout(sb);
	return 0;
}

RINGBUF_FUNC void
ringbuf_init_stream(const struct ringbuf_channel *ch, uint32_t idx)
{
	struct ringbuf_stream *s = ringbuf_stream_at(ch, idx);
	uint64_t n = ringbuf_n_subbufs(&ch->geometry), order = ch->geometry.subbuf_order;
	uint64_t pass = ringbuf_ref_pass_before(ch, ch->start_pos);
	uint64_t before = ringbuf_pos_sub(ch->start_pos, ringbuf_ring_size(&ch->geometry));
	/* as though all passes before had been counted: tests start below the wrap of the counters */
	uint64_t base = (uint32_t)(ringbuf_pass(&ch->geometry, ch->start_pos) << order);

	/* relaxed: nobody else has the region before its magic (O10) */
	s->index = s->cpu = idx;
	ringbuf_store(&s->produced, ch->start_pos, RINGBUF_RELAXED);
	ringbuf_store(&s->consumed_pos, ch->start_pos, RINGBUF_RELAXED);
	ringbuf_store(&s->spare, 0, RINGBUF_RELAXED);
	for (uint64_t i = 0; i < n; i++)
		ringbuf_store(&ringbuf_slot_at(ch, s, i << order)->subbuf_ref,
			      pass << RINGBUF_REF_PASS_SHIFT | RINGBUF_REF_READ | (i + 1), RINGBUF_RELAXED);
	for (uint32_t i = 0; i < ch->n_all; i++) {
		enum ringbuf_stage phase = !i ? RINGBUF_STAGE_READERS : (i <= n ? RINGBUF_STAGE_DONE : RINGBUF_STAGE_FREE);

		ringbuf_store(&ringbuf_subbuf_at(ch, s, i)->stage, ringbuf_stage_word(before, phase, 0), RINGBUF_RELAXED);
		ringbuf_store(&ringbuf_subbuf_at(ch, s, i)->committed, base, RINGBUF_RELAXED);
		ringbuf_store(&ringbuf_subbuf_at(ch, s, i)->delivered[0], base, RINGBUF_RELAXED);
	}
}

RINGBUF_FUNC int
ringbuf_init_locks(const struct ringbuf_channel *ch)
{
	int ret = ringbuf_robust_mutex_init(&ch->control->schema_lock);

	for (uint32_t i = 0; !ret && i <= ch->n_producers; i++) /* with the repairer's */
		ret = ringbuf_robust_mutex_init(&ringbuf_producer_slot_at(ch, i)->certificate);
	for (uint32_t i = 0; !ret && i < ch->n_streams; i++)
		ret = ringbuf_robust_mutex_init(&ringbuf_stream_at(ch, i)->map_lock);
	return ret;
}

RINGBUF_FUNC int
ringbuf_init_region(struct ringbuf_channel *ch, const struct ringbuf_config *cfg)
{
	int ret = ringbuf_init_locks(ch);

	for (uint32_t i = 0; i < ch->n_streams; i++)
		ringbuf_init_stream(ch, i);
	for (uint32_t i = 0; !ret && i < ch->n_streams; i++)
		if (cfg->client && cfg->client->buffer_create)
			ret = cfg->client->buffer_create(ch, i, i, ch->super->name);
	return ret;
}

RINGBUF_FUNC void
ringbuf_channel_drop(struct ringbuf_channel *ch)
{
	pthread_mutex_lock(&ringbuf_registry.lock);
	ch->closed = 1;
	ringbuf_channel_unref(ch);
	pthread_mutex_unlock(&ringbuf_registry.lock);
}

/* Takes `fd` over: map it, write everything, the magic last. Then the file gets its name, if it is to have one. */
RINGBUF_FUNC int
ringbuf_create_in(int fd, const struct ringbuf_superblock *sb, const struct ringbuf_config *cfg,
		  struct ringbuf_draft *draft, int sparse, struct ringbuf_channel **out)
{
	void *base = mmap(NULL, sb->region_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct ringbuf_superblock *super = (struct ringbuf_superblock *)base;
	struct ringbuf_channel *ch;
	int ret;

	if (base == MAP_FAILED) {
		ret = -errno;
		close(fd);
		return ret;
	}
	memcpy((void *)super, (const void *)sb, sizeof(*sb));
	ch = ringbuf_channel_view(sb, (uint8_t *)base, fd);
	if (ch) {
		ch->client = cfg->client;
		ch->client_data = cfg->client_data;
	}
	ret = ch ? ringbuf_init_region(ch, cfg) : -ENOMEM;
	for (uint32_t i = 0; !ret && sparse && i < ch->n_streams; i++)
		ringbuf_store(&ringbuf_stream_at(ch, i)->sparse, 1, RINGBUF_RELAXED); /* as in ringbuf_init_stream */
	/* one at least is surely used: too small a file system is an error now */
	if (!ret && ringbuf_have_memory(ch, ringbuf_stream_at(ch, ringbuf_stream_of_cpu(ch, ringbuf_cpu()))))
		ret = -ENOSPC;
	if (!ret && draft)
		ret = ringbuf_channel_set_path(ch, draft->dir, draft->base);
	if (!ret)
		ret = ringbuf_channel_enlist(ch);
	if (ret) {
		munmap(base, sb->region_size);
		ringbuf_channel_free(ch);
		close(fd);
		return ret;
	}
	/* O10 release: a region with its magic is finished. Pairs with ringbuf_attach_fd. */
	ringbuf_store(&super->magic, RINGBUF_MAGIC, RINGBUF_RELEASE);
	if (draft)
		ret = ringbuf_draft_finish(draft);
	if (ret)
		ringbuf_channel_drop(ch);
	else
		*out = ch;
	return ret;
}

RINGBUF_FUNC int
ringbuf_create_at(const struct ringbuf_superblock *sb, const struct ringbuf_config *cfg, struct ringbuf_draft *draft,
		  struct ringbuf_channel **out)
{
	char memfd_name[RINGBUF_NAME_SIZE + 16] = "ringbuf:";
	int sparse = draft && !cfg->preallocate, fd, ret;

	strcat(memfd_name, sb->name);
	fd = draft ? ringbuf_draft_open(draft) : ringbuf_open_memory(memfd_name);
	if (fd < 0)
		return fd;
	ret = ringbuf_size_backing(fd, sb->region_size, !draft);
	if (!ret && (draft || cfg->preallocate))
		ret = ringbuf_allocate_region(fd, sb, &sparse);
	if (!ret)
		return ringbuf_create_in(fd, sb, cfg, draft, sparse, out);
	close(fd);
	return ret;
}

/*
 * ringbuf_create - make a channel; *out owns its descriptor (out->fd).
 * Returns: 0, or -errno: -EINVAL a size that is not a power of two or out of
 *          range, -ENOSPC or -ENOMEM no room for it, -EEXIST the path exists.
 * Callers: any; takes locks and memory, and about 20 ms to measure a TSC.
 */
RINGBUF_FUNC int
ringbuf_create(const struct ringbuf_config *cfg, struct ringbuf_channel **out)
{
	struct ringbuf_superblock sb;
	struct ringbuf_draft draft;
	int ret = ringbuf_fill_superblock(&sb, cfg);

	if (ret || !cfg->path)
		return ret ? ret : ringbuf_create_at(&sb, cfg, NULL, out);
	draft.name[0] = 0;
	ret = ringbuf_draft_begin(&draft, cfg->path);
	if (!ret)
		ret = ringbuf_create_at(&sb, cfg, &draft, out);
	ringbuf_draft_end(&draft);
	return ret;
}

/* ---- attach ---- */

/* Is the file's superblock one that this build can use? Copies it to *sb, and the file's size to *size. */
RINGBUF_FUNC int
ringbuf_check_superblock(int fd, struct ringbuf_superblock *sb, uint64_t *size)
{
	struct ringbuf_superblock expected;
	struct stat st;
	uint64_t magic;
	ssize_t n;
	int ret;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -RINGBUF_E_MAGIC;
	/* what has no name is memory, and its owner may shrink it while we use it */
	if (!st.st_nlink && st.st_uid != geteuid() && !ringbuf_is_shrink_sealed(fd))
		return -RINGBUF_E_UNSEALED;
	if (st.st_uid != geteuid() && geteuid() != 0)
		return -RINGBUF_E_OWNER;
	n = pread(fd, (void *)sb, sizeof(*sb), 0);
	if (n < 0)
		return -errno;
	/* relaxed: a copy, for the checks; O10 is in ringbuf_attach_fd */
	magic = n < 16 ? 1 : ringbuf_load(&sb->magic, RINGBUF_RELAXED);
	if (!magic || !n)
		return -RINGBUF_E_UNFINISHED;
	if (magic == __builtin_bswap64(RINGBUF_MAGIC))
		return -RINGBUF_E_BYTE_ORDER;
	if (magic != RINGBUF_MAGIC)
		return -RINGBUF_E_MAGIC;
	if (sb->byte_order != RINGBUF_BYTE_ORDER)
		return -RINGBUF_E_BYTE_ORDER;
	if (sb->layout_version != RINGBUF_LAYOUT_VERSION)
		return -RINGBUF_E_VERSION;
	if ((size_t)n < sizeof(*sb))
		return -RINGBUF_E_TRUNCATED;
	ret = ringbuf_check_geometry(sb);
	if (ret)
		return ret;
	memcpy((void *)&expected, (const void *)sb, sizeof(expected));
	ringbuf_compute_layout(&expected);
	if (memcmp((const void *)&expected, (const void *)sb, sizeof(expected)))
		return -RINGBUF_E_CORRUPT;
	sb->name[sizeof(sb->name) - 1] = sb->contexts[sizeof(sb->contexts) - 1] = 0;
	*size = (uint64_t)st.st_size;
	return 0;
}

/* The same, and is the region whole? */
RINGBUF_FUNC int
ringbuf_read_superblock(int fd, struct ringbuf_superblock *sb)
{
	uint64_t size = 0;
	int ret = ringbuf_check_superblock(fd, sb, &size);

	return !ret && size < sb->region_size ? -RINGBUF_E_TRUNCATED : ret;
}

/*
 * ringbuf_attach_fd - use the channel behind an open descriptor, which *out then owns.
 * Returns: 0, -errno, or an enum ringbuf_error, negative. On failure the
 *          descriptor is still the caller's.
 */
RINGBUF_FUNC int
ringbuf_attach_fd(int fd, const struct ringbuf_client *client, void *client_data,
		  struct ringbuf_channel **out)
{
	struct ringbuf_superblock sb;
	struct ringbuf_channel *ch;
	void *base;
	int ret = ringbuf_read_superblock(fd, &sb);

	if (ret)
		return ret;
	if (sb.custom_client && !client)
		return -RINGBUF_E_CLIENT;
	ringbuf_mark_used(fd);
	base = mmap(NULL, sb.region_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	/* O10 acquire: all that the creator wrote before. Pairs with ringbuf_create_in. */
	if (ringbuf_load(&((struct ringbuf_superblock *)base)->magic, RINGBUF_ACQUIRE) != RINGBUF_MAGIC) {
		munmap(base, sb.region_size);
		return -RINGBUF_E_MAGIC;
	}
	ch = ringbuf_channel_view(&sb, (uint8_t *)base, fd);
	ret = -ENOMEM;
	if (ch) {
		ch->path = ringbuf_path_of(fd);
		ch->client = client;
		ch->client_data = client_data;
		ret = ringbuf_channel_enlist(ch);
	}
	if (ret) {
		munmap(base, sb.region_size);
		ringbuf_channel_free(ch);
		return ret;
	}
	*out = ch;
	return 0;
}

/* ringbuf_attach - the same, by path (/proc/PID/fd/N will do). */
RINGBUF_FUNC int
ringbuf_attach(const char *path, struct ringbuf_channel **out)
{
	int fd = ringbuf_open_at(AT_FDCWD, path, O_RDWR, 0), ret;

	if (fd < 0)
		return fd;
	ret = ringbuf_attach_fd(fd, NULL, NULL, out);
	if (ret)
		close(fd);
	return ret;
}

/*
 * ringbuf_close - end this process's use of the channel.
 * Callers: once, when no thread of the process is inside a call on it. Threads
 *          that recorded keep the mapping until they exit or register elsewhere.
 */
RINGBUF_FUNC void
ringbuf_close(struct ringbuf_channel *ch)
{
	ringbuf_release_producers(&ringbuf_thread_self, ch, 0);
	ringbuf_channel_drop(ch);
}

/*
 * ringbuf_own_descriptor - the channel's descriptor; another one, if the program closed it.
 * Returns it, still the channel's, or as ringbuf_reopen.
 */
RINGBUF_FUNC int
ringbuf_own_descriptor(struct ringbuf_channel *ch)
{
	int ret;

	pthread_mutex_lock(&ringbuf_registry.lock);
	ret = ringbuf_regain(ch);
	pthread_mutex_unlock(&ringbuf_registry.lock);
	return ret ? ret : ch->fd;
}

/* Mark the channels of this process over one file as used, or no longer. Under the registry's lock. */
RINGBUF_FUNC void
ringbuf_mark_all(const struct ringbuf_identity *file, int used)
{
	for (struct ringbuf_channel *ch = ringbuf_registry.channels; ch; ch = ch->registry_next)
		if (ch->file.dev == file->dev && ch->file.ino == file->ino && ringbuf_is_ours(ch->fd, file))
			flock(ch->fd, (used ? LOCK_SH : LOCK_UN) | LOCK_NB);
}

/*
 * ringbuf_is_last_user - would nobody have the file behind `fd`, were this process gone?
 * Callers: with a description of their own. If so, it is locked: nobody can begin to use it
 *          before it is closed. Whoever attached or was forked off has a lock of his own.
 * Returns: 1, 0, or -errno: the file system knows no such lock.
 */
RINGBUF_FUNC int
ringbuf_is_last_user(int fd)
{
	struct ringbuf_identity file;
	int last;

	if (ringbuf_identify(fd, &file))
		return -errno;
	pthread_mutex_lock(&ringbuf_registry.lock);
	ringbuf_mark_all(&file, 0);
	last = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 1 : (errno == EWOULDBLOCK ? 0 : -errno);
	if (last <= 0)
		ringbuf_mark_all(&file, 1);
	pthread_mutex_unlock(&ringbuf_registry.lock);
	return last;
}

/* ---- states ---- */

/* Set or clear a state bit, and let everybody who sleeps look at it. Ordering: O8. */
RINGBUF_FUNC void
ringbuf_set_state(const struct ringbuf_channel *ch, uint32_t bit, int on)
{
	/* O8 seq_cst: before the looks at `wanted`. Pairs with ringbuf_wait_for_space.
	 * relaxed: nobody sleeps until a bit is cleared */
	if (on)
		ringbuf_or(&ch->control->state, bit, RINGBUF_SEQ_CST);
	else
		ringbuf_and(&ch->control->state, ~bit, RINGBUF_RELAXED);
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		struct ringbuf_stream *s = ringbuf_stream_at(ch, i);

		ringbuf_wait_wake(&s->space_seq, &s->space_wanted);
	}
	ringbuf_wait_wake(&ch->control->data_seq, &ch->control->data_wanted);
}

RINGBUF_INLINE int
ringbuf_is_disabled(const struct ringbuf_channel *ch)
{
	return ringbuf_load(&ch->control->state, RINGBUF_RELAXED) != 0; /* relaxed: informational; no other access depends on it */
}

RINGBUF_INLINE int
ringbuf_is_finalized(const struct ringbuf_channel *ch)
{
	/* O8 seq_cst: a reader about to sleep looks here after setting `data_wanted` */
	return (ringbuf_load(&ch->control->state, RINGBUF_SEQ_CST) & RINGBUF_STATE_FINALIZED) != 0;
}

/*
 * ringbuf_close_stream - end the last packet; no record is accepted after it.
 * Callers:  any thread with a producer slot, once the channel is finalized.
 * Ordering: O9: the state is set before the swap of `produced` to a new tag at a
 * boundary. A producer that sampled it before loses its swap; one that samples
 * it afterwards acquires the state, and refuses (ringbuf_reserve_try).
 */
RINGBUF_FUNC void
ringbuf_close_stream(const struct ringbuf_channel *ch, struct ringbuf_producer_slot *producer,
		     uint32_t stream_idx)
{
	struct ringbuf_stream *s = ringbuf_stream_at(ch, stream_idx);

	for (;;) {
		uint64_t word = ringbuf_load(&s->produced, RINGBUF_RELAXED); /* the swap checks it */

		/* O1, O9 release: the state. Pairs with the loads of `produced` in
		 * ringbuf_reserve_try and ringbuf_flush_try. */
		if (ringbuf_subbuf_off(&ch->geometry, word)) {
			if (ringbuf_flush(ch, producer, stream_idx, 0))
				return;
		} else if (ringbuf_cas(&s->produced, &word, ringbuf_word_retagged(word, ringbuf_pos(word)),
				       RINGBUF_RELEASE, RINGBUF_RELAXED)) {
			return;
		}
	}
}

/*
 * ringbuf_finalize - no more records; what is there can be read to the end.
 * Callers:  any thread with a producer slot; twice is harmless.
 * Returns:  0, or -EPERM: called from inside four open records.
 */
RINGBUF_FUNC int
ringbuf_finalize(const struct ringbuf_channel *ch, struct ringbuf_producer_slot *producer)
{
	int first = !ringbuf_is_finalized(ch);

	if (ringbuf_ledger_is_full(producer))
		return -EPERM;
	ringbuf_set_state(ch, RINGBUF_STATE_FINALIZED, 1);
	for (uint32_t i = 0; i < ch->n_streams; i++) {
		ringbuf_close_stream(ch, producer, i);
		if (first && ch->client && ch->client->buffer_finalize)
			ch->client->buffer_finalize(ch, i, i);
	}
	ringbuf_set_state(ch, RINGBUF_STATE_FINALIZED, 1); /* wakes readers, now that all is delivered */
	return 0;
}

/*
 * ringbuf_is_at_end - finalized, and this stream read to the end, for good?
 *
 * That the state is set and all is read is not enough: a producer may have seen
 * the state before and open a sub-buffer now. So the reader closes the stream
 * itself (the finalizer may be slow, or dead) before it looks.
 * Callers:  the stream's reader. Ordering: O9.
 */
RINGBUF_FUNC int
ringbuf_is_at_end(const struct ringbuf_stream_reader *r, struct ringbuf_producer_slot *producer)
{
	if (!ringbuf_is_finalized(r->ch) || !ringbuf_is_drained(r))
		return 0;
	ringbuf_close_stream(r->ch, producer, r->stream_idx);
	return ringbuf_is_drained(r);
}

/* ---- the right to read ---- */

#define RINGBUF_READER_LOCK (INT64_C(1) << 62) /* lock byte of stream 0: far beyond the file */

/* The lock of n streams from `first` on; n = 0: of all. */
RINGBUF_FUNC struct flock
ringbuf_reader_lock(short type, uint32_t first, uint32_t n)
{
	return ringbuf_file_lock(type, RINGBUF_READER_LOCK + first, n);
}

/* A locked descriptor for these streams, or -errno. F_WRLCK: alone; F_RDLCK: beside others of that type. */
RINGBUF_FUNC int
ringbuf_lock_streams(const struct ringbuf_channel *ch, uint32_t first, uint32_t n, short type)
{
	struct flock lock = ringbuf_reader_lock(type, first, n);
	int fd = ringbuf_reopen(ch, O_RDWR), error;

	if (fd < 0)
		return fd;
	if (fcntl(fd, RINGBUF_OFD_SETLK, &lock) == 0)
		return fd;
	error = errno == EAGAIN || errno == EACCES ? EBUSY : errno;
	close(fd);
	return -error;
}

RINGBUF_FUNC int
ringbuf_take_right(const struct ringbuf_channel *ch, uint32_t first, uint32_t n, short type,
		   struct ringbuf_right *right)
{
	pthread_mutex_lock(&ringbuf_registry.lock); /* no fork between the lock and the list */
	right->fd = ringbuf_lock_streams(ch, first, n, type);
	right->file = ch->file;
	if (right->fd >= 0) {
		right->next = ringbuf_registry.rights;
		ringbuf_registry.rights = right;
	}
	pthread_mutex_unlock(&ringbuf_registry.lock);
	return right->fd < 0 ? right->fd : 0;
}

/*
 * ringbuf_open_reader - take the right to read `n` streams from `first` on.
 *
 * An open-file-description lock on a description of its own: the kernel drops
 * it when its process dies or execs, in any PID namespace, and no thread need
 * live for it. A forked child does not inherit it.
 * Returns: 0; -EBUSY: a living reader has one of them; -errno.
 */
RINGBUF_FUNC int
ringbuf_open_reader(const struct ringbuf_channel *ch, uint32_t first, uint32_t n,
		    struct ringbuf_right *right)
{
	return ringbuf_take_right(ch, first, n, F_WRLCK, right);
}

/*
 * ringbuf_close_reader - give the right up; harmless if it was not had, or was the parent's.
 *
 * Closing alone would not end the lock at once: a child that another thread has
 * just forked has the descriptor too, until it gets to run.
 */
RINGBUF_FUNC void
ringbuf_close_reader(struct ringbuf_right *right)
{
	struct ringbuf_right **link = &ringbuf_registry.rights;
	struct flock lock = ringbuf_reader_lock(F_UNLCK, 0, 0);

	pthread_mutex_lock(&ringbuf_registry.lock);
	while (*link && *link != right)
		link = &(*link)->next;
	if (*link) {
		*link = right->next;
		if (ringbuf_is_ours(right->fd, &right->file)) {
			fcntl(right->fd, RINGBUF_OFD_SETLK, &lock);
			close(right->fd);
		}
		right->fd = -1;
	}
	pthread_mutex_unlock(&ringbuf_registry.lock);
}

/*
 * ringbuf_keep_right - still the one who reads? If the program closed the right's descriptor, take it again.
 * Others may have read meanwhile: whoever gets 1 looks again at what it holds (ringbuf_catch_up).
 * Returns: 0 it was kept; 1 it was lost, and is had again; -EBUSY somebody else has it now; as ringbuf_reopen.
 */
RINGBUF_FUNC int
ringbuf_keep_right(const struct ringbuf_channel *ch, uint32_t first, uint32_t n, short type,
		   struct ringbuf_right *right)
{
	int fd;

	if (ringbuf_is_ours(right->fd, &right->file))
		return 0;
	pthread_mutex_lock(&ringbuf_registry.lock);
	fd = ringbuf_lock_streams(ch, first, n, type);
	if (fd >= 0)
		right->fd = fd;
	pthread_mutex_unlock(&ringbuf_registry.lock);
	return fd < 0 ? fd : 1;
}

/* Has the stream no living reader? (It may get one at any moment.) Takes nothing. */
RINGBUF_FUNC int
ringbuf_has_no_reader(const struct ringbuf_channel *ch, uint32_t stream_idx)
{
	struct flock lock = ringbuf_reader_lock(F_WRLCK, stream_idx, 1);
	int ours = ringbuf_is_ours(ch->fd, &ch->file), fd = ours ? ch->fd : ringbuf_reopen(ch, O_RDWR);
	int none = fd >= 0 && fcntl(fd, RINGBUF_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;

	if (!ours && fd >= 0)
		close(fd);
	return none;
}

/*
 * ringbuf_clear_stream - throw away all that is recorded and not yet read.
 * Callers:  the streams' reader, holding nothing. Records that are still being
 *           written stay. They count as overrun.
 */
RINGBUF_FUNC void
ringbuf_clear_stream(struct ringbuf_stream_reader *r, struct ringbuf_producer_slot *producer)
{
	uint64_t to;

	ringbuf_flush(r->ch, producer, r->stream_idx, 0);
	/* relaxed: not older than what the flush left, and more is not promised */
	to = ringbuf_subbuf_begin(&r->ch->geometry, ringbuf_load(&r->s->produced, RINGBUF_RELAXED));
	while (ringbuf_get_next_subbuf(r) == 0 ||
	       (ringbuf_repair_next(r) && ringbuf_get_next_subbuf(r) == 0)) {
		int last = ringbuf_pos_diff(r->packet.pos, to) >= 0;

		ringbuf_put_subbuf(r, last ? RINGBUF_PUT_BACK : RINGBUF_PUT_DROP);
		if (last)
			break;
	}
}

#endif /* RINGBUF_CHANNEL_H */
