# Memory for all buffers of a network, in one piece, handed out piece by piece. With no base an arena only counts, so
# that the same walk measures and then lays out.

from libc.string cimport memset

cdef enum: ALIGNMENT = 64

cdef enum Purpose:        # of a network's buffers
    PREDICT
    EVALUATE              # the loss as well
    TRAIN                 # the gradient as well

cdef struct Arena:
    size_t base
    size_t used


cdef inline void* take(Arena* arena, size_t size) noexcept nogil:
    cdef size_t at = arena.base + arena.used
    arena.used += (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    return <void*>at


cdef inline void* take_zeros(Arena* arena, size_t size) noexcept nogil:
    cdef void* piece = take(arena, size)
    if arena.base:
        memset(piece, 0, size)
    return piece
