"""Tests of `nnc.compare`, which trains one network with the engine and with the plain-Python reference."""

import io
import signal
import threading

import numpy as np
import pytest

import nnc
from nnc._comparison import Comparison, Difference
from nnc.layers import GRU, Dense, Dropout, Input

X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
Y = np.array([[0], [1], [1], [0]])


def test_compare_reports_agreement_on_tutorial(capsys):
    result = nnc.compare([3, 4, 1], X, Y, epochs=200, bias=False, init="uniform")
    assert isinstance(result, Comparison)
    assert result.losses.relative < 1e-12
    assert result.weights.relative < 1e-9
    assert result.predictions.relative < 1e-12
    assert (result.sizes, result.rows, result.epochs) == ((3, 4, 1), 4, 200)
    assert len(result.history.loss) == 200
    assert result.engine_seconds > 0
    assert result.speedup == result.reference_seconds / result.engine_seconds
    assert capsys.readouterr().out == f"{result}\n"


def test_result_contains_both_trained_networks():
    result = nnc.compare([3, 4, 1], X, Y, epochs=1500, bias=False, init="uniform", verbose=False)
    assert np.abs(result.engine.predict(X) - Y).max() < 0.1
    assert np.abs(np.array(result.reference.predict(X.tolist())) - Y).max() < 0.1


@pytest.mark.sampled(4)
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_mini_batch_training_agrees(activation, batch_size):
    rng = np.random.default_rng(0)
    inputs, targets = rng.random((20, 4)), rng.random(20)
    result = nnc.compare(
        [4, 5, 3, 1],
        inputs,
        targets,
        activation=activation,
        loss="mse",
        epochs=10,
        lr=0.05,
        batch_size=batch_size,
        verbose=False,
    )
    assert result.losses.relative < 1e-12
    assert result.predictions.absolute < 1e-12


@pytest.mark.sampled(3)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("at_each_step", [False, True])
def test_softmax_agrees(at_each_step, loss):
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(9, 5, 2)), rng.integers(0, 3, (9, 5) if at_each_step else 9)
    layers = [Input(steps=5, features=2), GRU(4, return_sequences=at_each_step), Dense(3, "softmax")]
    options = {"loss": loss, "epochs": 2, "lr": 0.5, "batch_size": 4, "verbose": False}
    probabilities = rng.dirichlet(np.ones(3), labels.shape)
    lengths = [5, 1, 3, 2, 5, 4, 5, 3, 2]
    cases = [(labels, None), (labels, lengths)] if loss == "cross_entropy" else []
    for targets, steps in (*cases, (probabilities, None), (probabilities, lengths)):
        result = nnc.compare(layers, inputs, targets, lengths=steps, **options)
        for difference in (result.losses, result.weights, result.predictions):
            assert difference.absolute < 1e-13
    if loss == "cross_entropy":
        whole = "y must contain whole numbers as labels"
        for wrong, message in (
            (labels + 1, "y must contain labels from 0 to 2 for a network with 3 outputs"),
            (labels + 0.5, whole),
            (labels * np.nan, whole),
        ):
            with pytest.raises(ValueError, match=message):
                nnc.compare(layers, inputs, wrong, **options)
        with pytest.raises(ValueError, match="loss must have no label smoothing for the plain-Python reference"):
            nnc.compare(layers, inputs, labels, **{**options, "loss": nnc.CrossEntropy(0.1)})


def test_reference_reports_divergence_of_cross_entropy():
    net = nnc.reference.NeuralNetwork([1, 2], loss="cross_entropy", init=[[[1e3, 0.0]]])
    with pytest.raises(ArithmeticError, match="training diverged in epoch 1"):
        net.fit([[1.0]], [[0.0, 1.0]], epochs=1, lr=1.0)
    assert net.evaluate_loss([[1.0]], [[1.0, 0.0]]) == 0.0


def test_float32_differs_only_by_rounding():
    result = nnc.compare([3, 4, 1], X, Y, epochs=100, lr=0.5, dtype="float32", verbose=False)
    assert 0 < result.losses.relative < 1e-4


def test_report_is_written_to_file():
    out = io.StringIO()
    result = nnc.compare([3, 4, 1], X, Y, epochs=10, file=out)
    text = out.getvalue()
    assert text == f"{result}\n"
    assert "network 3-4-1, rows 4, epochs 10" in text
    assert "times as fast" in text
    assert max(map(len, text.splitlines())) < 80
    assert "array(" not in repr(result)
    assert "largest relative difference" in repr(result)


def test_verbose_false_prints_nothing(capsys):
    nnc.compare([3, 4, 1], X, Y, epochs=10, verbose=False)
    assert capsys.readouterr().out == ""


def test_result_is_immutable():
    result = nnc.compare([3, 4, 1], X, Y, epochs=1, verbose=False)
    with pytest.raises(AttributeError):
        result.epochs = 2


def test_difference_is_largest_absolute_and_relative_difference():
    zeros = np.zeros(3)
    assert Difference.between(zeros, zeros) == Difference(0.0, 0.0)
    assert Difference.between(np.array([4.0, 0.0, 1.0]), np.array([3.0, 0.5, 1.0])) == Difference(1.0, 1.0)
    assert Difference.between(np.array([-2.0]), np.array([2.0])) == Difference(4.0, 2.0)


def test_interrupt_ends_comparison(make_fail):
    """Ctrl-C in the fit of the engine raises KeyboardInterrupt, and the reference is not trained."""
    make_fail("nnc.reference.NeuralNetwork.fit", AssertionError("the reference was trained"))
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            nnc.compare([3, 4, 1], X, Y, epochs=10**8)
    finally:
        timer.cancel()


def test_divergence_raises_arithmetic_error():
    with pytest.raises(ArithmeticError, match="not finite"):
        nnc.compare([3, 1], X, Y, loss="mse", epochs=1000, lr=100.0)


def test_compare_rejects_activation_without_reference():
    with pytest.raises(ValueError, match="gelu"):
        nnc.compare([3, 4, 1], X, Y, epochs=1, activation="gelu", verbose=False)


def test_compare_rejects_data_of_wrong_shape():
    with pytest.raises(ValueError, match="columns"):
        nnc.compare([2, 4, 1], X, Y, epochs=1, verbose=False)


def test_bias_in_one_of_two_layers_agrees():
    result = nnc.compare([3, Dense(4, bias=False), 1], X, Y, epochs=50, verbose=False)
    assert result.losses.relative < 1e-12
    assert result.weights.relative < 1e-9


def test_compare_rejects_dropout():
    with pytest.raises(ValueError, match="compare requires a network without Dropout layers"):
        nnc.compare([3, 4, Dropout(0.5), 1], X, Y, epochs=5, verbose=False)
