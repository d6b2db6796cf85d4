"""The extension table: the core once per instruction set and precision, and the detector that chooses between them.

Everything else is in pyproject.toml. Switches, by environment variable:

    NNC_DEBUG=1       bounds checks on, assertions on, no optimisation
    NNC_SANITIZE=1    address and undefined-behavior sanitizers (run with LD_PRELOAD of their libraries, see
                      CONTRIBUTING.md)
    NNC_SCALAR=1      the portable fallback of src/simd.h, without vector types, as MSVC compiles it
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

DEBUG, SANITIZE, SCALAR = (bool(os.environ.get(name)) for name in ("NNC_DEBUG", "NNC_SANITIZE", "NNC_SCALAR"))
MSVC = sys.platform == "win32"
# The processor to build for, which need not be this one: macOS and cross builds say so.
TARGET = os.environ.get("ARCHFLAGS") or sysconfig.get_platform()
X86_64 = any(name in TARGET for name in ("x86_64", "amd64", "universal2"))

# Exactly what src/_cpu.pyx asks the processor for, one by one: compilers before GCC 11 know no x86-64-v3.
AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2"]
AVX512 = [*AVX2, *(f"-mavx512{part}" for part in ("f", "bw", "cd", "dq", "vl")), "-mprefer-vector-width=512"]
if sys.platform == "darwin":  # where one module may hold code for two processors
    AVX2, AVX512 = ([part for flag in flags for part in ("-Xarch_x86_64", flag)] for flags in (AVX2, AVX512))
elif MSVC:
    AVX2, AVX512 = ["/arch:AVX2"], ["/arch:AVX512"]
INSTRUCTION_SETS = {"baseline": []} | ({"avx2": AVX2, "avx512": AVX512} if X86_64 else {})

# No flag that changes the arithmetic of the process: no -ffast-math, no -march=native. Without errno and traps, sqrt
# is one instruction and a select needs no branch. Only the module's PyInit function is visible.
if MSVC:
    COMPILE, LINK = ["/O2", "/std:c11"], []
else:
    COMPILE = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-Wno-unused-function", "-g0"]
    # GCC does not see that the loops over a square of vectors fill it before it is read.
    COMPILE += ["-Wno-maybe-uninitialized"]
    # Cython declares every function of a .pxd inline; two are not to be.
    COMPILE += ["-Wno-attributes"]
    LINK = []
    if DEBUG:
        COMPILE += ["-O1", "-g", "-UNDEBUG"]
    if SANITIZE:
        # Python's own flags carry -fwrapv, which hides signed overflow.
        flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-wrapv", "-g"]
        COMPILE += flags
        LINK += flags

STUBS = Path("build/stubs")


def core(instruction_set, precision):
    """The core for one instruction set and precision. Cython derives the C file's name from the source's, so each
    needs a stub."""
    name = f"_core_{instruction_set}_{precision}"
    stub = STUBS / f"{name}.pyx"
    STUBS.mkdir(parents=True, exist_ok=True)
    text = 'include "_core.pyx"\n'
    if not stub.exists() or stub.read_text() != text:
        stub.write_text(text)
    macros = [("NNC_FLOAT64", None)] * (precision == "f64") + [("NNC_SCALAR", None)] * SCALAR
    return extension(name, stub, INSTRUCTION_SETS[instruction_set], macros)


def extension(name, source, flags=(), macros=()):
    return Extension(
        f"nnc.{name}",
        [str(source)],
        include_dirs=["src"],
        define_macros=list(macros),
        extra_compile_args=[*COMPILE, *flags],
        extra_link_args=LINK,
        depends=[str(path) for path in sorted(Path("src").iterdir())],
    )


extensions = [core(isa, precision) for isa in INSTRUCTION_SETS for precision in ("f32", "f64")]
extensions.append(extension("_cpu", "src/_cpu.pyx"))

setup(
    ext_modules=cythonize(
        extensions,
        include_path=["src"],
        build_dir="build/c",
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "initializedcheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "embedsignature": False,
            "freethreading_compatible": True,
        },
        force=DEBUG or SANITIZE,
    ),
    options={"build_ext": {"parallel": os.cpu_count()}},
)
