"""Extension modules: the core for each instruction set and precision, the threads, and the detection of processors.

Everything else is in pyproject.toml. Environment variables change the build:

    NNC_DEBUG=1       with bounds checks and assertions, without optimization
    NNC_SANITIZE=1    address and undefined-behavior sanitizers (run with LD_PRELOAD of their libraries, see
                      CONTRIBUTING.md); NNC_SANITIZE=thread selects the thread sanitizer instead
    NNC_SCALAR=1      without vector types: the portable fallback of src/kernels/simd.h, which MSVC always compiles
    NNC_BUILD_ISA     instruction sets to compile, separated by commas (baseline, avx2, avx512), or "auto" for the best
                      one of this processor; all by default. For development: the result is no complete wheel.

On Windows the modules are compiled with clang-cl, the Clang that uses the headers and the linker of Visual Studio. If
clang-cl is not found, MSVC compiles them with a warning.
"""

import ast
import gzip
import io
import os
import re
import shutil
import sys
import sysconfig
import tarfile
from pathlib import Path

from Cython import Tempita
from Cython import __version__ as cython_version
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError, PlatformError

DEBUG, SCALAR = (bool(os.environ.get(name)) for name in ("NNC_DEBUG", "NNC_SCALAR"))
SANITIZE = os.environ.get("NNC_SANITIZE")
WINDOWS = sys.platform == "win32"
# Platform to build for. On macOS and in cross builds it may differ from the platform of this machine.
TARGET = os.environ.get("ARCHFLAGS") or sysconfig.get_platform()
X86_64 = any(name in TARGET for name in ("x86_64", "amd64", "universal2"))


def find_clang_cl(folders):
    """Return the path of clang-cl, from PATH or from the folders of LLVM and of Visual Studio, or None."""
    patterns = ("LLVM/bin/clang-cl.exe", "Microsoft Visual Studio/*/*/VC/Tools/Llvm/*/bin/clang-cl.exe")
    found = [str(file) for folder in folders for pattern in patterns for file in sorted(Path(folder).glob(pattern))]
    return shutil.which("clang-cl") or next(iter(found), None)


def clang_cl_flags(flags):
    """Return flags of Clang as options of clang-cl, which accepts those of warnings directly."""
    return [flag if flag.startswith("-W") else f"/clang:{flag}" for flag in flags]


PROGRAM_FOLDERS = [os.environ[name] for name in ("ProgramFiles", "ProgramFiles(x86)") if name in os.environ]
CLANG_CL = find_clang_cl(PROGRAM_FOLDERS) if WINDOWS else None
MSVC = WINDOWS and CLANG_CL is None
# Processor for which clang-cl compiles, which may differ from the processor that clang-cl itself runs on.
CLANG_CL_TARGET = "--target=aarch64-pc-windows-msvc" if "arm64" in TARGET else "--target=x86_64-pc-windows-msvc"

# The features that src/bindings/_cpu.pyx tests. They are listed one by one, because GCC has x86-64-v3 only since
# version 11.
AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2"]
AVX512 = [*AVX2, *(f"-mavx512{part}" for part in ("f", "bw", "cd", "dq", "vl")), "-mprefer-vector-width=512"]
# With generic tuning, GCC stores addresses in vector registers, where they wait for multiply-adds.
AVX512 += ["-mtune=cannonlake"]  # an AVX-512 processor whose name zig accepts
if sys.platform == "darwin":  # one module may contain code for two architectures
    AVX2, AVX512 = ([part for flag in flags for part in ("-Xarch_x86_64", flag)] for flags in (AVX2, AVX512))
elif MSVC:
    AVX2, AVX512 = ["/arch:AVX2"], ["/arch:AVX512"]
elif CLANG_CL:
    AVX2, AVX512 = clang_cl_flags(AVX2), clang_cl_flags(AVX512)
# The baseline of x86-64 is optimized for size, because current processors have AVX2.
SMALL = [] if WINDOWS or sys.platform == "darwin" else ["-Os"]
INSTRUCTION_SETS = {"baseline": SMALL if X86_64 else []} | ({"avx2": AVX2, "avx512": AVX512} if X86_64 else {})

# No flag changes the arithmetic of the process, so there is no -ffast-math and no -march=native. Without errno and
# traps, sqrt is one instruction and a select needs no branch. Only the PyInit function of a module is visible.
if MSVC:
    COMPILE, LINK = ["/O2", "/std:c11"], []
