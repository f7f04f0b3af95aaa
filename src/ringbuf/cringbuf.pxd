# cringbuf.pxd - the C library for Cython, in the order a record goes through it.
# cimport it from your own module and compile with include_dirs=[ringbuf.get_include()].
# Recorders and recovery, which only _core needs, are declared there.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stddef cimport size_t

cdef extern from "ringbuf/position.h" nogil:
    const uint64_t RINGBUF_POS_MASK

    cdef struct ringbuf_geometry:
        uint32_t subbuf_order
        uint32_t count_order

    uint64_t ringbuf_subbuf_size(const ringbuf_geometry *g)
    uint32_t ringbuf_n_subbufs(const ringbuf_geometry *g)
    uint64_t ringbuf_ring_size(const ringbuf_geometry *g)
    uint64_t ringbuf_pos(uint64_t word)
    int64_t ringbuf_pos_diff(uint64_t a, uint64_t b)

cdef extern from "ringbuf/layout.h" nogil:
    const int RINGBUF_NESTING_MAX
    const int RINGBUF_NAME_SIZE
    const int RINGBUF_CONTEXTS_SIZE
    const int RINGBUF_SPARES_MAX

    cdef enum:
        RINGBUF_DISCARD, RINGBUF_OVERWRITE
        RINGBUF_PER_CPU, RINGBUF_GLOBAL
        RINGBUF_COMPACT, RINGBUF_LARGE
        RINGBUF_CLOCK_TSC, RINGBUF_CLOCK_MONOTONIC, RINGBUF_CLOCK_CUSTOM
        RINGBUF_WAKEUP_TIMER, RINGBUF_WAKEUP_WRITER, RINGBUF_WAKEUP_NONE
        RINGBUF_LOST_FULL, RINGBUF_LOST_NESTING, RINGBUF_LOST_TORN, RINGBUF_DISCARDED
        RINGBUF_N_LOSSES, RINGBUF_N_CAUSES
        RINGBUF_STATE_DISABLED, RINGBUF_STATE_FINALIZED

    cdef struct ringbuf_superblock:
        uint32_t mode
        uint32_t clock
        uint32_t n_spares
        uint32_t n_streams
        uint64_t region_size
        uint64_t clock_freq
        int64_t clock_offset_s
        uint64_t clock_offset
        uint64_t switch_timer_ns
        uint64_t read_timer_ns
        uint64_t blocking_timeout_ns
        uint32_t custom_client
        uint8_t uuid[16]
        uint64_t creator_pid
        uint64_t creator_start
        char name[64]
        char program[64]
        char hostname[64]
        char contexts[1024]

    cdef struct ringbuf_control:
        pass

    cdef struct ringbuf_stream:
        pass

    cdef struct ringbuf_slot:
        pass

    cdef struct ringbuf_producer_slot:
        pass

    cdef struct ringbuf_channel:
        ringbuf_geometry geometry
        uint8_t mode
        uint8_t streams
        uint8_t header
        uint8_t clock
        uint8_t wakeup
        uint32_t n_streams
        uint32_t packet_header_size
        const ringbuf_client *client
        void *client_data
        uint64_t id
        uint64_t blocking_timeout_ns
        const ringbuf_superblock *super
        uint64_t region_size
        uint64_t start_pos
        uint32_t n_producers
        uint32_t page_size
        int fd
        uint32_t image
        uint32_t kept
        char contexts[1024]

    ringbuf_stream *ringbuf_stream_at(const ringbuf_channel *ch, uint32_t idx)

cdef extern from "ringbuf/clock.h" nogil:
    uint64_t ringbuf_clock_early(const ringbuf_channel *ch)
    uint64_t ringbuf_clock_ordered(const ringbuf_channel *ch)
    bint ringbuf_tsc_is_usable()
    uint64_t ringbuf_tsc_measure_freq()

