/* Detection of the instruction sets that this processor and its operating system support, by the instruction cpuid. The
   function __builtin_cpu_supports of Clang and GCC would need a library that clang-cl does not link. */
#ifndef NNC_CPU_FEATURES_H
#define NNC_CPU_FEATURES_H

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
static void cpuid(int leaf, int r[4]) {
    __asm__("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(0));
}
static unsigned int saved_registers(void) {
    unsigned int low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}
#define NNC_CPUID 1
#elif defined(_M_X64)
#include <intrin.h>
#include <immintrin.h>
static void cpuid(int leaf, int r[4]) { __cpuidex(r, leaf, 0); }
static unsigned int saved_registers(void) { return (unsigned int)_xgetbv(0); }
#define NNC_CPUID 1
#endif

/* Return whether leaf 7 of cpuid has all bits of `features`, and the operating system saves these registers. */
#ifdef NNC_CPUID
static int supports(unsigned int features, unsigned int registers) {
    const int fma_xsave = 1 << 27 | 1 << 12;
    int r[4];
    cpuid(0, r);
    if (r[0] < 7) return 0;
    cpuid(1, r);
    if ((r[2] & fma_xsave) != fma_xsave || (saved_registers() & registers) != registers) return 0;
    cpuid(7, r);
    return ((unsigned int)r[1] & features) == features;
}
#define BMI_AVX2_BMI2 (1u << 3 | 1u << 5 | 1u << 8)
#define F_DQ_CD_BW_VL (1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31)
#ifdef __APPLE__ /* macOS saves the registers of AVX-512 only after their first use */
#define AVX512_REGISTERS 0x6
#else
#define AVX512_REGISTERS 0xe6
#endif
static int has_avx2(void) { return supports(BMI_AVX2_BMI2, 0x6); }
static int has_avx512(void) { return supports(BMI_AVX2_BMI2 | F_DQ_CD_BW_VL, AVX512_REGISTERS); }
#else
static int has_avx2(void) { return 0; }
static int has_avx512(void) { return 0; }
#endif

#endif
