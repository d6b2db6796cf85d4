"""Tests that the docstrings of the reference follow the numpydoc format and describe all parameters."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

pytest.importorskip("numpydoc")
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

API = Path(__file__).parent.parent / "docs" / "api"
if not API.is_dir():
    pytest.skip("needs the checkout", allow_module_level=True)

# Checks of numpydoc that are not applied, with the reason.
DISABLED_CHECKS = {
    "GL01": "the text begins in the line of the opening quotes",
    "GL02": "the text may end in the line of the closing quotes",
    "GL08": "the docstring of the class describes trivial methods",
    "SS02": "a summary may begin with a number or the lower-case name of a parameter",
    "PR08": "the description of a parameter may begin with a number or a lower-case name",
    "RT04": "the description of a return value may begin with a number or a lower-case name",
    "SS05": "a summary need not begin with an infinitive; ruff checks its first word",
    "SS06": "a summary may have several lines",
    "ES01": "an extended summary is optional",
    "PR01": "short methods name their arguments in the summary; existing sections are checked below",
    "PR04": "several parameters of the same kind share one line without a type",
    "PR06": "types are named bool and str, as in NumPy",
    "PR07": "a parameter whose type explains it has no description",
    "RT02": "several similar arrays share one line",
    "RT01": "the summary may describe the return value",
    "RT03": "a return value whose type explains it has no description",
    "SA01": "a See Also section is optional",
    "SA03": "the description of a reference may begin with a lower-case name",
    "EX01": "examples are in the pages of the reference, which tests/test_pages.py runs",
}
REQUIRED_PACKAGES = {
    "sklearn": "sklearn",
    "tabular": "sklearn",
    "plot": "matplotlib",
    "dask": "distributed",
    "river": "river",
}


def documented_names():
    """Yield the names of the classes, functions and exceptions in the reference."""
    pattern = re.compile(r"^\.\. auto(?:class|function|exception):: (nnc\.[\w.]+)$", re.MULTILINE)
    for page in sorted(API.glob("*.md")):
        yield from pattern.findall(page.read_text(encoding="utf-8"))


def import_object(name):
    """Return the object with a qualified name, or skip the test if its module needs a package that is not installed."""
    _, *parts = name.split(".")
    if parts[0] in REQUIRED_PACKAGES:
        pytest.importorskip(REQUIRED_PACKAGES[parts[0]])
    module_name, member, *_ = parts if parts[0][0].islower() and len(parts) > 1 else ["", *parts]
    module = importlib.import_module(f"nnc.{module_name}" if module_name else "nnc")
    return getattr(module, member)


def with_methods(name):
    """Yield the name and object of a class or function, and those of its public methods that nnc defines."""
    documented = import_object(name)
    yield name, documented
    if inspect.isclass(documented):
        classes = [base for base in documented.__mro__ if base.__module__.split(".")[0] == "nnc"]
        methods = {method: function for base in classes[::-1] for method, function in vars(base).items()}
        for method, function in methods.items():
            if not method.startswith("_") and callable(function) and inspect.getdoc(function):
                yield f"{name}.{method}", function


@pytest.mark.parametrize("name", [*documented_names()])
def test_docstring_follows_numpydoc_and_describes_all_parameters(name):
    findings = []
    for qualified_name, member in with_methods(name):
        if isinstance(member, type) and issubclass(member, dict):
            continue  # numpydoc interprets a subclass of dict as a mapping of names
        errors = [error for error in validate(qualified_name)["errors"] if error[0] not in DISABLED_CHECKS]
        findings += [(qualified_name, *error) for error in errors]
        findings += [(qualified_name, text) for text in undescribed_parameters(member)]
    assert not findings


def undescribed_parameters(member):
    """Yield a message if the section of parameters exists and does not describe all parameters."""
    described = {name.strip().lstrip("*") for p in get_doc_object(member)["Parameters"] for name in p.name.split(",")}
    # Subclasses of estimators of other packages describe only their additional parameters.
    if not described or "adds or extends the following ones" in (inspect.getdoc(member) or ""):
        return
    parameters = {name for name in inspect.signature(member).parameters if name not in ("self", "cls")}
    if parameters - described:
        yield f"does not describe {', '.join(sorted(parameters - described))}"


def test_undescribed_parameter_is_reported():
    def add(X, y):
        """Add X and y.

        Parameters
        ----------
        X : array
            The first summand.
        """

    assert list(undescribed_parameters(add)) == ["does not describe y"]