cdef extern from "ringbuf/context.h" nogil:
    const int RINGBUF_CONTEXT_BLOCK_MAX

    size_t ringbuf_encode_contexts(const char *contexts, uint8_t *block, size_t size)

cdef extern from "ringbuf/client.h" nogil:
    const uint32_t RINGBUF_LENGTH_PREFIX
    const uint32_t RINGBUF_NONBLOCK
    const uint32_t RINGBUF_NOWAIT
    const uint32_t RINGBUF_FULL_TIMESTAMP

    cdef struct ringbuf_reservation:
        uint32_t event_id
        uint32_t align
        uint64_t payload_size
        uint16_t flags
        uint16_t n_more
        uint32_t context_size
        const void *context
        uint8_t *payload
        uint64_t timestamp
        uint32_t stream_idx
        uint32_t header_flags
        uint32_t header_size
        ringbuf_producer_slot *producer

    cdef struct ringbuf_client:
        uint64_t (*clock_read)(const ringbuf_channel *ch) noexcept nogil
        size_t (*record_header_size)(const ringbuf_channel *ch, size_t offset, size_t *pre_padding,
                                     const ringbuf_reservation *r) noexcept nogil
        void (*write_record_header)(const ringbuf_channel *ch, uint8_t *header,
                                    const ringbuf_reservation *r) noexcept nogil
        void (*write_filler)(const ringbuf_channel *ch, uint8_t *at, size_t size) noexcept nogil
        void (*buffer_begin)(const ringbuf_channel *ch, ringbuf_stream *s, uint32_t stream_idx,
                             uint32_t subbuf_idx, uint64_t timestamp, uint8_t *header) noexcept nogil
        void (*buffer_end)(const ringbuf_channel *ch, ringbuf_stream *s, uint32_t stream_idx,
                           uint32_t subbuf_idx, uint64_t timestamp, uint64_t data_size,
                           uint8_t *header) noexcept nogil
        int (*buffer_create)(const ringbuf_channel *ch, uint32_t stream_idx, uint32_t cpu,
                             const char *name) noexcept nogil
        void (*buffer_finalize)(const ringbuf_channel *ch, uint32_t stream_idx, uint32_t cpu) noexcept nogil

cdef extern from "ringbuf/format.h" nogil:
    const uint32_t RINGBUF_CTF_PACKET_HEADER_SIZE
    const uint32_t RINGBUF_CTF_PACKET_HEADER_SIZE_GLOBAL

    struct ringbuf_ctf_packet_header:
        uint64_t timestamp_begin
        uint64_t timestamp_end
        uint64_t content_size
        uint64_t packet_size

cdef extern from "ringbuf/ctf.h" nogil:
    const uint32_t RINGBUF_CTF_HEADER_SIZE_MAX

    size_t ringbuf_record_header_size(const ringbuf_client *client, const ringbuf_channel *ch, size_t offset,
                                      size_t *pre_padding, const ringbuf_reservation *r)
    void ringbuf_write_record_header(const ringbuf_client *client, const ringbuf_channel *ch, uint8_t *header,
                                     const ringbuf_reservation *r)
    void ringbuf_buffer_begin(const ringbuf_client *client, const ringbuf_channel *ch, ringbuf_stream *s,
                              uint32_t stream_idx, uint32_t subbuf_idx, uint64_t timestamp)
    void ringbuf_buffer_end(const ringbuf_client *client, const ringbuf_channel *ch, ringbuf_stream *s,
                            uint32_t stream_idx, uint32_t subbuf_idx)

cdef extern from "ringbuf/wait.h" nogil:
    uint64_t ringbuf_deadline(uint64_t timeout_ns)
    int ringbuf_wait_for_data(const ringbuf_channel *ch, uint32_t seq, uint64_t deadline_ns)
    uint32_t ringbuf_data_wanted(const ringbuf_channel *ch)

cdef extern from "ringbuf/commit.h" nogil:
    void ringbuf_commit(const ringbuf_channel *ch, ringbuf_reservation *r)

