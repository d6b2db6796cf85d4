"""Compile the C code of every module for other systems and processors, to check that the source is portable.

    python tools/cross_compile.py [TARGET ...]

Needs Cython, setuptools, ziglang, whose Clang contains the C headers of every target, and the program nm. Warnings are
errors. For Windows the modules are also linked, with the C library of MinGW: each symbol must be in the C library or
in Python's. The script runs no module; tools/run_in_wine.py runs the kernels. It tests neither clang-cl and the
libraries of Visual Studio nor MSVC, for which the portable fallback of src/kernels/simd.h (NNC_SCALAR=1) is written.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parent.parent
PYTHON_LIBRARY = f"python{sys.version_info[0]}{sys.version_info[1]}.dll"
LIBRARY_LOCK = Lock()  # lets only one thread create the import library of a target
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
#define Py_ENABLE_SHARED 1
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
    # For this platform, setup.py lists the extensions of every instruction set.
    os.environ["_PYTHON_HOST_PLATFORM"] = "linux-x86_64"
    return distutils.core.run_setup("setup.py", stop_after="init").ext_modules


def compile_command(extension, target, folder):
    """Return the command that compiles C code for a target with the flags of an extension."""
    macros = [f"-D{name}" for name, _ in extension.define_macros]
    headers = [f"-I{name}" for name in [*extension.include_dirs, folder / "include"]]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *headers]
    return [*command, *macros, "-DNDEBUG", "-Wall", "-Werror", *extension.extra_compile_args]


def run_compiler(command):
    """Run a command; return the messages of the compiler, or "" if it succeeds."""
    completed = subprocess.run([str(part) for part in command], text=True, capture_output=True)
    return completed.stderr if completed.returncode else ""


def compile_errors(extension, target, folder):
    """Compile an extension for a target, and link it for Windows; return the messages of the compiler."""
    file = folder / f"{extension.name}.{target}.o"
    errors = run_compiler([*compile_command(extension, target, folder), "-c", extension.sources[0], "-o", file])
    if errors or "windows" not in target:
        return errors
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", file]
    return run_compiler([*command, python_library(target, folder), "-o", file.with_suffix(".pyd")])


def python_symbols():
    """Return the names of the functions and of the variables that this Python exports to extension modules."""
    library = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LDLIBRARY"))
    file = library if library.suffix == ".so" and library.exists() else Path(sys.executable).resolve()
    listed = subprocess.run(["nm", "-D", "--defined-only", file], text=True, capture_output=True, check=True).stdout
    symbols = [line.split()[1:] for line in listed.splitlines()]
    names = [(kind, name) for kind, name in symbols if name.startswith(("Py", "_Py"))]
    return [name for kind, name in names if kind in "TW"], [name for kind, name in names if kind in "BDR"]


def python_library(target, folder):
    """Return the import library of Python's DLL for a Windows target; it is created at the first call."""
    processor = target.split("-")[0]
    library = folder / f"python-{processor}.lib"
    with LIBRARY_LOCK:
        if not library.exists():
            functions, variables = python_symbols()
            names = [*functions, *(f"{name} DATA" for name in variables)]
            definitions = library.with_suffix(".def")
            definitions.write_text("\n".join([f'LIBRARY "{PYTHON_LIBRARY}"', "EXPORTS", *names]))
            machine = {"x86_64": "i386:x86-64", "aarch64": "arm64"}[processor]
            command = [sys.executable, "-m", "ziglang", "dlltool", "-m", machine, "-d", definitions, "-l", library]
            subprocess.run(command, check=True)
    return library


def create_sources(folder):
    """Generate the C code of all extensions in a folder, next to headers of Python for all targets."""
    all_extensions = extensions(folder)
    shutil.copytree(sysconfig.get_path("include"), folder / "include")
    (folder / "include" / "pyconfig.h").write_text(PYCONFIG)
    return all_extensions


def main():
    """Compile all extensions for each target, and exit with status 1 if one fails."""
    targets = sys.argv[1:] or TARGETS
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        all_extensions = create_sources(folder)
        for target in targets:
            selected = [e for e in all_extensions if target.startswith("x86_64") or "avx" not in e.name]
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                outputs = pool.map(lambda e, target=target: compile_errors(e, target, folder), selected)
                errors = [text for text in outputs if text]
            failed = failed or bool(errors)
            done = "compiled and linked" if "windows" in target else "compiled"
            print("\n".join(errors) or f"ok  {target}, {done}: {', '.join(e.name for e in selected)}", flush=True)
        os.chdir(ROOT)
    sys.exit(failed)


if __name__ == "__main__":
    main()
