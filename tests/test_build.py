"""Tests of setup.py: compilers and flags on Windows, without compiling anything."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
if not (ROOT / "setup.py").exists():
    pytest.skip("needs the checkout", allow_module_level=True)
pytest.importorskip("Cython")
pytest.importorskip("setuptools")

# Compile each kind of vector operation without the C library, whose headers for Visual Studio may be missing.
KERNELS = """
double sqrt(double);
float sqrtf(float);
void *memcpy(void *, const void *, __SIZE_TYPE__);
#define _MATH_H 1
#define _STRING_H 1
#include "simd.h"
vec f(vec a, vec b) { return madd(a, b, vmax(vsqrt(a), divide_by_root(a, b, (real)2, (real)1e-8))); }
void t(vec *v) { transpose(v); }
vec d(void) { return dropout_mask(1, 2, 3, 4, (real)2); }
unsigned m(void) { return flush_denormals(); }
"""


# Runs setup.py as on Windows, up to the compilation, and prints what the build command would use.
SCRIPT = """
import json, runpy, shutil, sys, sysconfig
import Cython.Build, setuptools

class Compiler:
    initialized = False
    def initialize(self, platform):
        self.initialized, self.platform, self.cc = True, platform, "cl.exe"
        self.compile_options = ["/nologo", "/O2", "/GL"]

