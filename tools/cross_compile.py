"""Compile the C code of every module for other systems and processors, to check that the source is portable.

    python tools/cross_compile.py [TARGET ...]

Needs Cython, setuptools and ziglang, whose Clang contains the C headers of every target. Warnings are errors. The
script only compiles: it does not link or run anything. It does not test MSVC, for which the portable fallback of
src/simd.h (NNC_SCALAR=1) is written.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = (
    "x86_64-linux-gnu.2.17",
    "aarch64-linux-gnu.2.17",
    "x86_64-linux-musl",
    "aarch64-linux-musl",
    "x86_64-macos",
    "aarch64-macos",
    "x86_64-windows-gnu",
    "aarch64-windows-gnu",
)
# Macros that the headers of Python need. They replace pyconfig.h, which describes only this machine.
PYCONFIG = """
#define _GNU_SOURCE 1
#define SIZEOF_VOID_P 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_TIME_T 8
#define SIZEOF_LONG_LONG 8
#define SIZEOF_INT 4
#define SIZEOF_SHORT 2
#define HAVE_STDINT_H 1
#define HAVE_STDDEF_H 1
#define HAVE_UINTPTR_T 1
#ifdef _WIN32
#define MS_WINDOWS
#define MS_WIN64
#define NT_THREADS
#define SIZEOF_LONG 4
#define SIZEOF_WCHAR_T 2
#define SIZEOF_PID_T 4
#define HAVE_DECLSPEC_DLL
#else
#define SIZEOF_LONG 8
#define SIZEOF_WCHAR_T 4
#define SIZEOF_PID_T 4
#define HAVE_UNISTD_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_SYS_TIME_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_PTHREAD_H 1
#ifndef _POSIX_THREADS
#define _POSIX_THREADS 1
#endif
#endif
"""


def extensions(folder):
    """Return the extensions of setup.py after Cython has generated their C code, in a copy of the source."""
    from setuptools import distutils

    for name in ("nnc", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    os.chdir(folder)
    os.environ["_PYTHON_HOST_PLATFORM"] = "linux-x86_64"  # on this platform setup.py builds every instruction set
    return distutils.core.run_setup("setup.py", stop_after="init").ext_modules


def compile_errors(extension, target, folder):
    """Compile an extension for a target; return the messages of the compiler, or "" if it succeeds."""
    macros = [f"-D{name}" for name, _ in extension.define_macros]
    name = f"{extension.name}.{target}.o"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-Isrc", f"-I{folder / 'include'}"]
    command += [*macros, "-DNDEBUG", "-Wall", "-Werror"]
    command += [*extension.extra_compile_args, "-c", extension.sources[0], "-o", folder / name]
    completed = subprocess.run([str(part) for part in command], text=True, capture_output=True)
    return completed.stderr if completed.returncode else ""


def main():
    """Compile all extensions for each target, and exit with status 1 if one fails."""
    targets = sys.argv[1:] or TARGETS
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        all_extensions = extensions(folder)
        shutil.copytree(sysconfig.get_path("include"), folder / "include")
        (folder / "include" / "pyconfig.h").write_text(PYCONFIG)
        for target in targets:
            selected = [e for e in all_extensions if target.startswith("x86_64") or "avx" not in e.name]
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                outputs = pool.map(lambda e, target=target: compile_errors(e, target, folder), selected)
                errors = [text for text in outputs if text]
            failed = failed or bool(errors)
            print("\n".join(errors) or f"ok  {target}: {', '.join(e.name for e in selected)}", flush=True)
        os.chdir(ROOT)
    sys.exit(failed)


if __name__ == "__main__":
    main()
