# Arena: one block of memory from which a call takes all its buffers. If its base is 0, an arena only counts bytes. So
# the same function first computes the required size, and then assigns the pointers.

from libc.string cimport memset

cdef enum: ALIGNMENT_BYTES = 64
# Each buffer starts at a multiple of this many bytes, the size of a cache line.

# Purpose of the buffers of a network. Each purpose also needs the buffers of the purposes before it.
cdef enum Purpose:
    PREDICT               # allocate buffers for the outputs
    EVALUATE              # allocate buffers for outputs and loss
    TRAIN                 # allocate buffers for outputs, loss and gradient

cdef struct Arena:
    size_t base           # address of the memory block, or 0 to count bytes only
    size_t used           # number of bytes allocated so far, including padding


cdef inline void* allocate(Arena* arena, size_t size) noexcept nogil:
    # Return the address of a buffer of `size` bytes, which is invalid if arena.base is 0. The owner of the arena frees
    # the memory.
    cdef size_t address = arena.base + arena.used
    arena.used += (size + ALIGNMENT_BYTES - 1) // ALIGNMENT_BYTES * ALIGNMENT_BYTES
    return <void*>address


cdef inline void* allocate_zeros(Arena* arena, size_t size) noexcept nogil:
    # Return the address of a buffer of `size` bytes filled with zeros. If arena.base is 0, the address is invalid and
    # nothing is written.
    cdef void* buffer = allocate(arena, size)
    if arena.base:
        memset(buffer, 0, size)
    return buffer
