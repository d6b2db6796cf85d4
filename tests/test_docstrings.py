"""Docstrings of all that the reference describes have the form that numpydoc reads, with the parameters that there are.

What is excepted, and why, stands in EXCEPTED.
"""

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

EXCEPTED = {
    "GL01": "text may begin beside the quotes, as everywhere in nnc",
    "GL02": "and end there",
    "GL08": "what is not described stands with the class",
    "SS02": "names of parameters and numbers begin in small letters",
    "PR08": "the same",
    "RT04": "the same",
    "SS05": "a method says what it does",
    "SS06": "a summary takes the lines that it needs",
    "ES01": "where the summary says all, there is no more",
    "PR01": "short methods name their arguments in the summary; sections are held by the test below",
    "PR04": "several parameters that are as elsewhere share a line",
    "PR06": "types are those of NumPy's users, bool and str among them",
    "PR07": "a type says all of some parameters",
    "RT02": "several arrays that are alike share a line",
    "RT01": "the summary says what comes back",
    "RT03": "a type says all of some returns",
    "SA01": "not everything has something beside it",
    "SA03": "names begin in small letters",
    "EX01": "examples stand in the reference, where they are run (tests/test_pages.py)",
}
NEEDS = {"sklearn": "sklearn", "tabular": "sklearn", "plot": "matplotlib", "dask": "distributed", "river": "river"}


def described():
    """The names in the reference, and the methods of classes that nnc itself defines."""
    pattern = re.compile(r"^\.\. auto(?:class|function|exception):: (nnc\.[\w.]+)$", re.MULTILINE)
    for page in sorted(API.glob("*.md")):
        yield from pattern.findall(page.read_text(encoding="utf-8"))


def found(name):
    """The object of a name, or a skip where its room needs a package that is not installed."""
    _, *parts = name.split(".")
    if parts[0] in NEEDS:
        pytest.importorskip(NEEDS[parts[0]])
    module, *rest = parts if parts[0][0].islower() and len(parts) > 1 else ["", *parts]
    home = importlib.import_module(f"nnc.{module}" if module else "nnc")
    return getattr(home, rest[0])


def whole(name):
    """A name, and those of its public methods."""
    thing = found(name)
    yield name, thing
    if inspect.isclass(thing):
        homes = [kind for kind in thing.__mro__ if kind.__module__.split(".")[0] == "nnc"]
        methods = {method: function for kind in homes[::-1] for method, function in vars(kind).items()}
        for method, function in methods.items():
            if not method.startswith("_") and callable(function) and inspect.getdoc(function):
                yield f"{name}.{method}", function


@pytest.mark.parametrize("name", [*described()])
def test_form(name):
    wrong = []
    for each, thing in whole(name):
        if isinstance(thing, type) and issubclass(thing, dict):
            continue  # numpydoc takes it for a mapping of names
        errors = [error for error in validate(each)["errors"] if error[0] not in EXCEPTED]
        wrong += [(each, *error) for error in errors]
        wrong += [(each, text) for text in parameters(thing)]
    assert not wrong


def parameters(thing):
    """What a section of parameters leaves out of those that there are."""
    documented = {name.strip().lstrip("*") for p in get_doc_object(thing)["Parameters"] for name in p.name.split(",")}
    # Subclasses of estimators of other packages describe only their additional parameters.
    if not documented or "adds or extends those below" in (inspect.getdoc(thing) or ""):
        return
    taken = {n for n, p in inspect.signature(thing).parameters.items() if n not in ("self", "cls")}
    if taken - documented:
        yield f"does not describe {', '.join(sorted(taken - documented))}"


def test_what_is_wrong_is_found():
    def crooked(X, y):
        """Adds.

        Parameters
        ----------
        X : array
            One.
        """

    assert list(parameters(crooked)) == ["does not describe y"]
