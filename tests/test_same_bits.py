"""Tests of the fits of tools/same_bits.py: they set all arguments explicitly, and they run."""

import inspect
from functools import partial

import numpy as np
import pytest
from programs import load_program

import nnc

pytestmark = pytest.mark.engine

same_bits = load_program("tools/same_bits.py")
FITS = {fit.name: fit for fit in same_bits.fits()}
TABLE_FITS = {fit.name: fit for fit in same_bits.table_fits()}


def argument_names(function):
    return set(inspect.signature(function).parameters) - {"self", "X", "y"}


def objects(value):
    """Yield all objects of nnc that are arguments of a fit, including those nested in other arguments."""
    if isinstance(value, same_bits.ObjectSpec):
        yield value
        for part in value.arguments.values():
            yield from objects(part)


def test_fits_set_every_argument():
    parts = {}
    for fit in FITS.values():
        assert set(fit.network) - {"sizes"} == argument_names(nnc.NeuralNetwork.__init__) - {"layers"}
        assert set(fit.training) == argument_names(nnc.NeuralNetwork.fit)
        assert not isinstance(fit.training["optimizer"], str)
        for value in (*fit.network.values(), *fit.training.values()):
            parts.update((repr(part), part) for part in objects(value))
    assert parts
    for part in parts.values():
        assert set(part.arguments) == argument_names(getattr(nnc, part.kind))


def test_fits_have_distinct_names():
    assert len(FITS) == sum(1 for _ in same_bits.fits())
    assert len(TABLE_FITS) == sum(1 for _ in same_bits.table_fits())


@pytest.mark.parametrize("way", [way for way in same_bits.WAYS if way != "once"])
def test_repeated_fit_gives_same_results(way):
    fit = FITS[f"adam {way}, 4-16-10, float64"]
    results = same_bits.results(fit)
    assert set(results) == {"losses", "params", "predictions", "scores", "gradients"}
    assert all(len(result) == 64 for result in results.values())
    assert same_bits.results(fit) == results


def test_results_of_different_fits_differ():
    a, b = (same_bits.results(FITS[f"{name} checkpoint, 4-16-10, float32"]) for name in ("adam", "adam decayed"))
    assert all(a[part] != b[part] for part in a)


@pytest.mark.parametrize("sizes", [same_bits.LENET, same_bits.WIDE, same_bits.STRIDES], ids=str)
def test_fit_of_images_runs_without_error(sizes):
    fits = (fit for fit in FITS.values() if fit.network["sizes"] == sizes)
    fit = next(fit for fit in fits if fit.training["optimizer"].kind == "Adam")
    results = same_bits.results(fit)
    assert len(results) == 5
    assert not any(map(same_bits.is_error, results.values()))


def test_fits_of_tables_set_every_parameter():
    tabular = pytest.importorskip("nnc.tabular", exc_type=ImportError)
    for fit in TABLE_FITS.values():
        model_class = tabular.TableClassifier if fit.name.startswith("classifier") else tabular.TableRegressor
        assert set(fit.parameters) == argument_names(model_class)


@pytest.mark.parametrize(
    "name",
    [
        "classifier, 57 rows of mixed columns",
        *(
            pytest.param(f"{kind}, 57 rows of {columns}", marks=pytest.mark.exhaustive)
            for kind, *_ in same_bits.TABLE_TARGETS
            for columns in same_bits.COLUMNS
        ),
    ],
)
def test_repeated_fit_of_table_gives_same_results(name):
    pytest.importorskip("nnc.tabular", exc_type=ImportError)
    results = same_bits.table_results(TABLE_FITS[name])
    assert not any(map(same_bits.is_error, results.values()))
    assert same_bits.table_results(TABLE_FITS[name]) == results


@pytest.mark.parametrize("group", sorted(same_bits.CASES))
def test_case_of_each_group_gives_results_twice(group):
    case = next(iter(same_bits.CASES[group]()))
    results = same_bits.shared.case_results(case)
    assert results
    assert same_bits.shared.case_results(case) == results


def test_digest_shows_change_of_last_bit():
    values = np.linspace(0, 1, 5)
    changed = values.copy()
    changed[2] = np.nextafter(changed[2], 1)
    assert same_bits.shared.digest(values) != same_bits.shared.digest(changed)
    assert same_bits.shared.digest({"a": [values]}) != same_bits.shared.digest({"a": [changed]})


def last_bit_changed(values):
    changed = np.array(values)
    changed.flat[0] = np.nextafter(changed.flat[0], np.inf)
    return changed


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("equations", "coefficient, on one thread, adam, float64"),
        ("custom", "custom loss cubic, fit_batches, sgd, (3, 8, 1), float64"),
    ],
)
def test_change_of_last_bit_of_learning_rate_is_found(group, name):
    case = next(case for case in same_bits.CASES[group]() if case.name == name)
    *arguments, options = case.run.args
    changed = partial(case.run.func, *arguments, options | {"lr": float(np.nextafter(options["lr"], 1))})
    expected, actual = (same_bits.shared.case_results(case._replace(run=run)) for run in (case.run, changed))
    assert actual.keys() == expected.keys()
    differing = {part for part in expected if not same_bits.is_same(expected[part], actual[part], 0.0)}
    assert any("params" in part for part in differing)


def test_tolerance_applies_only_to_sums_of_losses():
    losses = [0.3, 0.2]
    other = last_bit_changed(losses).tolist()
    assert same_bits.is_same(losses, other, 1e-12)
    assert not same_bits.is_same(losses, other, 0.0)
    assert not same_bits.is_same(losses, [0.3], 1e-12)
    assert not same_bits.is_same("a", "b", 1.0)


def test_order_of_elements_of_sets_does_not_change_text_of_error():
    one, other = (
        same_bits.shared.error_text(ValueError(f"x must be in {text}")) for text in ("{'b', 'a'}", "{'a', 'b'}")
    )
    assert one == other == "error: ValueError: x must be in {'a', 'b'}"
