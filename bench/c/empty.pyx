# The least that a call of compiled code costs.


cdef class Empty:
    def method(self, value):
        pass
