# Detection of the instruction sets that this processor and its operating system support. The module is compiled for the
# baseline instruction set.

from threads cimport processor_number

cdef extern from *:
    """
    #if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
    static int has_avx2(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
            && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    }
    static int has_avx512(void) {
        return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl");
    }
    #elif defined(_M_X64)
    #include <intrin.h>
    #include <immintrin.h>
    static int leaf7(int mask, unsigned long long state) {
        int r[4];
        __cpuid(r, 0);
        if (r[0] < 7) return 0;
        __cpuid(r, 1);
        if ((r[2] & (1 << 27 | 1 << 12)) != (1 << 27 | 1 << 12)) return 0; /* OSXSAVE, FMA */
        if ((_xgetbv(0) & state) != state) return 0; /* the operating system must save these registers */
        __cpuidex(r, 7, 0);
        return (r[1] & mask) == mask;
    }
    static int has_avx2(void) { return leaf7(1 << 3 | 1 << 5 | 1 << 8, 0x6); }
    static int has_avx512(void) {
        return has_avx2() && leaf7((int)(1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31), 0xe6);
    }
    #else
    static int has_avx2(void) { return 0; }
    static int has_avx512(void) { return 0; }
    #endif
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
    bint has_avx2() nogil
    bint has_avx512() nogil
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