else:
    COMPILE = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-Wno-unused-function", "-g0"]
    # No code throws exceptions, so unwind tables are not needed; debug builds contain the tables that debuggers read.
    COMPILE += ["-fno-asynchronous-unwind-tables"]
    # GCC does not recognize that loops fill a square of vectors before it is read.
    COMPILE += ["-Wno-maybe-uninitialized"]
    # Cython declares all functions of a .pxd inline, even those with the attribute noinline. Return types that contain
    # the attribute always_inline also become the types of variables.
    COMPILE += ["-Wno-attributes"]
    # Clang does not support all of these flags.
    COMPILE += ["-Wno-unknown-warning-option", "-Wno-ignored-optimization-argument"]
    if not SCALAR:
        # The kernels use vector types and literal arguments. The code that these optimizations of GCC would add is a
        # fifth of a core and not faster.
        COMPILE += ["-fno-tree-vectorize", "-fno-ipa-cp", "-fno-unswitch-loops"]
    LINK = ["-Wl,-s"] if sys.platform == "linux" and not (DEBUG or SANITIZE) else []
    if SCALAR:
        # MSVC does not fuse multiplications and additions. GCC would fuse them in a loop, but not in all remainders.
        COMPILE += ["-ffp-contract=off"]
    if DEBUG:
        COMPILE += ["-O1", "-g", "-UNDEBUG"]
    if SANITIZE:
        # With -O3, the compilation takes almost twice as long. Reports need only line numbers (-g1).
        # The flags of Python include -fwrapv, which hides signed overflow.
        sanitizers = "thread" if SANITIZE == "thread" else "address,undefined"
        flags = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=undefined", "-fno-wrapv"]
        COMPILE += ["-O1", "-g1", *flags]
        LINK += flags
    if CLANG_CL:
        COMPILE = [CLANG_CL_TARGET, *clang_cl_flags(COMPILE)]


def selected_instruction_sets():
    """Return the instruction sets of NNC_BUILD_ISA, or all that the target has."""
    selection = os.environ.get("NNC_BUILD_ISA", "")
    if selection == "auto" and len(INSTRUCTION_SETS) > 1:
        selection = best_instruction_set()
    names = list(INSTRUCTION_SETS) if selection in {"", "auto"} else selection.split(",")
    if not set(names) <= set(INSTRUCTION_SETS):
        raise ValueError(f'NNC_BUILD_ISA must be "auto" or names of {list(INSTRUCTION_SETS)}, got {selection!r}')
    return names


