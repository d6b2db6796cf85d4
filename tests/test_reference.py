"""Tests of the plain-Python network: published numbers, gradients, random numbers, files and argument checks."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numerical import numerical_derivatives

import nnc
from nnc import _serialization, reference
from nnc.reference import NeuralNetwork, Stream, inspect_text, mix

TUTORIAL_X = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
TUTORIAL_Y = [[0], [1], [1], [0]]

# One training step that Matt Mazur worked out by hand in a well-known article.
MAZUR_X, MAZUR_Y = [[0.05, 0.10]], [[0.01, 0.99]]

MAZUR_TEXT = """\
------
* Inputs: 2
------
Hidden Layer 1
Neurons: 2
 Neuron 0
  Weight: 0.15
  Weight: 0.2
  Bias: 0.35
 Neuron 1
  Weight: 0.25
  Weight: 0.3
  Bias: 0.35
------
* Output Layer
Neurons: 2
 Neuron 0
  Weight: 0.4
  Weight: 0.45
  Bias: 0.6
 Neuron 1
  Weight: 0.5
  Weight: 0.55
  Bias: 0.6
------
"""


def build_mazur_network() -> NeuralNetwork:
    weights = [[[0.15, 0.25], [0.20, 0.30]], [[0.40, 0.50], [0.45, 0.55]]]
    net = NeuralNetwork([2, 2, 2], loss="half_sse", init=weights)
    net.biases = [[0.35, 0.35], [0.60, 0.60]]
    return net


def parameters(net: NeuralNetwork) -> list[list[float]]:
    """Return all rows of all W, and all b, as the lists that the network computes with."""
    return [row for layer in net.parametric_layers for row in ([*layer.W, layer.b] if layer.b else layer.W)]


# ------------------------------------------------------------------------- published numbers


def test_forward_pass_matches_published_example() -> None:
    net = build_mazur_network()
    (outputs,) = net.predict(MAZUR_X)
    assert [f"{p:.8f}" for p in outputs] == ["0.75136507", "0.77292847"]
    assert outputs[1] == pytest.approx(0.772928465, abs=5e-10)
    assert net.evaluate_loss(MAZUR_X, MAZUR_Y) == pytest.approx(0.298371109, abs=5e-10)


def test_gradients_match_published_example() -> None:
    (dW1, _), (dW2, _) = build_mazur_network().gradients(MAZUR_X, MAZUR_Y)
    (w1, w3), (w2, w4) = dW1
    (w5, w7), (w6, w8) = dW2
    assert w5 == pytest.approx(0.08216704, abs=5e-9)
    assert w6 == pytest.approx(0.08266763, abs=5e-9)
    assert w7 == pytest.approx(-0.02260254, abs=5e-9)
    assert w8 == pytest.approx(-0.02274024, abs=5e-9)
    assert w1 == pytest.approx(0.000438568, abs=5e-10)
    assert w2 == pytest.approx(0.000877135, abs=5e-10)
    assert w3 == pytest.approx(0.000497713, abs=5e-10)
    assert w4 == pytest.approx(0.000995425, abs=5e-10)


def test_training_step_matches_published_example() -> None:
    net = build_mazur_network()
    assert net.train_step(MAZUR_X, MAZUR_Y, lr=0.5) == pytest.approx(0.298371109, abs=5e-10)
    (w1, w3), (w2, w4) = net.weights[0]
    (w5, w7), (w6, w8) = net.weights[1]
    published = [
        0.149780716,
        0.19956143,
        0.24975114,
        0.29950229,
        0.35891648,
        0.408666186,
        0.511301270,
        0.561370121,
    ]
    assert [w1, w2, w3, w4, w5, w6, w7, w8] == pytest.approx(published, abs=5e-9)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(6))
def test_loss_decreases_in_each_epoch_of_tutorial(seed: int) -> None:
    net = NeuralNetwork([3, 4, 1], bias=False, init="uniform", seed=seed)
    history = net.fit(TUTORIAL_X, TUTORIAL_Y, epochs=1500, lr=1)
    assert len(history.loss) == history.epochs == 1500
    assert all(later < earlier for earlier, later in zip(history.loss, history.loss[1:], strict=False))
    assert history.loss[-1] < 0.01
    assert history.seconds > 0
    assert [round(p) for (p,) in net.predict(TUTORIAL_X)] == [0, 1, 1, 0]


def test_random_stream_matches_published_splitmix64_numbers() -> None:
    stream = Stream(1234567)
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [stream.bits() for _ in published] == published
    stream = Stream(0)
    assert [stream.bits() for _ in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


# ------------------------------------------------------------------------------- derivatives


@pytest.mark.sampled(7)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("loss", "output"),
    [
        *((loss, output) for loss in ("sse", "half_sse", "mse") for output in (*reference.ACTIVATIONS, "softmax")),
        ("cross_entropy", "softmax"),
    ],
)
@pytest.mark.parametrize("hidden", [[], ["sigmoid"], ["tanh"], ["relu"], ["identity"], ["tanh", "sigmoid", "relu"]])
def test_gradients_match_numerical_derivatives(hidden: list[str], output: str, loss: str, bias: bool) -> None:
    sizes = [3, *range(4, 4 + len(hidden)), 2]
    net = NeuralNetwork(sizes, activation=hidden, output=output, loss=loss, bias=bias, seed=5)
    stream = Stream(17)
    if bias:
        net.biases = [[stream.uniform() - 0.4 for _ in b] for b in net.biases]
    X = [[2 * stream.uniform() - 1 for _ in range(3)] for _ in range(5)]
    y = [[stream.uniform() for _ in range(2)] for _ in range(5)]
    gradients = net.gradients(X, y)
    rows = [row for dW, db in gradients for row in ([*dW, db] if db else dW)]
    assert [db is None for _, db in gradients] == [not bias] * len(gradients)
    h = 1e-5
    for row, derivatives in zip(parameters(net), rows, strict=True):
        for derivative, numerical in zip(derivatives, numerical_derivatives(net, X, y, row, h), strict=True):
            assert derivative == pytest.approx(numerical, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(("loss", "factor"), [("sse", 1), ("half_sse", 0.5), ("mse", 1 / 6)])
def test_losses_match_their_definitions(loss: str, factor: float) -> None:
    net = NeuralNetwork([1, 2], output="identity", loss=loss, init=[[[1.0, 2.0]]])
    # The errors of the rows are (1, 2), (1, 0) and (0, -1).
    X, y = [[1.0], [2.0], [3.0]], [[0.0, 0.0], [1.0, 4.0], [3.0, 7.0]]
    assert net.evaluate_loss(X, y) == pytest.approx(7 * factor)


def test_sigmoid_does_not_overflow() -> None:
    assert reference.sigmoid(0.0) == 0.5
    assert reference.sigmoid(1e308) == 1.0
    assert reference.sigmoid(-1e308) == 0.0
    assert reference.sigmoid(-700.0) == pytest.approx(math.exp(-700.0))


# ---------------------------------------------------------------------------------- training


def test_full_batch_epoch_equals_one_training_step() -> None:
    fitted, stepped = (NeuralNetwork([3, 4, 1], seed=2) for _ in range(2))
    history = fitted.fit(TUTORIAL_X, TUTORIAL_Y, epochs=3, lr=0.5)
    assert [stepped.train_step(TUTORIAL_X, TUTORIAL_Y, 0.5) for _ in range(3)] == history.loss
    assert fitted.weights == stepped.weights
    assert fitted.biases == stepped.biases


@pytest.mark.parametrize("batch_size", [4, 5, 100])
def test_batch_of_all_rows_consumes_no_shuffle_numbers(batch_size: int) -> None:
    full_batch, batched = (NeuralNetwork([3, 4, 1], seed=2) for _ in range(2))
    full_batch.fit(TUTORIAL_X, TUTORIAL_Y, epochs=3, lr=0.001)
    batched.fit(TUTORIAL_X, TUTORIAL_Y, epochs=3, lr=0.001, batch_size=batch_size)
    assert full_batch.weights == batched.weights
    assert '"shuffle_position": 0' in batched.to_json()


@pytest.mark.parametrize("loss", reference.LOSSES)
def test_mini_batches_follow_shuffled_order_of_random_stream(loss: str) -> None:
    X = [[r / 7, 1 - r / 5] for r in range(7)]
    y = [[r % 2, r % 3] for r in range(7)]
    fitted, stepped = (NeuralNetwork([2, 3, 2], loss=loss, seed=9) for _ in range(2))
    first = fitted.fit(X, y, epochs=2, lr=0.1, batch_size=3)
    second = fitted.fit(X, y, epochs=1, lr=0.1, batch_size=3)

    stream = Stream(mix(mix(9) + 1))
    losses = []
    for _ in range(3):
        order = list(range(7))
        for i in range(6, 0, -1):
            j = ((stream.bits() >> 32) * (i + 1)) >> 32
            order[i], order[j] = order[j], order[i]
        losses_of_batches = []
        for batch in (order[:3], order[3:6], order[6:]):
            value = stepped.train_step([X[r] for r in batch], [y[r] for r in batch], 0.1)
            losses_of_batches.append(value * len(batch) / 7 if loss in ("mse", "cross_entropy") else value)
        losses.append(sum(losses_of_batches))
    assert first.loss + second.loss == pytest.approx(losses, rel=1e-14)
    for a, b in zip(parameters(fitted), parameters(stepped), strict=True):
        assert a == pytest.approx(b, rel=1e-14)


def test_rows_keep_their_order_without_shuffle() -> None:
    fitted, stepped = (NeuralNetwork([3, 2, 1], seed=1) for _ in range(2))
    history = fitted.fit(TUTORIAL_X, TUTORIAL_Y, epochs=2, lr=0.3, batch_size=1, shuffle=False)
    for epoch in range(2):
        losses_of_batches = [stepped.train_step([x], [t], 0.3) for x, t in zip(TUTORIAL_X, TUTORIAL_Y, strict=True)]
        assert history.loss[epoch] == pytest.approx(sum(losses_of_batches))
    assert fitted.weights == stepped.weights


def test_shuffling_draws_all_permutations_equally_often() -> None:
    stream = Stream(3)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        order = [0, 1, 2]
        stream.shuffle(order)
        counts[tuple(order)] = counts.get(tuple(order), 0) + 1
    assert len(counts) == 6
    assert all(850 < count < 1150 for count in counts.values())


def test_same_seed_gives_same_network_and_same_training() -> None:
    nets = [NeuralNetwork([3, 4, 1], seed=7) for _ in range(2)]
    histories = [net.fit(TUTORIAL_X, TUTORIAL_Y, epochs=5, lr=0.5, batch_size=2).loss for net in nets]
    assert histories[0] == histories[1]
    assert nets[0].weights == nets[1].weights
    assert NeuralNetwork([3, 4, 1], seed=8).weights != NeuralNetwork([3, 4, 1], seed=7).weights


def test_network_without_seed_reports_the_drawn_seed() -> None:
    a, b = NeuralNetwork([3, 4, 1]), NeuralNetwork([3, 4, 1])
    assert a.weights != b.weights
    assert NeuralNetwork([3, 4, 1], seed=a.seed).weights == a.weights


def test_default_learning_rate_is_0_001() -> None:
    a, b = (NeuralNetwork([3, 4, 1], seed=7) for _ in range(2))
    a.fit(TUTORIAL_X, TUTORIAL_Y, epochs=3)
    b.fit(TUTORIAL_X, TUTORIAL_Y, epochs=3, lr=0.001)
    assert a.weights == b.weights


@pytest.mark.parametrize("lr", [10.0, 1e200])
def test_diverged_training_leaves_finite_weights(lr: float) -> None:
    net = NeuralNetwork([1, 2, 1], activation="identity", loss="mse", seed=1)
    with pytest.raises(ArithmeticError, match=r"^training diverged in epoch \d+; try a smaller lr than"):
        net.fit([[1.0], [5.0]], [[1.0], [-5.0]], epochs=10000, lr=lr)
    assert all(map(math.isfinite, [number for row in parameters(net) for number in row]))
    assert math.isfinite(net.predict([[1.0]])[0][0]) or lr == 1e200
    _serialization.loads(net.to_json())


# ---------------------------------------------------------------------------- initial weights


def draw_uniform_numbers(seed: int) -> list[float]:
    stream = Stream(mix(seed))
    return [stream.uniform() for _ in range(100)]


def test_initial_weights_of_all_layers_come_from_one_stream() -> None:
    u = draw_uniform_numbers(3)
    net = NeuralNetwork([2, 3, 1], init="uniform", seed=3)
    assert net.weights == ([u[0:3], u[3:6]], [[u[9]], [u[10]], [u[11]]])
    assert net.biases == (u[6:9], u[12:13])
    net = NeuralNetwork([2, 3, 1], init="uniform", bias=False, seed=3)
    assert net.weights == ([u[0:3], u[3:6]], [[u[6]], [u[7]], [u[8]]])
    assert net.biases == ()


@pytest.mark.parametrize(("init", "factor"), [("glorot_uniform", math.sqrt(6 / 5)), ("he_uniform", math.sqrt(6 / 2))])
def test_uniform_initializers_match_their_definitions(init: str, factor: float) -> None:
    net = NeuralNetwork([2, 3], init=init, seed=3)
    expected = [(2 * u - 1) * factor for u in draw_uniform_numbers(3)[:6]]
    assert net.weights == ([expected[:3], expected[3:]],)
    assert net.biases == ([0.0, 0.0, 0.0],)


@pytest.mark.parametrize(("init", "factor"), [("glorot_normal", math.sqrt(2 / 5)), ("he_normal", math.sqrt(2 / 2))])
def test_normal_initializers_match_their_definitions(init: str, factor: float) -> None:
    net = NeuralNetwork([2, 3], init=init, seed=3)
    u = draw_uniform_numbers(3)
    pairs = zip(u[0:12:2], u[1:12:2], strict=True)
    expected = [math.sqrt(-2 * math.log(1 - a)) * math.cos(2 * math.pi * b) * factor for a, b in pairs]
    assert [w for row in net.weights[0] for w in row] == pytest.approx(expected, rel=1e-15)


def test_normal_numbers_have_mean_0_and_variance_1() -> None:
    stream = Stream(1)
    numbers = [stream.normal() for _ in range(10000)]
    assert abs(sum(numbers) / 10000) < 0.03
    assert abs(sum(z * z for z in numbers) / 10000 - 1) < 0.05


def test_default_initializer_depends_on_activation() -> None:
    net = NeuralNetwork([2, 3, 2], activation="relu", output="tanh", seed=3)
    u = draw_uniform_numbers(3)
    assert net.weights[0][0][0] == (2 * u[0] - 1) * math.sqrt(6 / 2)
    assert net.weights[1][0][0] == (2 * u[6] - 1) * math.sqrt(6 / 5)


def test_zeros_initializer_sets_all_weights_to_0() -> None:
    assert NeuralNetwork([2, 1], init="zeros").weights == ([[0.0], [0.0]],)


def test_weights_and_biases_can_be_set_and_are_validated() -> None:
    net = NeuralNetwork([2, 1], init=[[[1], (Fraction(1, 2),)]])
    assert net.weights == ([[1.0], [0.5]],)
    net.weights[0][1][0] = 0.25
    net.biases[0][0] = 1.5
    assert net.predict([[0, 1]]) == [[reference.sigmoid(1.75)]]
    net.weights = [[[3], [4]]]
    net.biases = [[5]]
    assert (net.weights, net.biases) == (([[3.0], [4.0]],), ([5.0],))
    with pytest.raises(ValueError, match=r"^weights must have 2 rows, got 1$"):
        net.weights = [[[3]]]
    with pytest.raises(ValueError, match=r"^biases must have 1 column, got 2 in row 0$"):
        net.biases = [[5, 6]]
    assert (net.weights, net.biases) == (([[3.0], [4.0]],), ([5.0],))


# --------------------------------------------------------------------------------- printing


def test_inspect_prints_all_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    build_mazur_network().inspect()
    assert capsys.readouterr().out == MAZUR_TEXT


def test_inspect_writes_layers_without_bias_to_file() -> None:
    net = NeuralNetwork([1, 1, 1, 1], bias=False, init=[[[1]], [[-0.5]], [[1e-300]]])
    file = io.StringIO()
    net.inspect(file=file)
    assert file.getvalue() == (
        "------\n* Inputs: 1\n------\n"
        "Hidden Layer 1\nNeurons: 1\n Neuron 0\n  Weight: 1.0\n------\n"
        "Hidden Layer 2\nNeurons: 1\n Neuron 0\n  Weight: -0.5\n------\n"
        "* Output Layer\nNeurons: 1\n Neuron 0\n  Weight: 1e-300\n------\n"
    )


def test_inspect_text_accepts_plain_lists() -> None:
    assert inspect_text([([[0.15], [0.2]], [0.35])]) == (
        "------\n* Inputs: 2\n------\n* Output Layer\nNeurons: 1\n"
        " Neuron 0\n  Weight: 0.15\n  Weight: 0.2\n  Bias: 0.35\n------"
    )


# ------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("bias", [True, False])
def test_loaded_network_equals_saved_network(tmp_path: Path, bias: bool) -> None:
    net = NeuralNetwork([3, 4, 2], activation="tanh", output="identity", loss="mse", bias=bias, seed=4)
    X, y = TUTORIAL_X, [[0, 1], [1, 0], [1, 1], [0, 0]]
    net.fit(X, y, epochs=3, lr=0.001, batch_size=2)
    net.save(tmp_path / "net.json")
    for other in (NeuralNetwork.load(tmp_path / "net.json"), NeuralNetwork.from_json(net.to_json())):
        names = ("sizes", "activations", "loss_name", "bias", "dtype", "seed", "weights", "biases")
        assert [getattr(other, name) for name in names] == [getattr(net, name) for name in names]
        assert other.predict(X) == net.predict(X)
        assert other.to_json() == net.to_json()
    # The next fit gives the same losses: the position of the shuffle stream is in the file.
    assert (
        other.fit(X, y, epochs=3, lr=0.001, batch_size=2).loss == net.fit(X, y, epochs=3, lr=0.001, batch_size=2).loss
    )


def test_load_rejects_features_of_engine_only() -> None:
    layer = {"type": "dense", "n_in": 1, "n_out": 1, "activation": "gelu", "W": [[1.0]], "b": None}
    document = {"dtype": "float64", "loss": "mse", "layers": [layer]}
    with pytest.raises(ValueError, match=r"^activation must be one of .* in the plain-Python ref.*, got 'gelu'"):
        NeuralNetwork.from_json(_serialization.dumps(document))
    layer["activation"], document["dtype"] = "tanh", "float32"
    with pytest.raises(ValueError, match=r"^dtype must be one of float64 in the plain-Python reference, got 'float32'"):
        NeuralNetwork.from_json(_serialization.dumps(document))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", ["no", "yes"]),
        ("scale_X", {"type": "minmax", "shift": [0.0, 1.0], "factor": [1.0, 2.0]}),
        ("scale_y", {"type": "standardize", "shift": [0.0], "factor": [2.0]}),
    ],
)
def test_load_rejects_classes_and_scalings(key: str, value: object) -> None:
    document = _serialization.loads(NeuralNetwork([2, 1], seed=1).to_json())
    with pytest.raises(ValueError, match=f"^{key} must be null for the plain-Python reference"):
        NeuralNetwork.from_json(_serialization.dumps({**document, key: value}))


def test_file_contains_self_test_that_load_verifies(tmp_path: Path) -> None:
    net = NeuralNetwork([3, 4, 2], seed=4)
    document = _serialization.loads(net.to_json())
    test = document["self_test"]
    assert test == {"X": _serialization.self_test_row(3), "P": net.predict([_serialization.self_test_row(3)])[0]}
    test["P"][1] += 1e-8
    _serialization.write(tmp_path / "net.json", document)
    message = r"^cannot load the network from '.*net\.json': its self-test failed: output 1 "
    with pytest.raises(_serialization.ModelFileError, match=message):
        NeuralNetwork.load(tmp_path / "net.json")
    message = r"^cannot load the network from the JSON text: its self-test failed"
    with pytest.raises(_serialization.ModelFileError, match=message):
        NeuralNetwork.from_json(_serialization.dumps(document))
    del document["self_test"]
    assert NeuralNetwork.from_json(_serialization.dumps(document)).weights == net.weights


def test_file_of_network_with_infinite_outputs_has_no_self_test() -> None:
    net = NeuralNetwork([1, 1, 1], activation="identity", output="identity", init=[[[1e300]], [[1e300]]])
    assert _serialization.loads(net.to_json())["self_test"] is None
    assert NeuralNetwork.from_json(net.to_json()).weights == net.weights


# ------------------------------------------------------------------------------------ checks


def unsupported_message(argument: str, supported: str, value: str) -> str:
    return (
        f"{argument} must be one of {supported} in the plain-Python reference, got {value!r}; "
        "nnc.NeuralNetwork supports more"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"activation": "softplus"},
            unsupported_message("activation", "sigmoid, tanh, relu, identity, sin", "softplus"),
        ),
        ({"output": "exp"}, unsupported_message("output", "sigmoid, tanh, relu, identity, sin, softmax", "exp")),
        ({"loss": "bce"}, unsupported_message("loss", "sse, half_sse, mse, cross_entropy", "bce")),
        ({"dtype": "float32"}, unsupported_message("dtype", "float64", "float32")),
        (
            {"init": "orthogonal"},
            unsupported_message(
                "init",
                "zeros, uniform, glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal, "
                "siren",
                "orthogonal",
            ),
        ),
        (
            {"layers": [3]},
            "layers must be a sequence of at least two positive whole numbers, such as [3, 4, 1], or of ",
        ),
        (
            {"layers": [3, 0, 1]},
            "layers must be a sequence of at least two positive whole numbers, such as [3, 4, 1], or ",
        ),
        ({"seed": -1}, "seed must be at least 0 and less than 2**64, got -1"),
        ({"seed": 2**64}, f"seed must be at least 0 and less than 2**64, got {2**64}"),
        (
            {"activation": ["tanh", "relu"]},
            "activation must be a name, or a list with one name per hidden layer (here 1), got 2: ",
        ),
        ({"init": [[[1.0]]]}, "weights must have 2 items, one for each layer, got 1"),
        ({"init": [[[1.0] * 4] * 3, [[1.0]] * 3]}, "weights must have 4 rows, got 3"),
        ({"init": [[[1.0] * 4] * 3, [[math.inf]] * 4]}, "weights must be finite, got inf in row 0, column 0"),
    ],
)
def test_invalid_constructor_arguments_raise_value_error(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error_info:  # noqa: PT011 (the whole message is compared below)
        NeuralNetwork(**{"layers": [3, 4, 1], **arguments})  # type: ignore[arg-type]
    assert str(error_info.value).startswith(message)


@pytest.mark.parametrize("size", [2.0, "3", True, None])
def test_layer_sizes_must_be_integers(size: object) -> None:
    with pytest.raises(ValueError, match=r"^layers must be a sequence of at least two positive whole numbers, "):
        NeuralNetwork([3, size, 1])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        ([], [], ValueError, "X must have at least 1 row, got 0"),
        ([[1, 2]], [[0]], ValueError, "X must have 3 columns, got 2 in row 0"),
        ([[1, 2, 3], [1]], [[0], [0]], ValueError, "X must have 3 columns, got 1 in row 1"),
        ([[1, 2, math.nan]], [[0]], ValueError, "X must be finite, got nan in row 0, column 2"),
        ([[1, 2, 3]], [[0], [1]], ValueError, "y must have 1 row, got 2"),
        ([[1, 2, 3]], [[0, 1]], ValueError, "y must have 1 column, got 2 in row 0"),
        ([[1, 2, 3]], [[-math.inf]], ValueError, "y must be finite, got -inf in row 0, column 0"),
        ([1, 2, 3], [[0]], TypeError, "X must be a list of rows, each a list of numbers: "),
        (5, [[0]], TypeError, "X must be a list of rows, each a list of numbers: "),
        ([["a", "b", "c"]], [[0]], TypeError, "X must be a list of rows, each a list of numbers: "),
        ([[1, 2, 10**400]], [[0]], TypeError, "X must be a list of rows, each a list of numbers: "),
    ],
)
def test_invalid_data_raises_error_with_location(X: object, y: object, error: type[Exception], message: str) -> None:
    net = NeuralNetwork([3, 4, 1], seed=0)
    for call in (net.evaluate_loss, net.gradients, lambda X, y: net.fit(X, y, epochs=1)):
        with pytest.raises(error) as error_info:
            call(X, y)
        assert str(error_info.value).startswith(message)


def test_one_dimensional_targets_are_one_column() -> None:
    net = NeuralNetwork([3, 4, 1], seed=0)
    assert net.evaluate_loss(TUTORIAL_X, [0, 1, 1, 0]) == net.evaluate_loss(TUTORIAL_X, TUTORIAL_Y)


def test_objects_with_tolist_are_accepted_as_data() -> None:
    class Array:
        def tolist(self) -> list[list[int]]:
            return TUTORIAL_X

    net = NeuralNetwork([3, 4, 1], seed=0)
    assert net.predict(Array()) == net.predict(TUTORIAL_X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": -1}, "epochs must be at least 0 and less than 2**64, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1 and less than 2**64, got 0"),
        ({"lr": 0}, "lr must be a finite number greater than 0, got 0"),
        ({"lr": math.nan}, "lr must be a finite number greater than 0, got nan"),
        ({"lr": math.inf}, "lr must be a finite number greater than 0, got inf"),
        ({"lr": "fast"}, "lr must be a finite number greater than 0, got 'fast'"),
        ({"optimizer": "adam"}, unsupported_message("optimizer", "sgd", "adam")),
    ],
)
def test_invalid_fit_arguments_raise_value_error(arguments: dict[str, object], message: str) -> None:
    net = NeuralNetwork([3, 4, 1], seed=0)
    with pytest.raises(ValueError) as error_info:  # noqa: PT011 (the whole message is compared below)
        net.fit(TUTORIAL_X, TUTORIAL_Y, **{"epochs": 1, **arguments})  # type: ignore[arg-type]
    assert str(error_info.value).startswith(message)


@given(st.integers(min_value=0, max_value=2**64 - 1), st.integers(min_value=1, max_value=50))
def test_shuffling_preserves_all_rows(key: int, n: int) -> None:
    stream, order = Stream(key), list(range(n))
    stream.shuffle(order)
    assert sorted(order) == list(range(n))
    assert stream.position == n - 1
    assert all(0 <= stream.uniform() < 1 for _ in range(5))


@pytest.mark.parametrize("layer_with_bias", [0, 1])
def test_bias_in_one_of_two_layers_matches_engine(layer_with_bias: int) -> None:
    dense = [nnc.layers.Dense(4, bias=layer_with_bias == 0), nnc.layers.Dense(1, bias=layer_with_bias == 1)]
    engine = nnc.NeuralNetwork([3, *dense], seed=2)
    engine.params = [0.1 * i - 0.5 for i in range(len(engine.params))]
    plain = NeuralNetwork.from_json(engine.to_json())
    assert [layer.b is None for layer in plain.layers] == [layer_with_bias == 1, layer_with_bias == 0]
    assert plain.predict(TUTORIAL_X) == pytest.approx(engine.predict(TUTORIAL_X), rel=1e-13)
    assert NeuralNetwork.from_json(plain.to_json()).predict(TUTORIAL_X) == plain.predict(TUTORIAL_X)
    (b,) = plain.biases
    plain.biases = [[number + 1 for number in b]]
    assert plain.biases == ([number + 1 for number in b],)
