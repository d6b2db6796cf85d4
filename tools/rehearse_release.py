"""Rehearse a release on this Linux machine, with a local package index instead of PyPI.

    python tools/rehearse_release.py [--all-tests] [--versions 3.11,3.14] [--keep FOLDER]

The steps are those of the workflows wheels.yml and release.yml:

1. Build the source archive, and a wheel for each Python that pyproject.toml lists. Pythons of this machine build with
   pip and auditwheel. The others come from Debian sid and build with cibuildwheel in a container, if podman is
   installed and the script runs as root (tools/cibuildwheel_in_podman.sh).
2. Check all files with `twine check --strict`, and the wheels with tools/inspect_wheel.py.
3. Write the software bill of materials (SBOM) of an installed wheel with cyclonedx-py.
4. Start a package index (pypiserver), and upload all files with twine.
5. For each Python: `pip install nnc-cython` from the index in a new environment without a compiler; run `nnc config`,
   the code of the README, `nnc demo` and QUICK_TESTS, or with --all-tests all tests.
6. Render the recipe for conda-forge, and print the identifiers of the wheels for Pyodide.

Signing, attestations, PyPI and the builds for macOS, Windows, AArch64 and musl are not rehearsed. The script writes
only to a temporary folder, or to FOLDER. It takes 15 minutes of processor time for five versions of Python.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import check_wheel
from check_wheel import ROOT, create_environment, report_success, run, single_file

TOOLS = [*check_wheel.TOOLS, "pypiserver", "cyclonedx-bom", "py-rattler-build", "setuptools>=77", "cython>=3.1"]
QUICK_TESTS = ["tests/test_readme.py", "tests/test_dispatch.py", "tests/test_against_reference.py"]
CONDA_PLATFORMS = "linux-64", "linux-aarch64", "osx-arm64", "win-64"
CONTAINER_RELEASE = "sid"  # this release of Debian has the versions of Python that are missing here
UPLOAD = ["--non-interactive", "-u", "name", "-p", "password"]  # the local index accepts any name and password


def listed_versions():
    """Return the versions of Python in the classifiers of pyproject.toml."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    return re.findall(r":: (3\.\d+)\n", "\n".join([*classifiers, ""]))


def find_python(version):
    """Return the interpreter of a version, from PATH or from pyenv, or None."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = [*map(str, installed), shutil.which(f"python{version}") or ""]
    return next((python for python in found if python and can_create_environments(python)), None)


def can_create_environments(python):
    """Return whether this interpreter has the module ensurepip and the headers of C."""
    code = "import ensurepip, pathlib, sysconfig; pathlib.Path(sysconfig.get_path('include'), 'Python.h').stat()"
    return subprocess.run([python, "-c", code], cwd="/", capture_output=True).returncode == 0


def containers_available():
    """Return whether tools/cibuildwheel_in_podman.sh can run here."""
    return shutil.which("podman") is not None and os.geteuid() == 0


def build_wheel(version, python, archive, work, tools):
    """Build a wheel with pip and repair it with auditwheel; return the wheel."""
    folder = work / f"build-{version}"
    environment = create_environment(folder, python)
    run(environment / "pip", "wheel", "-q", "--no-deps", "-w", folder / "first", archive, cwd="/")
    unrepaired = single_file(folder / "first", "*.whl")
    run(tools / "auditwheel", "repair", "-w", work / "dist", unrepaired, cwd="/", PATH=f"{tools}:/usr/bin:/bin")
    report_success(f"Python {version}: wheel built by pip, repaired by auditwheel")


def build_in_container(versions, work):
    """Build wheels with cibuildwheel in a container with Debian's Pythons."""
    script = ROOT / "tools/cibuildwheel_in_podman.sh"
    # In the container, test only that the wheel can be imported; a later step runs the tests.
    run(script, work / "dist", CONTAINER_RELEASE, *versions, cwd="/", CIBW_TEST_COMMAND="nnc config")
    report_success(f"Python {', '.join(versions)}: wheels built, repaired and audited by cibuildwheel in a container")


