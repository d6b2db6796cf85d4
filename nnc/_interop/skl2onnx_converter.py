"""Converter for skl2onnx, which exports estimators of nnc.sklearn, also inside pipelines of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc._interop.onnx import ELEMENT_TYPES, Graph
from nnc._interop.program import build_program

if TYPE_CHECKING:
    from collections.abc import Sequence


class ContainerGraph(Graph):
    """Builder that adds nodes and constants to a graph of skl2onnx, in which all names must be unique.

    Parameters
    ----------
    dtype : str
        Element type of the computation.
    scope, container
        Objects of skl2onnx: `scope` creates unique names, `container` collects nodes and constants.
    output_names : dict of str
        Name in the graph of skl2onnx for each output name that `Graph.outputs` uses.
    """

    def __init__(self, dtype: str, scope: Any, container: Any, output_names: dict[str, str]) -> None:
        super().__init__(dtype)
        self.scope, self.container, self.output_names = scope, container, output_names

    def node(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node to the graph of skl2onnx, and return the name of its output."""
        output: str = self.output_names[name] if name else self.scope.get_unique_variable_name(operator)
        unique = self.scope.get_unique_operator_name(operator)
        self.container.add_node(operator, [*inputs], [output], name=unique, **attributes)
        return output

    def tensor(self, values: Sequence[Any], shape: Sequence[int], element_type: str | None = None) -> str:
        """Add a constant tensor to the graph of skl2onnx, and return its name."""
        name: str = self.scope.get_unique_variable_name("constant")
        content = [value.encode() for value in values] if element_type == "string" else [*values]
        self.container.add_initializer(name, ELEMENT_TYPES[element_type or self.dtype], [*shape], content)
        return name


def register(classifier: type, regressor: type) -> None:
    """Register converters for the estimator classes of nnc.sklearn in skl2onnx.

    Raises
    ------
    ImportError
        skl2onnx is not installed.
    """
    try:
        from skl2onnx import update_registered_converter
        from skl2onnx.common import shape_calculator as shapes
    except ImportError as error:
        from nnc._utils.packages import missing_package

        raise missing_package("this function", "skl2onnx", error, "skl2onnx") from error
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
    classifier_shapes = shapes.calculate_linear_classifier_output_shapes
    regressor_shapes = shapes.calculate_linear_regressor_output_shapes
    update_registered_converter(classifier, "NncMLPClassifier", classifier_shapes, _convert, options=options)
    update_registered_converter(regressor, "NncMLPRegressor", regressor_shapes, _convert)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a trained estimator to a graph of skl2onnx.

    A classifier has two outputs, labels and probabilities. With the hinge loss, the second output contains scores in
    place of probabilities. If the network has one output, there are two columns: the negative score and the score.

    Raises
    ------
    ValueError
        skl2onnx does not support the classes or the loss of the estimator.
    """
    estimator = operator.raw_operator
    document = estimator.network_._export_document("skl2onnx")
    _check_classes(estimator, document)
    program = build_program(document)
    dtype = "float64" if type(operator.inputs[0].type).__name__ == "DoubleTensorType" else "float32"
    scores_name = "probabilities" if program.has_probabilities else "output"
    names = ("output",) if program.task == "regression" else ("label", scores_name)
    output_names = {name: output.full_name for name, output in zip(names, operator.outputs, strict=True)}
    graph, value = ContainerGraph(dtype, scope, container, output_names), operator.inputs[0].full_name
    if type(operator.inputs[0].type).__name__ not in ("DoubleTensorType", "FloatTensorType"):
        value = graph.node("Cast", value, to=ELEMENT_TYPES[dtype])
    for operation in program.operations:
        value = graph.write(operation, value)
    single_score = program.task == "binary" and not program.has_probabilities
    if single_score:
        output_names["scores"], output_names["output"] = output_names["output"], scope.get_unique_variable_name("score")
    graph.outputs(program, value)
    if single_score:
        score = output_names["output"]
        graph.node("Concat", graph.node("Neg", score), score, name="scores", axis=1)


def _check_classes(estimator: Any, document: dict[str, Any]) -> None:
    """Convert the class labels in a document to a type that skl2onnx supports: text or integers."""
    classes = getattr(estimator, "classes_", None)
    if classes is not None and len(classes) < 2:
        raise ValueError(f"{type(estimator).__name__} must have two or more classes, got {classes.tolist()}")
    if document["classes"] is None or type(document["classes"][0]) is str:
        return
    labels = document["classes"] = [int(label) for label in document["classes"]]
    if max(labels) >= 2**63:
        raise ValueError(f"classes must be integers below 2**63, got {max(labels)}")
