"""What all writers of other formats stand on: no kind of layer and no operation is forgotten, and what is refused."""

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

WRITERS = {"to_onnx": onnx.Graph, "to_c": c_source.Source, "to_python": script.Script, "to_js": script.Script}
WITH_DTYPE = ("to_onnx", "to_c")


def document(net):
    return net._export_document()


@pytest.mark.parametrize("kind", layer_classes_by_type().values())
def test_every_kind_of_layer_says_how_it_is_written(kind):
    assert kind.operations is not Layer.operations


@pytest.mark.parametrize("writer", WRITERS)
def test_every_operation_has_a_writer_in_every_format(writer):
    assert set(op.ALL) == set(METHODS)
    assert {*METHODS.values()} <= {*dir(WRITERS[writer])}
    assert {kind for kind in vars(op).values() if isinstance(kind, type) and kind.__base__ is op.Operation} == {*op.ALL}


def test_the_networks_that_are_written_have_every_kind_and_activation(all_exported):
    seen, names = set(), set()
    for layers, arguments in all_exported:
        net = NeuralNetwork(layers, **arguments)
        seen |= {type(net.model.stack.input), *(type(layer.kind) for layer in net.model.stack.layers)}
        names |= {*net.activations}
    assert seen == {*layer_classes_by_type().values()}
    assert names == {*activations.NAMES}


class Unwritten(Dense):
    operations = Layer.operations


def test_a_kind_that_has_no_form_elsewhere_is_refused_by_name():
    with pytest.raises(ValueError, match=r"Unwritten is not supported in other formats; use save\(\)"):
        Unwritten(2).operations((3,), {})


@pytest.mark.parametrize("method", WRITERS)
def test_a_network_that_is_not_finite_is_refused_and_nothing_is_written(method, tmp_path):
    net = NeuralNetwork([3, 4, 1], seed=0)
    net.weights[0][1, 2] = np.nan
    with pytest.raises(ModelFileError, match=r"cannot save the network: layers\[0\].W\[1\]\[2\] is NaN"):
        getattr(net, method)(tmp_path / "net")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("method", WRITERS)
def test_a_scaling_that_is_not_known_is_refused(method, tmp_path):
    with pytest.raises(ModelFileError, match="its scaling is not known before the first fit"):
        getattr(NeuralNetwork([3, 4, 1], scale_X="minmax"), method)(tmp_path / "net")


@pytest.mark.parametrize("method", WRITERS)
def test_a_file_that_cannot_be_written_says_why(method, tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot save the network"):
        getattr(NeuralNetwork([3, 4, 1], seed=0), method)(tmp_path / "missing" / "net")


@pytest.mark.parametrize("method", WITH_DTYPE)
def test_a_dtype_is_one_of_two_and_holds_every_number(method, tmp_path):
    net = NeuralNetwork([3, 4, 1], seed=0)
    with pytest.raises(ValueError, match=r"dtype must be .*'float64' or 'float32'.*, got 'float16'"):
        getattr(net, method)(tmp_path / "net", dtype="float16")
    net.weights[0][1, 2] = 1e39
    getattr(net, method)(tmp_path / "net")
    with pytest.raises(ValueError, match=r"dtype is 'float32', but 1e\+39"):
        getattr(net, method)(tmp_path / "other", dtype="float32")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_a_document_that_was_read_is_a_program_too():
    net = NeuralNetwork([3, 4, 1], seed=0)
    made = build_program(json.loads(net.to_json()) | {"classes": None, "scale_X": None, "scale_y": None})
    assert made == build_program(document(net))
    assert [type(step) for step in made.operations] == [op.MatMul, op.Activate] * 2
    assert (made.title, made.n_in, made.task) == ("3-4-1", 3, "regression")


def test_halves_add_up_to_the_number():
    numbers = [2000.123456789, -1e-30, 0.0, 3.0]
    first, remainders = split_remainders(numbers, "float32")
    assert np.float32(first).tolist() == first
    assert [a + b for a, b in zip(first, remainders, strict=True)] == numbers
    assert split_remainders(numbers, "float64") == (numbers, [0.0] * 4)


def test_onnx_of_more_than_2_gib_is_refused(set_limit, tmp_path):
    set_limit("nnc._interop.onnx.MAX_MODEL_BYTES", 8 * 15)
    net = NeuralNetwork([3, 4, 1], seed=0)
    with pytest.raises(ValueError, match="an ONNX file must be smaller than 2 GiB, got"):
        net.to_onnx(tmp_path / "net.onnx")
    net.to_onnx(tmp_path / "net.onnx", dtype="float32")
