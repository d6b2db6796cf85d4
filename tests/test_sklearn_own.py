"""Run the installed MLP tests of scikit-learn on the two MLP classes of nnc.sklearn."""

import importlib.util
import subprocess
import sys

import pytest

pytest.importorskip("sklearn")

import sklearn.neural_network

import nnc.sklearn

# Tests that are skipped because they use private parts of scikit-learn, with the reason. There are none now.
SKIPPED_TESTS: dict[str, str] = {}

pytestmark = pytest.mark.filterwarnings("default")  # scikit-learn's own tests expect this filter, which prints warnings


def _tests():
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if spec is None:
        pytest.skip("this scikit-learn was installed without its tests", allow_module_level=True)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLPClassifier", "MLPRegressor"):
            # scikit-learn's own tests import these names, and have no argument for another class.
            patch.setattr(sklearn.neural_network, name, getattr(nnc.sklearn, name))
        spec.loader.exec_module(module)
    return module


_module = _tests()
globals().update({name: test for name, test in vars(_module).items() if name.startswith("test_")})
for _name in SKIPPED_TESTS:
    del globals()[_name]


@pytest.fixture
def global_random_seed():
    """Return the default value of the fixture with this name in scikit-learn's conftest."""
    return 42


def test_tests_use_classes_of_nnc():
    assert _module.MLPClassifier is nnc.sklearn.MLPClassifier
    assert _module.MLPRegressor is nnc.sklearn.MLPRegressor
    assert sklearn.neural_network.MLPClassifier is not nnc.sklearn.MLPClassifier


@pytest.mark.parametrize(
    ("version", "words"),
    [("1.6.1", "must be 1.7 or later, got 1.6.1"), ("2.0", "scikit-learn 2.0 has changed a private module")],
)
def test_unsupported_scikit_learn_version_raises_error(version, words, tmp_path):
    """Test a version that is too old, and one without the private names that nnc uses."""
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").write_text(f"__version__ = {version!r}\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import nnc._utils.sklearn_private"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]
