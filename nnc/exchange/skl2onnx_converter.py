"""How skl2onnx writes nnc's estimators, within pipelines too: the nodes of nnc/exchange/onnx.py, in its own graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc.exchange.onnx import KINDS, WRITERS, Graph
from nnc.exchange.program import program

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
    """Writes an estimator that has been trained."""
    document = operator.raw_operator.network_._whole()
    if document["classes"] is not None and type(document["classes"][0]) not in (str, int):
        document["classes"] = [int(label) for label in document["classes"]]  # skl2onnx has these two alone
    made = program(document)
    dtype = "float64" if type(operator.inputs[0].type).__name__ == "DoubleTensorType" else "float32"
    names = ("label", "probabilities") if made.answer != "numbers" else ("output",)
    outputs = {name: output.full_name for name, output in zip(names, operator.outputs, strict=True)}
    graph, at = Theirs(dtype, scope, container, outputs), operator.inputs[0].full_name
    if type(operator.inputs[0].type).__name__ not in ("DoubleTensorType", "FloatTensorType"):
        at = graph.node("Cast", at, to=KINDS[dtype])
    for step in made.operations:
        at = WRITERS[type(step)](graph, step, at)
    graph.answer(made, at)
