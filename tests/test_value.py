"""`Value`, the immutable base class of optimizers, losses and schedules."""

import copy
import inspect
import pickle
import pydoc
from typing import ClassVar

import pytest

from nnc import SGD, Adam, AdamW, Constant, Huber, Warmup
from nnc._utils.checks import check_positive
from nnc._utils.value import Value, field


class Point(Value):
    """A point with a required and an optional field."""

    kind: ClassVar[str] = "point"
    x: float = field(check=check_positive)
    y: float = 2.0

    def __post_init__(self):
        if self.x > self.y:
            raise ValueError("x is too large")


class NamedPoint(Point):
    """A subclass of Point with another default and a new field."""

    y: float = 5.0
    name: str = field(default="home")


def test_fields_have_values_defaults_and_inheritance():
    assert vars(Point(1)) == {"x": 1.0, "y": 2.0}
    assert vars(Point(y=3, x=1)) == {"x": 1.0, "y": 3}
    assert vars(NamedPoint(3)) == {"x": 3.0, "y": 5.0, "name": "home"}
    assert (Point.y, NamedPoint.y, NamedPoint.kind) == (2.0, 5.0, "point")
    assert not hasattr(Point, "x")
    assert AdamW().weight_decay == 0.01


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Point(), TypeError, "Point.__init__() missing required arguments: 'x'"),
        (lambda: Point(1, 2, 3), TypeError, "Point.__init__() takes at most 2 arguments, got 3"),
        (lambda: Point(1, x=2), TypeError, "Point.__init__() got multiple values for argument 'x'"),
        (lambda: Point(1, z=2), TypeError, "Point.__init__() got an unexpected keyword argument 'z'"),
        (lambda: Point(0), ValueError, "x must be a positive finite number, got 0"),
        (lambda: NamedPoint(-1), ValueError, "x must be a positive finite number, got -1"),
        (lambda: Point(3), ValueError, "x is too large"),
        (lambda: Point(1).replace(x=3), ValueError, "x is too large"),
        (lambda: Point(1).replace(x=-1), ValueError, "x must be a positive finite number, got -1"),
        (lambda: Point(1).replace(z=3), TypeError, "Point.__init__() got an unexpected keyword argument 'z'"),
        (
            lambda: setattr(Point(1), "x", 2),
            AttributeError,
            "cannot assign to field 'x': Point is immutable; use replace()",
        ),
        (lambda: delattr(Point(1), "x"), AttributeError, "cannot delete field 'x': Point is immutable"),
        (lambda: AdamW(weight_decay=-1), ValueError, "weight_decay must be a finite number, 0 or more, got -1"),
    ],
)
def test_invalid_arguments_and_assignments_raise(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_values_compare_by_class_and_fields():
    assert Point(1) == Point(1.0, 2) != Point(1, 3)
    assert hash(Point(1)) == hash(Point(1.0, 2))
    assert Point(1, 5.0) != NamedPoint(1, 5.0)
    assert Point(1) != (1.0, 2.0)
    assert len({Adam(), AdamW(weight_decay=0), Adam(lr=0.1), Adam(0.001)}) == 3


def test_repr_names_all_fields():
    assert repr(NamedPoint(1)) == "NamedPoint(x=1.0, y=5.0, name='home')"
    assert repr(Huber(2)) == "Huber(delta=2.0)"


@pytest.mark.parametrize("value", [SGD(0.1, 0.9), Huber(2), Warmup(Constant(0.1), 5)], ids=repr)
def test_copies_are_equal(value):
    for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value)), value.replace()):
        assert other == value
        assert repr(other) == repr(value)


def test_replace_changes_fields_and_preserves_order():
    assert NamedPoint(1, name="away").replace(x=2) == NamedPoint(2, name="away")
    point = NamedPoint(1)
    # `replace` keeps the order, in which files contain the fields.
    assert list(vars(point.replace(name="away"))) == list(vars(point))
    assert vars(point) == {"x": 1.0, "y": 5.0, "name": "home"}


def test_signature_and_help_list_fields():
    assert list(inspect.signature(NamedPoint).parameters) == ["x", "y", "name"]
    assert str(inspect.signature(SGD)).startswith("(lr: 'float' = 0.001, momentum: 'float' = 0.0, ")
    # An instance has the signature of Constant.__call__.
    assert list(inspect.signature(Constant(0.1)).parameters) == ["epoch"]
    text = pydoc.render_doc(SGD, renderer=pydoc.plaintext)
    # Join the lines, because Python 3.13 or later prints the signature on several lines.
    assert "SGD(lr:'float'=0.001," in "".join(text.replace("|", "").split())
