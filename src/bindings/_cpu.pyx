# Detection of the instruction sets that this processor and its operating system support. The module is compiled for the
# baseline instruction set.

from threads cimport processor_number

cdef extern from "cpu_features.h" nogil:
    bint has_avx2()
    bint has_avx512()

cdef extern from *:
    """
    #if defined(__clang__)
    #define NNC_COMPILER "Clang " __clang_version__
    #elif defined(__GNUC__)
    #define NNC_COMPILER "GCC " __VERSION__
    #elif defined(_MSC_VER)
    #define NNC_TEXT_OF(x) #x
    #define NNC_TEXT(x) NNC_TEXT_OF(x)
    #define NNC_COMPILER "MSVC " NNC_TEXT(_MSC_FULL_VER)
    #else
    #define NNC_COMPILER "unknown"
    #endif
    """
    const char* NNC_COMPILER

COMPILER = NNC_COMPILER.decode()


def instruction_sets():
    """Return the names of the instruction sets that this processor can run, from the widest vectors to "baseline"."""
    names = ["baseline"]
    if has_avx2():
        names.insert(0, "avx2")
    if has_avx512():
        names.insert(0, "avx512")
    return names


def processor():
    """Return the number of the processor that runs this thread, or -1 if the system does not provide it."""
    return processor_number()
