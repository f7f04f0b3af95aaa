# sampler.pyx - records from Cython, without the GIL, into a channel that Python created.
#
#     tracer = ringbuf.Tracer("demo", mode="discard")
#     sampler = Sampler(tracer.channel.fileno())
#     sampler.run(1000)                  # from any number of threads
#
# The module inlines the C headers and maps the shared memory itself: there is no call into
# ringbuf's Python side, and nothing to link with.

import os

from libc.errno cimport EIO, ENOBUFS
from libc.math cimport sin
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ringbuf.cringbuf cimport (
    ringbuf_attach_fd,
    ringbuf_channel,
    ringbuf_close,
    ringbuf_commit,
    ringbuf_declare_event,
    ringbuf_reservation,
    ringbuf_reserve,
    ringbuf_strerror,
)

cdef packed struct sample:  # the event's fields as they lie in the record: no padding
    uint64_t n
    double value


cdef class Sampler:
    """Records into the channel behind a descriptor, which stays the caller's."""

    cdef ringbuf_channel *channel
    cdef uint32_t event_id

    def __init__(self, int fd):
        cdef int64_t event_id
        cdef int own, error
        if self.channel is not NULL:
            raise RuntimeError("already attached")
        own = os.dup(fd)  # ringbuf_close() will close it
        error = ringbuf_attach_fd(own, NULL, NULL, &self.channel)
        if error:
            os.close(own)
            raise OSError(ringbuf_strerror(error).decode())
        # The same as tracer.event("sample", n="u64", value="f64").
        event_id = ringbuf_declare_event(self.channel, b"sample", b"", b"n:u64,value:f64")
        if event_id < 0:
            raise OSError(ringbuf_strerror(<int>event_id).decode())
        self.event_id = <uint32_t>event_id

    def __dealloc__(self):
        if self.channel is not NULL:
            ringbuf_close(self.channel)

    cdef int record(self, uint64_t n, double value) noexcept nogil:
        """Returns 0, or -errno: the record is lost, and the channel has counted why."""
        cdef ringbuf_reservation r
        cdef sample s
        cdef int error
        memset(&r, 0, sizeof(r))
        r.event_id = self.event_id
        r.payload_size = sizeof(s)
        error = ringbuf_reserve(self.channel, &r)
        if error:
            return error
        s.n = n
        s.value = value
        memcpy(r.payload, &s, sizeof(s))
        ringbuf_commit(self.channel, &r)
        return 0

    def run(self, uint64_t count):
        """Record `count` samples; returns how many were lost because the buffer was full."""
        cdef uint64_t n, lost = 0
        cdef int error = 0
        with nogil:
            for n in range(count):
                error = self.record(n, sin(<double>n))
                if error == -ENOBUFS or error == -EIO:
                    lost += 1
                    error = 0
                elif error:
                    break
        if error:
            raise OSError(ringbuf_strerror(error).decode())
        return lost
