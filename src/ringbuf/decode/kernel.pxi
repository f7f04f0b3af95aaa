# kernel.pxi - part of _decode: the kernel's sub-buffers as CTF packets, over kernel.h.

cdef extern from "decode/kernel.h" nogil:
    const uint64_t KERNEL_HEADER_SIZE
    const uint64_t RINGBUF_CTF_PACKET_HEADER_SIZE

    cdef struct kernel_field:
        uint32_t offset
        uint32_t size
        uint32_t kind

    cdef struct kernel_event:
        const kernel_field *fields
        uint32_t n_fields

    cdef struct kernel_formats:
        const kernel_event *events
        uint32_t n_events
        uint8_t uuid[16]

    cdef struct kernel_packet:
        uint8_t *data
        uint64_t size
        uint64_t n_events
        uint64_t n_unknown
        bint is_full

    void kernel_begin_packet(kernel_packet *p, uint8_t *data, uint64_t capacity)
    const char *kernel_append_events(kernel_packet *p, const kernel_formats *formats, const uint8_t *subbuf,
                                     uint64_t begin, uint64_t end)
    void kernel_end_packet(kernel_packet *p, const kernel_formats *formats, uint32_t cpu,
                           uint64_t sequence_number, uint64_t events_discarded)


@cython.final
cdef class KernelPackets:
    """Makes CTF packets of the kernel's sub-buffers.

    Parameters
    ----------
    uuid : bytes of length 16
    formats : mapping of int to list of (offset, size, kind)
        Of each event id, the fields, contexts first. Kinds are those of kernel.h.
    """

    cdef kernel_formats _formats
    cdef kernel_event *_events
    cdef kernel_field *_fields
    cdef readonly uint64_t unknown  # events without a format, so far

    def __cinit__(self, bytes uuid not None, formats):
        cdef uint32_t i = 0, n
        if len(uuid) != 16:
            raise ValueError(f"a UUID has 16 bytes, not {len(uuid)}")
        memcpy(self._formats.uuid, <const char *>uuid, 16)
        self._formats.n_events = n = max(formats, default=-1) + 1
        self._events = <kernel_event *>_calloc(n, sizeof(kernel_event))
        self._fields = <kernel_field *>_calloc(sum(map(len, formats.values())), sizeof(kernel_field))
        self._formats.events = self._events
        for number, fields in formats.items():
            self._events[<uint32_t>number].fields = &self._fields[i]
            self._events[<uint32_t>number].n_fields = len(fields)
            for offset, size, kind in fields:
                self._fields[i].offset, self._fields[i].size, self._fields[i].kind = offset, size, kind
                i += 1

    def __dealloc__(self):
        PyMem_Free(self._events)
        PyMem_Free(self._fields)

    def packet(self, subbuf, uint64_t begin, uint64_t end, *, uint32_t cpu, uint64_t sequence_number=0,
               uint64_t events_discarded=0):
        """The events in bytes [begin, end) of a sub-buffer's data, as a packet of that many bytes.

        Returns
        -------
        bytes
            Empty if there are no events that have a format.

        Raises
        ------
        TraceError
            The sub-buffer makes no sense.
        """
        cdef const uint8_t[::1] view = subbuf
        cdef uint64_t capacity = RINGBUF_CTF_PACKET_HEADER_SIZE + 4 * (end - begin) + 256
        cdef kernel_packet p
        cdef const char *wrong
        cdef uint8_t *data
        if not begin <= end <= <uint64_t>view.shape[0] - KERNEL_HEADER_SIZE or view.shape[0] <= 16:
            raise ValueError(f"[{begin}, {end}) is not within the sub-buffer")
        while True:
            data = <uint8_t *>_calloc(capacity, 1)
            with nogil:
                kernel_begin_packet(&p, data, capacity)
                wrong = kernel_append_events(&p, &self._formats, &view[0], begin, end)
            try:
                if wrong is not NULL:
                    raise TraceError((<bytes>wrong).decode())
                if not p.is_full:
                    self.unknown += p.n_unknown
                    kernel_end_packet(&p, &self._formats, cpu, sequence_number, events_discarded)
                    return data[: p.size] if p.n_events else b""
            finally:
                PyMem_Free(data)
            capacity *= 4


cdef extern from "<sys/mman.h>" nogil:
    const int PROT_READ
    const int MAP_SHARED
    void *MAP_FAILED
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)
    int munmap(void *addr, size_t length)


@cython.final
cdef class FileMap:
    """A shared, read-only mapping of `size` bytes of a descriptor, which need have no size of its own.

    (The mmap module asks for one, and trace_pipe_raw says 0.) Unmapped when the last view is gone.
    """

    cdef void *_base
    cdef size_t _size

    def __cinit__(self, int fd, size_t size):
        self._base = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)
        if self._base == MAP_FAILED:
            self._base = NULL
            raise OSError(errno, os.strerror(errno))
        self._size = size

    def __dealloc__(self):
        if self._base != NULL:
            munmap(self._base, self._size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self._base, <Py_ssize_t>self._size, True, flags)

    def __releasebuffer__(self, Py_buffer *buffer):
        pass