cdef extern from "ringbuf/switch.h" nogil:
    const unsigned int RINGBUF_FLUSH_EMPTY

    uint64_t ringbuf_events_discarded(const ringbuf_stream *s)
    const char *ringbuf_loss_name(int cause)
    int ringbuf_loss_error(int cause)
    int ringbuf_flush(const ringbuf_channel *ch, ringbuf_producer_slot *producer, uint32_t stream_idx,
                      unsigned int flags)

cdef extern from "ringbuf/reserve.h" nogil:
    int ringbuf_refuse_here(const ringbuf_channel *ch, int cause, uint64_t n_records)

cdef extern from "ringbuf/discard.h" nogil:
    void ringbuf_discard(const ringbuf_channel *ch, ringbuf_reservation *r)

cdef extern from "ringbuf/image.h" nogil:
    uint32_t ringbuf_new_code(const ringbuf_channel *ch)

cdef extern from "ringbuf/descriptor.h" nogil:
    cdef struct ringbuf_identity:
        pass

    int ringbuf_identify(int fd, ringbuf_identity *id)
    bint ringbuf_is_ours(int fd, const ringbuf_identity *id)
    int ringbuf_close_ours(int fd, const ringbuf_identity *id)
    int ringbuf_move_up(int fd)

cdef extern from "ringbuf/file.h" nogil:
    const int RINGBUF_E_UNFINISHED

    const char *ringbuf_strerror(int error)
    bint ringbuf_is_whole(const ringbuf_channel *ch)
    int ringbuf_is_used(int fd)

cdef extern from "ringbuf/certificate.h" nogil:
    int ringbuf_robust_check()

cdef extern from "ringbuf/producer.h" nogil:
    cdef struct ringbuf_producer:
        ringbuf_producer_slot *slot
        uint32_t context_size
        uint8_t *context

    cdef struct ringbuf_right:
        int fd
        ringbuf_identity file

    cdef struct ringbuf_registry_t "ringbuf_registry":
        uint64_t forks

    ringbuf_registry_t ringbuf_registry

    ringbuf_producer *ringbuf_this_producer(ringbuf_channel *ch)
    bint ringbuf_is_own_slot(const ringbuf_channel *ch, const ringbuf_producer_slot *slot)
    uint32_t ringbuf_space_wanted(const ringbuf_channel *ch, uint32_t stream_idx)
    int ringbuf_wait_for_space(const ringbuf_channel *ch, uint32_t stream_idx, uint32_t seq, uint64_t deadline_ns)
    bint ringbuf_may_block(const ringbuf_producer_slot *producer)
    int ringbuf_reserve(ringbuf_channel *ch, ringbuf_reservation *r)

cdef extern from "ringbuf/repair.h" nogil:
    int ringbuf_repair(const ringbuf_channel *ch)

cdef extern from "ringbuf/reader.h" nogil:
    cdef struct ringbuf_packet:
        uint32_t stream_idx
        uint32_t subbuf_idx
        uint64_t pos
        const uint8_t *data
        uint64_t content_size
        uint64_t packet_size
        uint64_t timestamp_begin
        uint64_t timestamp_end
        uint64_t events_discarded
        uint64_t sequence_number
        uint64_t records

    cdef struct ringbuf_stream_reader:
        uint32_t stream_idx
        bint holding
        ringbuf_packet packet

    cdef enum ringbuf_put:
        RINGBUF_PUT_READ, RINGBUF_PUT_BACK, RINGBUF_PUT_DROP

    int ringbuf_repair_next(const ringbuf_stream_reader *r)
    uint64_t ringbuf_next_pos(const ringbuf_stream_reader *r)
    int ringbuf_get_subbuf(ringbuf_stream_reader *r, uint64_t pos)
    void ringbuf_put_subbuf(ringbuf_stream_reader *r, ringbuf_put how)
    int ringbuf_get_next_subbuf(ringbuf_stream_reader *r)
    bint ringbuf_has_packet(const ringbuf_stream_reader *r)
    bint ringbuf_is_drained(const ringbuf_stream_reader *r)
    void ringbuf_snapshot_range(const ringbuf_stream_reader *r, uint64_t *first, uint64_t *last)
    void ringbuf_catch_up(ringbuf_stream_reader *r)
    void ringbuf_stream_reader_init(const ringbuf_channel *ch, uint32_t stream_idx, ringbuf_stream_reader *r)

