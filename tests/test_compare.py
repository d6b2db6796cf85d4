import io
import signal
import threading

import numpy as np
import pytest

import nnc
from nnc._comparison import Comparison, Difference
from nnc.layers import Dense, Dropout

X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
Y = np.array([[0], [1], [1], [0]])


def test_the_tutorial_in_both(capsys):
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


def test_the_networks_in_the_result_are_trained():
    result = nnc.compare([3, 4, 1], X, Y, epochs=1500, bias=False, init="uniform", verbose=False)
    assert np.abs(result.engine.predict(X) - Y).max() < 0.1
    assert np.abs(np.array(result.reference.predict(X.tolist())) - Y).max() < 0.1


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_batches_are_the_same_in_both(activation, batch_size):
    rng = np.random.default_rng(0)
    inputs, targets = rng.random((20, 4)), rng.random(20)
    result = nnc.compare(
        [4, 5, 3, 1],
        inputs,
        targets,
        activation=activation,
        loss="mse",
        epochs=30,
        lr=0.05,
        batch_size=batch_size,
        verbose=False,
    )
    assert result.losses.relative < 1e-12
    assert result.predictions.absolute < 1e-12


def test_float32_differs_by_its_rounding_only():
    result = nnc.compare([3, 4, 1], X, Y, epochs=100, lr=0.5, dtype="float32", verbose=False)
    assert 0 < result.losses.relative < 1e-4


def test_printing():
    out = io.StringIO()
    result = nnc.compare([3, 4, 1], X, Y, epochs=10, file=out)
    text = out.getvalue()
    assert text == f"{result}\n"
    assert "network 3-4-1, rows 4, epochs 10" in text
    assert "times as fast" in text
    assert max(map(len, text.splitlines())) < 80
    assert "array(" not in repr(result)
    assert "largest relative difference" in repr(result)


def test_quiet(capsys):
    nnc.compare([3, 4, 1], X, Y, epochs=10, verbose=False)
    assert capsys.readouterr().out == ""


def test_a_result_cannot_be_changed():
    result = nnc.compare([3, 4, 1], X, Y, epochs=1, verbose=False)
    with pytest.raises(AttributeError):
        result.epochs = 2


def test_difference():
    zeros = np.zeros(3)
    assert Difference.between(zeros, zeros) == Difference(0.0, 0.0)
    assert Difference.between(np.array([4.0, 0.0, 1.0]), np.array([3.0, 0.5, 1.0])) == Difference(1.0, 1.0)
    assert Difference.between(np.array([-2.0]), np.array([2.0])) == Difference(4.0, 2.0)


def test_interrupt_ends_the_comparison(make_fail):
    """Ctrl-C in the fit of the engine raises KeyboardInterrupt, and the reference is not trained."""
    make_fail("nnc.reference.NeuralNetwork.fit", AssertionError("the reference was trained"))
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            nnc.compare([3, 4, 1], X, Y, epochs=10**8)
    finally:
        timer.cancel()


def test_divergence():
    with pytest.raises(ArithmeticError, match="not finite"):
        nnc.compare([3, 1], X, Y, loss="mse", epochs=1000, lr=100.0)


def test_what_the_reference_does_not_have():
    with pytest.raises(ValueError, match="gelu"):
        nnc.compare([3, 4, 1], X, Y, epochs=1, activation="gelu", verbose=False)


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match="columns"):
        nnc.compare([2, 4, 1], X, Y, epochs=1, verbose=False)


def test_biases_of_some_layers():
    result = nnc.compare([3, Dense(4, bias=False), 1], X, Y, epochs=50, verbose=False)
    assert result.losses.relative < 1e-12
    assert result.weights.relative < 1e-9


def test_dropout_is_refused():
    with pytest.raises(ValueError, match="layers must not contain Dropout"):
        nnc.compare([3, 4, Dropout(0.5), 1], X, Y, epochs=5, verbose=False)
