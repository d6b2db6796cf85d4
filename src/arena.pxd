# Arena: one block of memory for all buffers of a call. Without a block (base 0) an arena only counts bytes. So the same
# function first computes the size of the block and then assigns the pointers.

from libc.string cimport memset

cdef enum: ALIGNMENT_BYTES = 64
# Alignment of each buffer: one cache line.

cdef enum Purpose:        # what the buffers of a network are for; each purpose includes the ones before it
    PREDICT               # buffers for the outputs
    EVALUATE              # buffers for the loss
    TRAIN                 # buffers for the gradient

cdef struct Arena:
    size_t base           # address of the block, or 0 to count only
    size_t used           # bytes allocated so far, padding included


cdef inline void* allocate(Arena* arena, size_t size) noexcept nogil:
    # Return the address of `size` bytes; not a valid address if base is 0. The owner of the block frees them.
    cdef size_t address = arena.base + arena.used
    arena.used += (size + ALIGNMENT_BYTES - 1) // ALIGNMENT_BYTES * ALIGNMENT_BYTES
    return <void*>address


cdef inline void* allocate_zeros(Arena* arena, size_t size) noexcept nogil:
    # Return the address of `size` bytes that are set to 0, unless base is 0.
    cdef void* buffer = allocate(arena, size)
    if arena.base:
        memset(buffer, 0, size)
    return buffer