def check_files(files, tools):
    """Check the metadata of all files, and the content of the wheels."""
    run(tools / "twine", "check", "--strict", *files, cwd="/")
    wheels = [file for file in files if file.suffix == ".whl"]
    run(tools / "check-wheel-contents", "--ignore", "W002", *wheels, cwd="/")
    names = [wheel.name for wheel in wheels]
    print(run(tools / "python", ROOT / "tools/inspect_wheel.py", *names, cwd=wheels[0].parent).strip())
    report_success("twine check, check-wheel-contents, symbols of the modules")


def write_sbom(python, wheel, work, tools):
    """Write the SBOM of an environment with only a wheel and its dependencies, like the workflow release.yml."""
    environment = work / "sbom"
    run(python, "-m", "venv", "--without-pip", environment, cwd="/")
    run(tools / "pip", "--python", environment / "bin/python", "install", "-q", wheel, cwd="/")
    path = work / "nnc-cython.cdx.json"
    options = ["--output-format", "JSON", "--output-reproducible", "--output-file", path]
    run(tools / "cyclonedx-py", "environment", *options, environment / "bin/python", cwd="/")
    names = sorted(component["name"] for component in json.loads(path.read_text())["components"])
    if names != ["nnc-cython", "numpy"]:
        sys.exit(f"the SBOM must list nnc-cython and numpy, got {names}")
    report_success(f"SBOM of {wheel.name}: {', '.join(names)}")


def start_index(folder, tools):
    """Start a package index on a free port; return its process and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    command = [tools / "pypi-server", "run", "-i", "127.0.0.1", "-p", str(port), "-a", ".", "-P", ".", folder]
    server = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return server, f"http://127.0.0.1:{port}/"
        time.sleep(0.1)
    server.kill()
    sys.exit("the package index did not start within a minute")


def install_and_test(index, source, all_tests):
    """Install nnc-cython from the index with this Python, and run the demo, the code of the README and tests."""
    with tempfile.TemporaryDirectory() as name:
        venv.create(name, with_pip=True)
        programs = Path(name, "bin")
        run(programs / "pip", "install", "-q", "--prefer-binary", "numpy", "pytest", "hypothesis", cwd="/")
        source_of_packages = ["--index-url", f"{index}simple/", "--only-binary", ":all:"]
        installed = run(programs / "pip", "install", *source_of_packages, "nnc-cython", cwd="/", PATH=str(programs))
        wheel = re.search(r"nnc_cython-\S+\.whl", installed)[0]
        first_line = run(programs / "nnc", "config", cwd=name).splitlines()[0]
        run(programs / "python", "-P", source / "tools/pages.py", source / "README.md", cwd=name)
        run(programs / "nnc", "demo", cwd=name)
        pytest = [programs / "python", "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *QUICK_TESTS]
        command = [programs / "python", "tools/test_variants.py"] if all_tests else pytest
        passed = run(*command, cwd=source).strip().splitlines()[-1]
    version = ".".join(map(str, sys.version_info[:3]))
    report_success(f"Python {version}: {wheel}; {first_line}; README, demo, tests: {passed}")


def install_in_container(versions, index, source, arguments):
    """Run `install_and_test` with each of Debian's Pythons, in the image of the build."""
    image = f"localhost/nnc-wheels-{CONTAINER_RELEASE}:{'-'.join(versions)}"
    podman = ["podman", "--runtime=runc", "--cgroup-manager=cgroupfs", "run", "--rm", "--network=host"]
    for version in versions:
        name = f"cp{version.replace('.', '')}"
        python = f"/opt/python/{name}-{name}/bin/python"
        script = ["/source/tools/rehearse_release.py", "--install-from", index, *arguments]
        print(run(*podman, "-v", f"{source}:/source", image, python, *script, cwd="/").strip(), flush=True)


