"""Converter for skl2onnx, which adds the nodes of nnc/_interop/onnx.py for an estimator, also within a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc._interop.onnx import KINDS, Graph
from nnc._interop.program import program

if TYPE_CHECKING:
    from collections.abc import Sequence

MISSING = "this needs skl2onnx ({}); install it with pip install skl2onnx"


class Theirs(Graph):
    """A graph of skl2onnx, where names have to be unique; one that is asked for is one of the operator's outputs."""

    def __init__(self, dtype: str, scope: Any, container: Any, outputs: dict[str, str]) -> None:
        super().__init__(dtype)
        self.scope, self.container, self.outputs = scope, container, outputs

    def node(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Adds a node; the name of its output."""
        output: str = self.outputs[name] if name else self.scope.get_unique_variable_name(operator)
        unique = self.scope.get_unique_operator_name(operator)
        self.container.add_node(operator, [*inputs], [output], name=unique, **attributes)
        return output

    def tensor(self, values: Sequence[Any], shape: Sequence[int], kind: str | None = None) -> str:
        """Adds a constant; its name."""
        name: str = self.scope.get_unique_variable_name("constant")
        content = [value.encode() for value in values] if kind == "string" else [*values]
        self.container.add_initializer(name, KINDS[kind or self.dtype], [*shape], content)
        return name


def register(classifier: type, regressor: type) -> None:
    """Tells skl2onnx of nnc's estimators.

    Raises
    ------
    ImportError
        It is not installed.
    """
    try:
        from skl2onnx import update_registered_converter
        from skl2onnx.common import shape_calculator as shapes
    except ImportError as error:
        raise ImportError(MISSING.format(error)) from error
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
    of_classes, of_numbers = (
        shapes.calculate_linear_classifier_output_shapes,
        shapes.calculate_linear_regressor_output_shapes,
    )
    update_registered_converter(classifier, "NncMLPClassifier", of_classes, _convert, options=options)
    update_registered_converter(regressor, "NncMLPRegressor", of_numbers, _convert)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Write a trained estimator.

    The second output of a classifier with the hinge loss is its scores. If the network has one output, it has two
    columns: the negative of the score and the score.

    Raises
    ------
    ValueError
        skl2onnx cannot have its classes.
    """
    estimator = operator.raw_operator
    document = estimator.network_._whole()
    _check_classes(estimator, document)
    made = program(document)
    dtype = "float64" if type(operator.inputs[0].type).__name__ == "DoubleTensorType" else "float32"
    names = ("output",) if made.answer == "numbers" else ("label", "probabilities" if made.probabilities else "output")
    outputs = {name: output.full_name for name, output in zip(names, operator.outputs, strict=True)}
    graph, at = Theirs(dtype, scope, container, outputs), operator.inputs[0].full_name
    if type(operator.inputs[0].type).__name__ not in ("DoubleTensorType", "FloatTensorType"):
        at = graph.node("Cast", at, to=KINDS[dtype])
    for step in made.operations:
        at = graph.write(step, at)
    single_score = made.answer == "yes" and not made.probabilities
    if single_score:
        outputs["scores"], outputs["output"] = outputs["output"], scope.get_unique_variable_name("score")
    graph.answer(made, at)
    if single_score:
        score = outputs["output"]
        graph.node("Concat", graph.node("Neg", score), score, name="scores", axis=1)


def _check_classes(estimator: Any, document: dict[str, Any]) -> None:
    """Convert the classes in a document to text or integers, which are all that skl2onnx supports."""
    classes = getattr(estimator, "classes_", None)
    if classes is not None and len(classes) < 2:
        raise ValueError(f"{type(estimator).__name__} must have two or more classes, got {classes.tolist()}")
    if document["classes"] is None or type(document["classes"][0]) is str:
        return
    found = document["classes"] = [int(label) for label in document["classes"]]
    if max(found) >= 2**63:
        raise ValueError(f"classes must be integers below 2**63, got {max(found)}")
