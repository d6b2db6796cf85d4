# Memory for all buffers of a network, in one piece.

cdef enum: ALIGNMENT = 64


cdef enum Purpose:            # of a network's buffers
    PREDICT
    EVALUATE                  # the loss as well
    TRAIN                     # the gradient as well


cdef struct Arena:
    # Memory handed out piece by piece. With no base it only counts, so that the same walk measures and then lays out.
    size_t base
    size_t used


cdef inline void* take(Arena* arena, size_t size) noexcept nogil:
    cdef size_t at = arena.base + arena.used
    arena.used += (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    return <void*>at
