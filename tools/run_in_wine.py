"""Run the kernels, the threads and the detection of processors as Windows programs under Wine.

    python tools/run_in_wine.py

The program tools/windows_harness.pyx needs no Python. It is compiled for each instruction set and both precisions, for
Windows (x86-64, MinGW) and for this Linux machine, by the same compiler with the same flags. Both programs must
succeed and print the same hashes: the results on Windows are those on Linux, bit by bit. Instruction sets that this
processor lacks are only compiled.

Needs Cython, setuptools, ziglang, nm and Debian's package wine64. Python, clang-cl and the C runtime of Microsoft are
not tested.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cross_compile

TARGETS = "x86_64-windows-gnu", "x86_64-linux-gnu"
WINE = shutil.which("wine64") or shutil.which("wine64", path="/usr/lib/wine") or sys.exit("install wine64")


def build(extension, target, folder):
    """Compile the harness for a target with the flags of an extension, and return the program."""
    program = folder / f"{extension.name}.{target}.exe"
    command = cross_compile.compile_command(extension, target, folder)
    # The linker of Linux removes functions that nothing calls, and with them all references to Python.
    command += ["-Wno-unused", "-DCYTHON_NO_PYINIT_EXPORT", "-ffunction-sections", "-Wl,--gc-sections"]
    command += ["harness.c", "-o", program]
    if "windows" in target:
        command.append(cross_compile.python_library(target, folder))
    else:
        command += ["-Wl,-z,undefs", "-pthread", "-lm"]
    errors = cross_compile.run_compiler(command)
    return program if not errors else sys.exit(errors)


def create_python_library(target, folder):
    """Create a DLL with the name and the symbols of Python's DLL, which do nothing: the harness calls none of them."""
    functions, variables = cross_compile.python_symbols()
    source = folder / "python.c"
    lines = [f"void {name}(void) {{}}" for name in functions] + [f"int {name};" for name in variables]
    source.write_text("\n".join(f"__declspec(dllexport) {line}" for line in lines))
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-w", "-fno-builtin", "-shared", source]
    errors = cross_compile.run_compiler([*command, "-o", folder / cross_compile.PYTHON_LIBRARY])
    if errors:
        sys.exit(errors)


def output(command, folder):
    """Return what a program prints; exit with status 1 if the program fails."""
    variables = {"WINEPREFIX": str(folder / "wine"), "WINEDEBUG": "-all"}
    completed = subprocess.run(command, text=True, capture_output=True, env=os.environ | variables)
    if completed.returncode:
        sys.exit(f"{command}\n{completed.stdout}{completed.stderr}")
    return completed.stdout


def main():
    """Build and run all programs; exit with status 1 if one fails or the results differ."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extensions = cross_compile.create_sources(folder)
        shutil.copy(cross_compile.ROOT / "tools/windows_harness.pyx", "harness.pyx")
        folders = [f"-I{name}" for name in [*extensions[0].include_dirs, "build/stubs"]]
        cython = [sys.executable, "-m", "cython", "-3", *folders]
        # These directives must also hold for the .pxd files.
        directives = ["-X", "cdivision=True,boundscheck=False,wraparound=False,initializedcheck=False"]
        create_python_library(TARGETS[0], folder)
        subprocess.run([*cython, *directives, "harness.pyx", "-o", "harness.c"], check=True)
        for extension in extensions:
            if "_core_" not in extension.name:
                continue
            windows, linux = (build(extension, target, folder) for target in TARGETS)
            flag = {"avx2": "avx2", "avx512": "avx512f"}.get(extension.name.split("_")[2])
            if flag and flag not in Path("/proc/cpuinfo").read_text():
                print(f"not run: {extension.name}, because this processor lacks {flag}")
                continue
            printed = output([WINE, windows], folder)
            if printed.splitlines() != output([linux], folder).splitlines():
                sys.exit(f"{extension.name}: results differ between Windows and Linux\n{printed}")
            lines = printed.splitlines()
            print(f"ok  {extension.name}: {len(lines)} lines are equal; {lines[0]}", flush=True)
        os.chdir(cross_compile.ROOT)


if __name__ == "__main__":
    main()
