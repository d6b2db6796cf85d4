"""Tests of the common base of all exports: every layer and operation is supported, and errors leave no file."""

import json

import numpy as np
import pytest

from nnc import ModelFileError, NeuralNetwork
from nnc._interop import c_source, onnx, script
from nnc._interop.program import METHODS, build_program, split_remainders
from nnc._registry import activations
from nnc.layers import Dense, layer_classes_by_type
from nnc.layers import operations as op
from nnc.layers.base import Layer

WRITER_CLASSES = {"to_onnx": onnx.Graph, "to_c": c_source.Source, "to_python": script.Script, "to_js": script.Script}
METHODS_WITH_DTYPE = ("to_onnx", "to_c")


def export_document(net):
    return net._export_document()


@pytest.mark.parametrize("layer_class", layer_classes_by_type().values())
def test_every_layer_class_defines_its_operations(layer_class):
    assert layer_class.operations is not Layer.operations


@pytest.mark.parametrize("writer", WRITER_CLASSES)
def test_every_writer_supports_every_operation(writer):
    assert set(op.ALL) == set(METHODS)
    assert {*METHODS.values()} <= {*dir(WRITER_CLASSES[writer])}
    assert {part for part in vars(op).values() if isinstance(part, type) and part.__base__ is op.Operation} == {*op.ALL}


def test_exported_networks_cover_all_layers_and_activations(all_exported):
    layer_classes, activation_names = set(), set()
    for layers, arguments in all_exported:
        net = NeuralNetwork(layers, **arguments)
        layer_classes |= {type(net.model.stack.input), *(type(layer.kind) for layer in net.model.stack.layers)}
        activation_names |= {*net.activations}
    # tests/test_recurrent_exports.py tests the exports of recurrent layers
    assert layer_classes == {layer for layer in layer_classes_by_type().values() if not layer.recurrent}
    assert activation_names == {*activations.NAMES}


class UnsupportedLayer(Dense):
    operations = Layer.operations


def test_layer_without_operations_raises_error_with_its_name():
    with pytest.raises(ValueError, match=r"UnsupportedLayer layers cannot be exported to other formats; use save\(\)"):
        UnsupportedLayer(2).operations((3,), {})


@pytest.mark.parametrize("method", WRITER_CLASSES)
def test_export_rejects_nan_and_writes_no_file(method, tmp_path):
    net = NeuralNetwork([3, 4, 1], seed=0)
    net.weights[0][1, 2] = np.nan
    with pytest.raises(ModelFileError, match=r"cannot save the network: layers\[0\].W\[1\]\[2\] is NaN"):
        getattr(net, method)(tmp_path / "net")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("method", WRITER_CLASSES)
def test_export_rejects_scaling_before_first_fit(method, tmp_path):
    with pytest.raises(ModelFileError, match="its scaling is not computed yet"):
        getattr(NeuralNetwork([3, 4, 1], scale_X="minmax"), method)(tmp_path / "net")


@pytest.mark.parametrize("method", WRITER_CLASSES)
def test_export_rejects_missing_folder(method, tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot save the network"):
        getattr(NeuralNetwork([3, 4, 1], seed=0), method)(tmp_path / "missing" / "net")


@pytest.mark.parametrize("method", METHODS_WITH_DTYPE)
def test_export_rejects_unknown_dtype_and_float32_overflow(method, tmp_path):
    net = NeuralNetwork([3, 4, 1], seed=0)
    with pytest.raises(ValueError, match=r"dtype must be .*'float64' or 'float32'.*, got 'float16'"):
        getattr(net, method)(tmp_path / "net", dtype="float16")
    net.weights[0][1, 2] = 1e39
    getattr(net, method)(tmp_path / "net")
    with pytest.raises(ValueError, match=r"in the range of dtype='float32', got 1e\+39"):
        getattr(net, method)(tmp_path / "other", dtype="float32")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_program_of_loaded_document_equals_program_of_network():
    net = NeuralNetwork([3, 4, 1], seed=0)
    program = build_program(json.loads(net.to_json()) | {"classes": None, "scale_X": None, "scale_y": None})
    assert program == build_program(export_document(net))
    assert [type(step) for step in program.operations] == [op.MatMul, op.Activate] * 2
    assert (program.title, program.n_in, program.task) == ("3-4-1", 3, "regression")


def test_float32_parts_add_up_to_float64_number():
    numbers = [2000.123456789, -1e-30, 0.0, 3.0]
    first, remainders = split_remainders(numbers, "float32")
    assert np.float32(first).tolist() == first
    assert [a + b for a, b in zip(first, remainders, strict=True)] == numbers
    assert split_remainders(numbers, "float64") == (numbers, [0.0] * 4)


def test_to_onnx_rejects_more_than_2_gib(set_limit, tmp_path):
    set_limit("nnc._interop.onnx.MAX_MODEL_BYTES", 8 * 15)
    net = NeuralNetwork([3, 4, 1], seed=0)
    with pytest.raises(ValueError, match="an ONNX file must be smaller than 2 GiB, got"):
        net.to_onnx(tmp_path / "net.onnx")
    net.to_onnx(tmp_path / "net.onnx", dtype="float32")