cdef extern from "ringbuf/channel.h" nogil:
    cdef struct ringbuf_config:
        const char *name
        const char *contexts
        const char *path
        uint64_t subbuf_size
        uint64_t n_subbufs
        uint32_t n_spares
        uint32_t mode
        uint32_t streams
        uint32_t header
        uint32_t clock
        uint32_t wakeup
        uint32_t n_streams
        uint32_t n_producers
        uint32_t packet_header_size
        uint32_t preallocate
        uint64_t schema_size
        uint64_t metrics_size
        uint64_t start_pos
        uint64_t switch_timer_ns
        uint64_t read_timer_ns
        uint64_t blocking_timeout_ns
        uint64_t clock_freq
        int64_t clock_offset_s
        uint64_t clock_offset
        const ringbuf_client *client
        void *client_data

    uint32_t ringbuf_client_flags(const ringbuf_client *client)
    int ringbuf_fill_superblock(ringbuf_superblock *sb, const ringbuf_config *cfg)
    uint64_t ringbuf_fixed_size(const ringbuf_superblock *sb)
    int ringbuf_check_superblock(int fd, ringbuf_superblock *sb, uint64_t *size)
    int ringbuf_create(const ringbuf_config *cfg, ringbuf_channel **out)
    int ringbuf_attach_fd(int fd, const ringbuf_client *client, void *client_data, ringbuf_channel **out)
    int ringbuf_attach(const char *path, ringbuf_channel **out)
    int ringbuf_outlive_cuts()
    void ringbuf_close(ringbuf_channel *ch)
    void ringbuf_channel_forget(ringbuf_channel *ch)
    void ringbuf_set_state(const ringbuf_channel *ch, uint32_t bit, bint on)
    bint ringbuf_is_disabled(const ringbuf_channel *ch)
    bint ringbuf_is_finalized(const ringbuf_channel *ch)
    int ringbuf_finalize(const ringbuf_channel *ch, ringbuf_producer_slot *producer)
    int ringbuf_open_reader(const ringbuf_channel *ch, uint32_t first, uint32_t n, ringbuf_right *right)
    void ringbuf_close_reader(ringbuf_right *right)
    bint ringbuf_has_no_reader(const ringbuf_channel *ch, uint32_t stream_idx)
    int ringbuf_keep_right(const ringbuf_channel *ch, uint32_t first, uint32_t n, short type, ringbuf_right *right)
    int ringbuf_own_descriptor(ringbuf_channel *ch)
    int ringbuf_is_last_user(int fd)
    bint ringbuf_is_at_end(const ringbuf_stream_reader *r, ringbuf_producer_slot *producer)
    void ringbuf_clear_stream(ringbuf_stream_reader *r, ringbuf_producer_slot *producer)

cdef extern from "ringbuf/look.h" nogil:
    int ringbuf_look(int fd, ringbuf_channel **out)

cdef extern from "ringbuf/schema.h" nogil:
    cdef struct ringbuf_schema:
        uint32_t id
        const char *name
        const char *contexts
        const char *fields
        uint32_t name_size
        uint32_t contexts_size
        uint32_t fields_size

    bint ringbuf_next_schema(const ringbuf_channel *ch, uint64_t *off, ringbuf_schema *out)
    int64_t ringbuf_declare_event(ringbuf_channel *ch, const char *name, const char *contexts, const char *fields)
    int64_t ringbuf_declare_event_after(ringbuf_channel *ch, uint64_t off, uint32_t id, const char *name,
                                        const char *contexts, const char *fields)