def render_recipe(tools):
    """Render the recipe for conda-forge for several platforms and Pythons, without solving its dependencies."""
    code = f"""
from rattler_build import JinjaConfig, PlatformConfig, RenderConfig, Stage0Recipe, VariantConfig
recipe = Stage0Recipe.from_file("{ROOT}/tools/conda-forge/recipe.yaml")
for platform in {CONDA_PLATFORMS}:
    variants = VariantConfig({{"python": ["3.11.*", "3.12.*", "3.13.*", "3.14.*"], "c_stdlib": ["sysroot"]}})
    rendered = recipe.render(variants, RenderConfig(PlatformConfig(target_platform=platform)))
    for variant in rendered:
        package = variant.recipe.package
        print(platform, package.name, package.version, dict(variant.variant)["python"])
"""
    lines = run(tools / "python", "-c", code, cwd="/").strip().splitlines()
    version = (ROOT / "nnc/_version.py").read_text(encoding="utf-8").split('"')[-2]
    if not lines or any(f"nnc-cython {version} " not in line for line in lines):
        sys.exit(f"the recipe must have version {version}, got\n" + "\n".join(lines))
    report_success(f"conda-forge: rendered {len(lines)} packages for {', '.join(CONDA_PLATFORMS)}; not solved")


def rehearse(options, work):
    """Run all steps."""
    tools = create_environment(work / "tools")
    run(tools / "pip", "install", "-q", *TOOLS, cwd="/")
    source = check_wheel.copy_of_source(work / "source")
    run(tools / "python", "-m", "build", "--sdist", "-o", work / "dist", source, cwd="/")
    archive = single_file(work / "dist", "*.tar.gz")
    report_success(f"source archive {archive.name}, {archive.stat().st_size / 1e6:.2f} MB")

    pythons = {version: find_python(version) for version in options.versions}
    local = {version: python for version, python in pythons.items() if python}
    contained = [version for version in pythons if version not in local and containers_available()]
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        builds = [executor.submit(build_wheel, *item, archive, work, tools) for item in local.items()]
        if contained:
            build_in_container(contained, work)
        for build in builds:
            build.result()

    files = sorted((work / "dist").iterdir())
    check_files(files, tools)
    version, python = next(iter(local.items()))
    write_sbom(python, single_file(work / "dist", f"*cp{version.replace('.', '')}*.whl"), work, tools)
    server, index = start_index(work / "index", tools)
    try:
        run(tools / "twine", "upload", "--repository-url", index, *UPLOAD, *files, cwd="/")
        report_success(f"twine upload of {len(files)} files to a local index")
        shutil.unpack_archive(archive, work / "unpacked", filter="data")
        unpacked = single_file(work / "unpacked", "*")
        arguments = ["--all-tests"] * options.all_tests
        for python in local.values():
            script = unpacked / "tools/rehearse_release.py"
            command = [python, script, "--install-from", index, *arguments]
            print(run(*command, cwd="/").strip(), flush=True)
        install_in_container(contained, index, unpacked, arguments)
    finally:
        server.terminate()
    render_recipe(tools)
    print_pyodide = ["--print-build-identifiers", "--platform", "pyodide", "--archs", "wasm32"]
    identifiers = run(tools / "cibuildwheel", *print_pyodide, source, cwd="/").split()
    report_success(f"Pyodide: {', '.join(identifiers)}; not built")
    missing = [version for version in pythons if version not in [*local, *contained]]
    print(f"not rehearsed: Python {', '.join(missing)}" if missing else "rehearsed with every version of Python")


def main():
    """Rehearse the release, or install from the index of a rehearsal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--all-tests", action="store_true", help="run all tests with each instruction set")
    parser.add_argument("--versions", type=lambda text: text.split(","), default=listed_versions())
    parser.add_argument("--keep", type=Path, help="new folder for all files; default: a temporary folder")
    # Used only within containers: the address of the local package index.
    parser.add_argument("--install-from", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.install_from:
        install_and_test(options.install_from, ROOT, options.all_tests)
    elif options.keep:
        options.keep.mkdir(parents=True)
        rehearse(options, options.keep.resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="rehearse_release.") as name:
            rehearse(options, Path(name))


if __name__ == "__main__":
    main()