platform, warnings, translated = sys.argv[1], [], []
Cython.Build.cythonize = lambda extensions, **options: translated.extend(e.name for e in extensions) or extensions
setuptools.setup = lambda **options: None
sysconfig.get_platform = lambda: platform
shutil.which = lambda *arguments, **options: None
sysconfig.get_config_vars()  # read the variables of this system
linux, sys.platform = sys.platform, "win32"
names = runpy.run_path("setup.py")
names["translate"](names["extensions"])
sys.platform = linux
command = names["Build"](setuptools.Distribution())
command.extensions, command.compiler, command.plat_name, command.parallel = [], Compiler(), platform, False
command.warn = warnings.append
command.build_extensions()
setuptools.command.build_ext.build_ext.copy_extensions_to_source = lambda self: None
command.extensions = names["extensions"]
command.copy_extensions_to_source()
extensions = {e.name: [e.extra_compile_args, [macro for macro, _ in e.define_macros]] for e in names["extensions"]}
result = {"extensions": extensions, "compiler": vars(command.compiler), "warnings": warnings, "translated": translated}
print(json.dumps(result))
"""


@pytest.fixture
def run_setup(tmp_path):
    """Return a function that runs setup.py as on Windows, in a copy of the source."""
    copied = tmp_path / "source"
    shutil.copytree(ROOT / "src", copied / "src")
    (copied / "build/c").mkdir(parents=True)  # setup.py expects this folder, which cythonize would create
    for name in ("setup.py", "nnc/_registry/activations.py"):
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copied / name)

    def run(platform, programs, **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NNC_", "ARCHFLAGS"))}
        completed = subprocess.run(
            [sys.executable, "-P", "-c", SCRIPT, platform],
            cwd=copied,
            env=environment | {"ProgramFiles": str(programs)} | variables,
            capture_output=True,
            text=True,
        )
        assert completed.returncode == 0, completed.stderr
        return json.loads(completed.stdout.splitlines()[-1])

    return run


@pytest.fixture
def clang_cl(tmp_path):
    """Create an empty clang-cl in the folder in which the installer of LLVM creates it."""
    program = tmp_path / "programs" / "LLVM" / "bin" / "clang-cl.exe"
    program.parent.mkdir(parents=True)
    program.write_text("")
    return program


@pytest.mark.parametrize(
    ("platform", "target"), [("win-amd64", "x86_64-pc-windows-msvc"), ("win-arm64", "aarch64-pc-windows-msvc")]
)
def test_windows_builds_use_clang_cl(run_setup, clang_cl, platform, target, tmp_path):
    result = run_setup(platform, tmp_path / "programs")
    assert set(result["extensions"]) >= {"nnc._core_baseline_f32", "nnc._cpu"}
    assert any("avx512" in name for name in result["extensions"]) == (platform == "win-amd64")
    for flags, _ in result["extensions"].values():
        assert flags[0] == f"--target={target}"
        assert all(flag.startswith(("--target=", "/clang:-", "-W")) for flag in flags)
    assert (result["compiler"]["cc"], result["compiler"]["platform"]) == (str(clang_cl), platform)
    assert "/GL" not in result["compiler"]["compile_options"]
    assert result["warnings"] == []


def test_build_without_clang_cl_warns_of_slow_loops(run_setup, tmp_path):
    result = run_setup("win-amd64", tmp_path / "programs")
    assert result["extensions"]["nnc._core_avx2_f32"][0] == ["/O2", "/std:c11", "/arch:AVX2"]
    assert "cc" not in result["compiler"]  # setup.py sets no compiler, so that setuptools uses cl.exe
    assert "several times slower" in result["warnings"][0]


def test_build_isa_selects_the_compiled_cores(run_setup, tmp_path):
    extensions = run_setup("win-amd64", tmp_path / "programs", NNC_BUILD_ISA="avx2,baseline")["extensions"]
    cores = {name for name in extensions if "_core_" in name}
    assert cores == {f"nnc._core_{isa}_{precision}" for isa in ("avx2", "baseline") for precision in ("f32", "f64")}


def test_in_place_build_removes_cores_of_other_instruction_sets(run_setup, tmp_path):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    package = tmp_path / "source" / "nnc"
    for name in (f"_core_avx2_f32{suffix}", f"_core_avx512_f32{suffix}", f"_team{suffix}", "_core_avx512_f32.other"):
        (package / name).touch()
    run_setup("win-amd64", tmp_path / "programs", NNC_BUILD_ISA="avx2,baseline")
    assert {path.name for path in package.iterdir() if path.is_file()} == {
        f"_core_avx2_f32{suffix}",
        f"_team{suffix}",
        "_core_avx512_f32.other",  # compiled for another version of Python
    }


def test_other_cores_are_translated_after_a_build_of_some_cores(run_setup, tmp_path):
    stubs = tmp_path / "source" / "build/c/build/stubs"
    stubs.mkdir(parents=True)
    for name in (
        "core_avx2_f32",
        "core_avx2_f64",
        "core_baseline_f32",
        "core_baseline_f64",
        "team",
        "cpu",
        "cyutility",
    ):
        (stubs / f"_{name}.c").touch()

    def translates(isa):
        return "nnc._core_avx2_f32" in run_setup("win-amd64", tmp_path / "programs", NNC_BUILD_ISA=isa)["translated"]

    assert translates("avx2,baseline")
    assert not translates("avx2,baseline")
    next((tmp_path / "source" / "src").rglob("rows.pxd")).touch()
    assert translates("avx2")
    assert translates("avx2,baseline")  # although no source is newer than the last translation


@pytest.mark.parametrize("platform", ["win-amd64", "win-arm64"])
def test_clang_cl_accepts_flags_and_compiles_vector_types(run_setup, clang_cl, platform, tmp_path):
    """Use the Clang of ziglang in the mode of clang-cl, with warnings as errors."""
    ziglang = pytest.importorskip("ziglang")
    extensions = run_setup(platform, tmp_path / "programs")["extensions"]
    cores = [extension for name, extension in extensions.items() if "_core_" in name]
    assert len(cores) == (6 if platform == "win-amd64" else 2)
    (tmp_path / "kernels.c").write_text(KERNELS)
    # Empty headers suffice, because KERNELS declares the functions that it uses.
    for name in ("math.h", "string.h"):
        (tmp_path / name).write_text("")
    simd = next((ROOT / "src").rglob("simd.h"))
    headers = ["/I", simd.parent, "/I", tmp_path, "/imsvc", Path(ziglang.__file__).parent / "lib/include"]
    clang = [sys.executable, "-P", "-m", "ziglang", "clang", "--driver-mode=cl", "/nologo", "/O2", "/W3", "/WX", "/c"]
    for flags, macros in cores:
        options = [*flags, *(f"/D{name}" for name in macros), "/clang:-ffreestanding", "/Tckernels.c", "/Fokernels.obj"]
        command = [str(part) for part in (*clang, *headers, *options)]
        completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert completed.returncode == 0, completed.stderr