def best_instruction_set():
    """Return the best instruction set of this processor, according to the features that Linux lists."""
    try:
        features = set(re.search(r"^flags\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
    except (OSError, TypeError):
        raise ValueError('NNC_BUILD_ISA must be a list such as "avx2" on this system, got "auto"') from None
    avx2 = {"avx2", "fma", "bmi1", "bmi2"} <= features
    avx512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= features
    return "avx512" if avx2 and avx512 else "avx2" if avx2 else "baseline"


STUBS = Path("build/stubs")
SOURCES = {path.name: path for path in sorted(Path("src").rglob("*")) if path.is_file()}  # file names are unique
FOLDERS = sorted({str(path.parent) for path in SOURCES.values()})


def extension(name, source, flags=(), macros=()):
    """Return a module that is compiled from a stub, which includes `source`.

    Cython derives the name of the C file from that of its source, so each module needs its own stub. A comment in the
    stub lists the flags, so that a change of the flags recompiles the module.
    """
    flags = [*COMPILE, *flags]
    macros = [*macros, *["NNC_SCALAR"] * SCALAR]
    stub = STUBS / f"{name}.pyx"
    STUBS.mkdir(parents=True, exist_ok=True)
    text = f'# {" ".join(flags + macros)}, bounds checks: {DEBUG}\ninclude "../../{SOURCES[source].as_posix()}"\n'
    if not stub.exists() or stub.read_text() != text:
        stub.write_text(text)
    return Extension(
        f"nnc.{name}",
        [str(stub)],
        include_dirs=FOLDERS,
        define_macros=[(macro, None) for macro in macros],
        extra_compile_args=flags,
        extra_link_args=LINK,
        depends=[str(path) for path in SOURCES.values()],
    )


def write_activations():
    """Write activations.pxi from the names in the table of activations and the functions in activations.pxd."""
    tree = ast.parse(Path("nnc/_registry/activations.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [call.args[0].value for call in calls if getattr(call.func, "id", "") == "Activation"]
    source = SOURCES["activations.pxd"].read_text(encoding="utf-8")
    functions = dict(re.findall(r"inline (?:always_inlined_)?vec ([fd]_\w+)\(vec (\w)\)", source))
    for function in functions:
        if function[2:] not in names or f"f_{function[2:]}" not in functions or f"d_{function[2:]}" not in functions:
            raise ValueError(f"{function} of activations.pxd needs a row, f_{function[2:]} and d_{function[2:]}")
    elementwise = {name: functions[f"d_{name}"] for name in names if f"f_{name}" in functions}
    template = SOURCES["activations.pxi.in"].read_text(encoding="utf-8")
    text = Tempita.sub(template, names=names, elementwise=elementwise)
    path = STUBS / "activations.pxi"
    if not path.exists() or path.read_text() != text:
        STUBS.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def translate(extensions):
    """Return the extensions with the C files that Cython writes as sources.

    cythonize also compares the C files with the files of Cython, which pip installs anew for each isolated build. So it
    is called only if a source of nnc is newer than its last call, or if that call was for other modules or made by
    another version of Cython. Otherwise a second installation compiles nothing.
    """
    sources = {extension.name: Path("build/c", extension.sources[0]).with_suffix(".c") for extension in extensions}
    last_call = Path("build/c/last_call")  # contains the version of Cython and the names of the modules
    state = " ".join([cython_version, *sorted(sources)])
    inputs = [Path("setup.py"), *SOURCES.values(), *STUBS.iterdir()]
    newest = max(path.stat().st_mtime_ns for path in inputs)
    is_current = last_call.exists() and last_call.stat().st_mtime_ns > newest
    if is_current and last_call.read_text() == state and all(path.exists() for path in sources.values()):
        for extension in extensions:
            extension.sources = [str(sources[extension.name])]
        return extensions
    extensions = cythonize(
        extensions,
        include_path=[*FOLDERS, str(STUBS)],
        build_dir="build/c",
        nthreads=os.cpu_count() or 1,
        shared_utility_qualified_name=SHARED,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "initializedcheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "embedsignature": False,
            "freethreading_compatible": True,
        },
    )
    last_call.write_text(state)
    return extensions


class Build(build_ext):
    """Build command that names the missing package if there is no compiler or no header of Python.

    On Windows it replaces the compiler of Visual Studio by clang-cl, or warns if there is no clang-cl.
    """

    def use_clang_cl(self):
        """Compile with clang-cl, and with the headers and the linker of Visual Studio."""
        if not self.compiler.initialized:
            self.compiler.initialize(self.plat_name)  # find Visual Studio
        self.compiler.cc = CLANG_CL
        self.compiler.compile_options.remove("/GL")  # code generation by Microsoft's linker, which clang-cl ignores

    def build_extensions(self):
        if CLANG_CL:
            self.use_clang_cl()
        elif MSVC:
            self.warn(
                "clang-cl was not found, so MSVC compiles nnc without vector types: training and predictions will be "
                "several times slower. Install clang-cl (winget install LLVM.LLVM) and install nnc again"
            )
        try:
            super().build_extensions()
        except CompileError:
            if WINDOWS:
                raise
            if not shutil.which(self.compiler.compiler[0]):
                command = self.compiler.compiler[0]
                raise PlatformError(
                    f"nnc is compiled when it is installed from its source, and there is no C compiler here ({command} "
                    "was not found). Install one (Debian, Ubuntu: apt install gcc; Fedora: dnf install gcc; macOS: "
                    "xcode-select --install), or install a wheel that pip wheel --no-deps . built on a machine with "
                    "the same system and the same version of Python"
                ) from None
            if not any(Path(folder, "Python.h").exists() for folder in self.include_dirs):
                raise PlatformError(
                    "nnc is compiled when it is installed from its source, and the headers of this Python (Python.h) "
                    "are not here. Install them (Debian, Ubuntu: apt install python3-dev; Fedora: dnf install "
                    "python3-devel)"
                ) from None
            raise

    def copy_extensions_to_source(self):
        """Copy the modules to nnc/, and remove cores that an earlier build compiled, maybe from other sources."""
        super().copy_extensions_to_source()
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        built = {extension.name.removeprefix("nnc.") + suffix for extension in self.extensions}
        for core in Path("nnc").glob(f"_core_*{suffix}"):
            if core.name not in built:
                core.unlink()


class SourceArchive(sdist):
    """Source archive whose bytes depend only on its files if SOURCE_DATE_EPOCH is set, like those of wheels."""

    def make_archive(self, *args, **options):
        path = super().make_archive(*args, **options)
        if epoch := int(os.environ.get("SOURCE_DATE_EPOCH", 0)):
            packed = io.BytesIO()
            with tarfile.open(path) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
                for file in filter(tarfile.TarInfo.isfile, old):
                    plain = tarfile.TarInfo(file.name)
                    plain.size, plain.mtime = file.size, epoch
                    new.addfile(plain, old.extractfile(file))
            Path(path).write_bytes(gzip.compress(packed.getvalue(), mtime=epoch))
        return path


write_activations()
# Module with the code of Cython for memoryviews, which would be a third of each core. Cython writes its C file.
SHARED = "nnc._cyutility"
extensions = [extension("_cpu", "_cpu.pyx"), extension("_team", "_team.pyx")]
extensions.append(Extension(SHARED, [f"{STUBS}/_cyutility.c"], extra_compile_args=COMPILE, extra_link_args=LINK))
for isa in selected_instruction_sets():
    extensions.append(extension(f"_core_{isa}_f32", "_core.pyx", INSTRUCTION_SETS[isa]))
    extensions.append(extension(f"_core_{isa}_f64", "_core.pyx", INSTRUCTION_SETS[isa], ["NNC_FLOAT64"]))

if __name__ == "__main__":  # the processes that translate may import this file
    setup(
        ext_modules=translate(extensions),
        cmdclass={"build_ext": Build, "sdist": SourceArchive},
        options={"build_ext": {"parallel": os.cpu_count()}},
    )