cdef extern from "ringbuf/metrics.h" nogil:
    cdef enum:
        RINGBUF_COUNTER, RINGBUF_GAUGE, RINGBUF_HISTOGRAM, RINGBUF_SERIES
        RINGBUF_METRIC_REAL, RINGBUF_METRIC_PROCESS, RINGBUF_METRIC_REST
        RINGBUF_BOUNDS_MAX

    cdef struct ringbuf_metric:
        uint32_t kind
        uint32_t flags
        uint32_t number
        uint32_t n_bounds
        const double *bounds
        const char *name
        const char *unit
        const char *help
        const char *labels
        uint32_t name_size
        uint32_t unit_size
        uint32_t help_size
        uint32_t labels_size
        uint32_t word
        uint32_t rest
        uint64_t owner

    void ringbuf_metric_add(const ringbuf_channel *ch, uint32_t word, uint64_t n)
    void ringbuf_metric_add_real(const ringbuf_channel *ch, uint32_t word, double value)
    void ringbuf_gauge_set(const ringbuf_channel *ch, uint32_t word, double value)
    void ringbuf_observe(const ringbuf_channel *ch, const ringbuf_metric *m, uint32_t word, double value)
    uint64_t ringbuf_metric_sum(const ringbuf_channel *ch, uint32_t word)
    double ringbuf_metric_real(const ringbuf_channel *ch, uint32_t word)
    bint ringbuf_next_metric(const ringbuf_channel *ch, uint64_t *off, ringbuf_metric *out)
    bint ringbuf_series_fits(const ringbuf_channel *ch, const ringbuf_metric *m, uint32_t word)
    int ringbuf_declare_metric(const ringbuf_channel *ch, ringbuf_metric *m)
    int64_t ringbuf_metric_series(const ringbuf_channel *ch, const ringbuf_metric *m, const char *labels, uint32_t size)
    bint ringbuf_series_is_gone(const ringbuf_channel *ch, uint64_t owner)

cdef extern from "ringbuf/stats.h" nogil:
    cdef struct ringbuf_stats:
        uint64_t written
        uint64_t read
        uint64_t unread
        uint64_t overrun
        uint64_t cleared
        uint64_t discarded
        uint64_t lost[RINGBUF_N_CAUSES]
        uint64_t packets_read
        uint64_t parked
        uint64_t parked_now

    cdef struct ringbuf_usage:
        uint64_t produced
        uint64_t unread

    ringbuf_usage ringbuf_stream_usage(const ringbuf_channel *ch, const ringbuf_stream *s)
    void ringbuf_add_stream_stats(const ringbuf_channel *ch, uint32_t stream_idx, ringbuf_stats *st)
    void ringbuf_channel_stats(const ringbuf_channel *ch, ringbuf_stats *st)

cdef extern from "ringbuf/map.h" nogil:
    cdef struct ringbuf_map:
        ringbuf_right right
        uint8_t *base
        uint64_t size
        # "from" is a keyword here
        uint64_t begin "from"
        uint64_t end "to"

    int ringbuf_map_open(ringbuf_channel *ch, uint32_t stream_idx, ringbuf_map *map)
    int ringbuf_map_get_reader(ringbuf_map *map)
    int ringbuf_map_is_ready(ringbuf_map *map, unsigned int percent)
    int ringbuf_map_wait(ringbuf_map *map, unsigned int percent, uint64_t period_ns, uint64_t deadline_ns)
    void ringbuf_map_wake(const ringbuf_channel *ch, uint32_t stream_idx)
    int ringbuf_map_clear(ringbuf_map *map, ringbuf_producer_slot *producer)
    int ringbuf_map_is_at_end(ringbuf_map *map, ringbuf_producer_slot *producer)
    void ringbuf_map_release(ringbuf_map *map)
    void ringbuf_map_unmap(ringbuf_map *map)
