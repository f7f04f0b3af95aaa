"""Part of _decode.pyx: long time lines in little memory, and overlapping slices in rows."""

cdef extern from "decode/levels.h" nogil:
    struct level_cell:
        uint32_t lane, bin, n, what
        int64_t covered, self, lead

    struct levels:
        uint64_t width
        size_t n, mask
        level_cell *cells
        uint8_t *used

    int level_init(levels *l, int64_t begin, int64_t end, size_t limit)
    void level_free(levels *l)
    int level_add(levels *l, uint32_t lane, int64_t begin, int64_t duration, int64_t self, uint32_t what)
    int level_pack(const uint32_t *tracks, const int64_t *begins, const int64_t *ends, const uint32_t *wanted,
                   uint32_t *rows, size_t n, uint32_t max_rows)


_CELL = [
    ("lane", "u4"), ("bin", "u4"), ("n", "u4"), ("what", "u4"), ("covered", "i8"), ("self", "i8"), ("lead", "i8"),
]  # fmt: skip


@cython.final
cdef class Levels:
    """Counts slices by lane and bin of time, in bounded memory: bins get wider where there are too many.

    Parameters
    ----------
    begin, end : int
        Where the time line begins and ends, in nanoseconds.
    limit : int
        How many cells there may be: a lane and a bin in which something is.

    Thread safety: one thread at a time.
    """

    cdef levels _levels

    def __cinit__(self, begin, end, size_t limit):
        if not 1 <= limit <= 1 << 28:
            raise ValueError(f"limit is a number of cells from 1 to {1 << 28}, not {limit}")
        if level_init(&self._levels, begin, end, limit):
            raise MemoryError

    def __dealloc__(self):
        level_free(&self._levels)

    def __len__(self):
        return self._levels.n

    @property
    def width(self):
        """int: nanoseconds of a bin."""
        return self._levels.width

    def add(self, const uint32_t[:] lanes, const int64_t[:] begins, const int64_t[:] durations, const int64_t[:] selfs,
            const uint32_t[:] whats):
        """Count slices; those of no duration are instants.

        Parameters
        ----------
        lanes, begins, durations, selfs, whats : buffer
            Of the same length; times in nanoseconds. `whats` tells what a cell is mostly.
        """
        cdef Py_ssize_t i, n = lanes.shape[0]
        cdef int failed = 0
        if not n == begins.shape[0] == durations.shape[0] == selfs.shape[0] == whats.shape[0]:
            raise ValueError("columns differ in length")
        with nogil:
            for i in range(n):
                failed = level_add(&self._levels, lanes[i], begins[i], durations[i], selfs[i], whats[i])
                if failed:
                    break
        if failed:
            raise MemoryError

    def cells(self):
        """What was counted.

        Returns
        -------
        numpy.ndarray
            Structured, by ``lane`` and ``bin``: ``n`` that began in it, ``what`` it is mostly, ``covered``
            nanoseconds, and of these ``self``.
        """
        cdef size_t i, k = 0
        data = bytearray(self._levels.n * sizeof(level_cell))
        cdef uint8_t[::1] view = data
        for i in range(self._levels.mask + 1):
            if self._levels.used[i]:
                memcpy(&view[k], &self._levels.cells[i], sizeof(level_cell))
                k += sizeof(level_cell)
        numpy = _numpy()
        found = numpy.frombuffer(data, _CELL)
        return found[numpy.lexsort((found["bin"], found["lane"]))]


def packed_rows(const uint32_t[::1] tracks, const int64_t[::1] begins, const int64_t[::1] ends,
                const uint32_t[::1] wanted, uint32_t max_rows):
    """Rows for slices such that none hides another.

    Parameters
    ----------
    tracks, begins, ends : buffer
        The slices of each track together, by begin; of the same length.
    wanted : buffer
        The first row that each may have.
    max_rows : int
        Where more are open at a time, they share the last one.

    Returns
    -------
    numpy.ndarray
        Of u4.
    """
    cdef size_t n = tracks.shape[0]
    cdef int failed
    if not tracks.shape[0] == begins.shape[0] == ends.shape[0] == wanted.shape[0]:
        raise ValueError("columns differ in length")
    if not 1 <= max_rows <= 1 << 20:
        raise ValueError(f"max_rows is from 1 to {1 << 20}, not {max_rows}")
    rows = _numpy().zeros(n, "u4")
    cdef uint32_t[::1] view = rows
    if n:
        with nogil:
            failed = level_pack(&tracks[0], &begins[0], &ends[0], &wanted[0], &view[0], n, max_rows)
        if failed:
            raise MemoryError
    return rows
