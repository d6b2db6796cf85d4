"""Compiles the C of every module for other systems and processors, as a check that the source is portable.

    python tools/cross_compile.py [TARGET ...]

Needs Cython, setuptools and ziglang, whose Clang brings the C headers of every target; warnings are errors.
Objects only: nothing is linked and nothing is run. What is left out is MSVC, whose dialect of C the portable fallback
of src/simd.h keeps to (NNC_SCALAR=1).
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
# What Python's headers ask of a configuration; the one that lies beside them is that of this machine.
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
    """The extension table of setup.py, with the C that Cython has made, in a copy of the source."""
    from setuptools import distutils

    for name in ("nnc", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    os.chdir(folder)
    os.environ["_PYTHON_HOST_PLATFORM"] = "linux-x86_64"  # the one with every instruction set
    return distutils.core.run_setup("setup.py", stop_after="init").ext_modules


def compiled(extension, target, folder):
    """What the compiler says."""
    macros = [f"-D{name}" for name, _ in extension.define_macros]
    name = f"{extension.name}.{target}.o"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-Isrc", f"-I{folder / 'include'}"]
    command += [*macros, "-DNDEBUG", "-Wall", "-Werror"]
    command += [*extension.extra_compile_args, "-c", extension.sources[0], "-o", folder / name]
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True)
    return done.stderr if done.returncode else ""


def main():
    targets = sys.argv[1:] or TARGETS
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = extensions(folder)
        shutil.copytree(sysconfig.get_path("include"), folder / "include")
        (folder / "include" / "pyconfig.h").write_text(PYCONFIG)
        for target in targets:
            wanted = [e for e in table if target.startswith("x86_64") or "avx" not in e.name]
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                said = list(pool.map(lambda e, target=target: compiled(e, target, folder), wanted))
            wrong = [text for text in said if text]
            failed = failed or bool(wrong)
            print("\n".join(wrong) or f"ok  {target}: {', '.join(e.name for e in wanted)}", flush=True)
        os.chdir(ROOT)
    sys.exit(failed)


if __name__ == "__main__":
    main()
