"""Tests of the messages about missing packages: their commands install what is missing."""

import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc._utils.packages import EXTRAS, install_command

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
DEVELOPER_EXTRAS = {"test", "dev", "docs", "bench", "examples"}


def resolve(extras, name):
    """Return the packages of an extra in pyproject.toml, in which extras may contain other extras."""
    packages = []
    for requirement in extras[name]:
        inner = re.fullmatch(r"nnc-cython\[(.*)\]", requirement)
        packages += [one for part in inner[1].split(",") for one in resolve(extras, part)] if inner else [requirement]
    return packages


def test_table_of_extras_matches_pyproject():
    if not PYPROJECT.exists():
        pytest.skip("needs the checkout")
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - DEVELOPER_EXTRAS - {"all"}
    assert {name: tuple(resolve(extras, name)) for name in EXTRAS} == EXTRAS
    names = {requirement.partition(">")[0] for packages in EXTRAS.values() for requirement in packages}
    assert {requirement.partition(">")[0] for requirement in resolve(extras, "all")} == names


@pytest.mark.parametrize(
    ("has_direct_url", "command"),
    [
        (True, 'pip install "distributed>=2025.3" "dask[array,dataframe]>=2025.3"'),
        (False, 'pip install "nnc-cython[dask]"'),
    ],
)
def test_command_names_extra_only_after_installation_from_index(monkeypatch, tmp_path, has_direct_url, command):
    metadata = tmp_path / "nnc_cython-9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nnc-cython\nVersion: 9\n")
    if has_direct_url:
        (metadata / "direct_url.json").write_text('{"url": "file:///home/me/nnc", "dir_info": {}}')
    monkeypatch.syspath_prepend(tmp_path)
    assert install_command("dask") == command
    assert install_command("torch") == "pip install torch"


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("code", "missing", "user", "name"),
    [
        ("import nnc.sklearn", "sklearn", "nnc.sklearn needs scikit-learn", "sklearn"),
        ("import nnc.tabular", "sklearn", "nnc.tabular needs scikit-learn 1.9", "tables"),
        ("import nnc.dask", "distributed", "nnc.dask needs distributed", "dask"),
        ("import nnc.dask; nnc.dask.DaskMLPClassifier", "sklearn", "this class needs scikit-learn", "sklearn"),
        (
            "import nnc.images as i; i.ImageClassifier().fit(['a.png'], [0])",
            "PIL",
            "reading of image files needs Pillow",
            "images",
        ),
        ("import nnc.river", "river", "nnc.river needs river", "river"),
        ("import nnc; nnc.NeuralNetwork([1, 1]).to_torch()", "torch", "this function needs PyTorch", "torch"),
        ("import nnc; nnc.from_torch(None)", "torch", "this function needs PyTorch", "torch"),
        ("import nnc; nnc.to_keras(nnc.NeuralNetwork([1, 1]))", "keras", "this function needs Keras 3", "keras"),
    ],
)
def test_missing_package_is_reported_once_with_install_command(code, missing, user, name):
    if code.startswith("import nnc.dask;"):
        pytest.importorskip("distributed")
    code = f"import sys; sys.modules[{missing!r}] = None; {code}"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    message = done.stderr.splitlines()[-1]
    command = f"install it with {install_command(name)}"
    assert message.startswith(f"ImportError: {user} ")
    assert message.endswith(f"); {command}")
    assert message.count("install") == command.count("install")


@pytest.mark.exhaustive
def test_command_in_message_installs_missing_package(tmp_path):
    """The command is run in a new environment, in which nnc and NumPy are importable but not installed by pip."""
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for module in (np, nnc):
        folder = Path(module.__file__).parent
        for source in (folder, folder.with_name(f"{folder.name}.libs")):
            if source.exists():
                try:
                    (libraries / source.name).symlink_to(source, target_is_directory=True)
                except OSError:
                    pytest.skip("needs symbolic links")
    try:
        venv.create(tmp_path / "new", with_pip=True, symlinks=os.name != "nt")
    except subprocess.CalledProcessError:
        pytest.skip("needs ensurepip")
    programs = tmp_path / "new" / ("Scripts" if os.name == "nt" else "bin")

    def run(command, **variables):
        """Run a command as a user types it in the new environment."""
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, **variables}
        return subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    if run("pip download -q --no-deps --retries 0 --timeout 5 tqdm").returncode:
        pytest.skip("needs a package index")
    (tmp_path / "fit.py").write_text("import nnc; nnc.NeuralNetwork([1, 1]).fit([[1]], [1], epochs=1, progress=True)")
    message = run("python fit.py", PYTHONPATH=str(libraries)).stderr.splitlines()[-1]
    command = re.fullmatch(
        r'ImportError: a progress bar needs tqdm \(.*\); install it with (pip install "tqdm.*")', message
    )
    assert command, message
    installed = run(command[1])
    assert installed.returncode == 0, installed.stderr
    done = run("python fit.py", PYTHONPATH=str(libraries))
    assert done.returncode == 0, done.stderr
