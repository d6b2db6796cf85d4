"""What a fit does that says nothing of its rate and optimizer."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._parallel.work import Job
from nnc._training.arguments import FitArguments
from nnc.datasets import load_digits, load_iris, train_test_split

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
YES = np.array([0, 1, 1, 0])
rng = np.random.default_rng(0)
X = rng.uniform(0, 500, (90, 3))
Y = 1000 + X @ np.array([1.0, -2.0, 0.5]) + 0.01 * X[:, 0] * X[:, 1]


@pytest.mark.filterwarnings("ignore::nnc.SaturatedLayerWarning")  # of what is learned to the end
@pytest.mark.parametrize("loss", ["sse", "bce"])
@pytest.mark.parametrize("seed", range(3))
def test_learns_xor(loss, seed):
    net = NeuralNetwork([2, 4, 1], loss=loss, seed=seed)
    net.fit(XOR, YES)
    assert (net.predict_classes(XOR) == YES).all()


@pytest.mark.parametrize(("load", "sizes", "least"), [(load_iris, [4, 16, 3], 0.9), (load_digits, [64, 32, 10], 0.95)])
def test_learns_classes(load, sizes, least):
    X, X_test, y, y_test = train_test_split(*load(), test_size=0.25, seed=0)
    net = NeuralNetwork(sizes, loss="cross_entropy", seed=0)
    net.fit(X, y)
    assert net.score(X_test, y_test) > least


def test_learns_numbers():
    net = NeuralNetwork([3, 16, 1], loss="mse", seed=0)
    net.fit(X[:70], Y[:70])
    assert net.score(X[70:], Y[70:]) > 0.99


@pytest.mark.parametrize(
    ("n", "batch", "epochs"),
    [(4, 32, 10_000), (33, 33, 10_000), (64, 32, 5000), (1000, 32, 313), (9701, 98, 102), (300_000, 256, 20)],
)
def test_is_the_fit_that_says_all_of_it(n, batch, epochs):
    from nnc._training.defaults import fill_arguments

    arguments = fill_arguments(FitArguments(), n, NeuralNetwork([1, 1]).model, None)
    assert arguments.given() == {
        "batch_size": batch,
        "epochs": epochs,
        "optimizer": "adam",
        "reset_optimizer": True,
        "lr": nnc.PerStep(nnc.CosineLR(0.02)),
    }
    assert batch >= n or n % batch != 1


def test_to_the_bit():
    left_out = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    history = left_out.fit(X, Y)
    said = NeuralNetwork([3, 5, 1], loss="mse", seed=1, scale_X="standardize", scale_y="standardize")
    rate = nnc.PerStep(nnc.CosineLR(0.02))
    wanted = said.fit(X, Y, epochs=3334, batch_size=32, optimizer="adam", lr=rate)
    assert (history["loss"] == wanted["loss"]).all()
    assert (left_out.params == said.params).all()
    assert repr(left_out) == repr(said)
    assert "inputs scaled (standardize), targets scaled (standardize)" in left_out.summary()
    again = nnc.from_json(left_out.to_json())
    assert (again.predict(X) == left_out.predict(X)).all()


@pytest.mark.parametrize("way", ["as it is", "a function", "a file"])
def test_epochs_are_those_that_are_said(way, tmp_path):
    loss = squares if way == "a function" else "mse"
    left_out, said = (NeuralNetwork([3, 5, 1], loss=loss, seed=1, dtype="float32") for _ in range(2))
    rows = X
    if way == "a file":
        rows = np.memmap(tmp_path / "rows", dtype=np.float64, mode="w+", shape=X.shape)
        rows[:] = X
    said.converter.set_scalers(nnc.Standardize(), None if way == "a function" else nnc.Standardize())
    history = left_out.fit(rows, Y / 1000, epochs=7)
    rate = nnc.PerStep(nnc.CosineLR(0.02))
    wanted = said.fit(X, Y / 1000, epochs=7, batch_size=32, optimizer="adam", lr=rate)
    assert history.epochs == 7
    assert history.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert (left_out.params == said.params).all()
    history = left_out.fit(rows, Y / 1000, epochs=3)  # begins anew, from the weights there are
    assert left_out.state.epoch == left_out.history.epochs == 3
    assert history.lr[0] == 0.02
    wanted = said.fit(X, Y / 1000, epochs=3, batch_size=32, optimizer="adam", lr=rate, reset_optimizer=True)
    assert (left_out.params == said.params).all()


@pytest.mark.filterwarnings("ignore::nnc.NotConvergedWarning")
@pytest.mark.parametrize("end", [{"patience": 3}, {"target_loss": 0.05}, {"max_seconds": 0.05}])
def test_what_ends_by_another_rule_has_the_rate_of_the_optimizer(end):
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    history = net.fit(X, Y, **end)
    assert history.stop_reason == next(iter(end))
    assert set(history.lr) == {0.001}
    assert net.state.optimizer == nnc.Adam()
    assert net.converter.scaler_X == net.converter.scaler_y == nnc.Standardize()
    steps = net.state.steps
    assert set(net.fit(X, Y, **end).lr) == {0.001}
    assert net.state.steps > steps  # goes on
    assert net.fit(X, Y, epochs=2).lr[0] == 0.02
    assert NeuralNetwork([3, 1], loss="mse", seed=1).fit(X, Y, epochs=2, **end).lr[0] == 0.02


def test_the_rate_is_smaller_where_neurons_have_many_inputs():
    def first(layers, shape, loss="mse"):
        rows = np.linspace(0, 1, 2 * np.prod(shape)).reshape(2, *shape)
        net = NeuralNetwork(layers, loss=loss, seed=0)
        return net.fit(rows, [[0.0], [1.0]], epochs=2).lr[0]

    assert first([64, 3, 1], (64,)) == 0.02
    assert first([256, 3, 1], (256,)) == 0.01
    assert first([3, 256, 1], (3,)) == 0.01
    images = [nnc.layers.Input(6, 6, 4), nnc.layers.Conv2D(2, 5), 1]
    assert first(images, (6, 6, 4)) == pytest.approx(0.02 * np.sqrt(0.64))


def test_a_callback_alone_sets_no_end():
    seen = []
    assert NeuralNetwork([3, 1], loss="mse", seed=1).fit(X, Y, batch_size=45, callback=seen.append).epochs == 5000
    assert len(seen) == 5000


@pytest.mark.parametrize("named", [{"lr": 0.001}, {"optimizer": "sgd"}])
def test_who_names_a_rate_or_an_optimizer_has_the_rest_to_say(named):
    net, plain = (NeuralNetwork([3, 2, 1], loss="mse", seed=0) for _ in range(2))
    for _ in range(2):
        net.fit(X / 500, Y / 1000, epochs=2, **named)
        plain.fit(X / 500, Y / 1000, epochs=2, optimizer="sgd", lr=0.001)
        assert (net.params == plain.params).all()
        named = {}  # as before
    assert net.converter.scaler_X is net.converter.scaler_y is None
    assert net.fit(X / 500, Y / 1000).epochs == 3334  # nothing is said of an end: by the rule, anew
    assert net.history.epochs == 3334


def test_steps_and_batches_go_on_at_the_rate_of_the_optimizer():
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    net.fit(X, Y, epochs=3)
    same = net.copy()
    loss = net.train_step(X, Y)
    assert net.state.schedule is None
    assert same.fit(X, Y, epochs=1, lr=0.001).loss[0] == loss
    assert (net.params == same.params).all()
    assert net.fit_batches([(X, Y)], epochs=2).lr.tolist() == [0.001] * 2
    fresh = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    fresh.fit_batches([(X / 500, Y / 1000)], epochs=2)
    assert fresh.state.optimizer == nnc.Adam()


def scalers(net, **fit):
    net.fit(X, Y, **fit)
    return net.converter.scaler_X, net.converter.scaler_y


def given(net):
    net.weights = [2 * W for W in net.weights]


def given_biases(net):
    net.biases = [b + 1 for b in net.biases]


def given_all(net):
    net.params = 2 * net.params


def given_one(net):
    net.weights[0] = 2 * net.weights[0]


def changed_in_place(net):
    net.weights[0][0, 0] += 1


def given_in_a_layer(net):
    net.layers[0].b = [1, 2]


def stepped(net):
    net.train_step(X, Y, lr=1e-9)


def fitted(net):
    net.fit(X, Y, epochs=1, lr=1e-9)


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")  # of what stays unscaled
def test_scales_only_what_is_new_and_left_open():
    both = nnc.Standardize(), nnc.Standardize()
    few = {"batch_size": 90, "n_threads": 1}

    def new(**options):
        return NeuralNetwork([3, 2, 1], seed=0, **{"loss": "mse", **options})

    assert scalers(new(), **few) == scalers(new().copy(), **few) == scalers(nnc.clones(new(), 1)[0], **few) == both
    assert scalers(new(scale_X=None), **few) == (None, both[1])
    assert scalers(new(scale_X="minmax", scale_y=None), **few) == (nnc.MinMax(), None)
    assert scalers(new(loss="poisson"), **few) == (both[0], None)
    assert scalers(nnc.clones(new(), 1, init="he_normal")[0], **few) == scalers(new(init="lecun_normal"), **few) == both
    for change in (given, given_biases, given_all, given_one, changed_in_place, given_in_a_layer, stepped, fitted):
        old = new()
        change(old)
        assert scalers(old, **few) == scalers(old.copy(), **few) == (None, None), change.__name__
    drawn = new().weights
    for old in (nnc.from_json(new().to_json()), new(init=list(drawn))):
        assert scalers(old, **few) == (None, None)
    assert scalers(new(), epochs=1) == both
    assert scalers(new(), epochs=1, lr=1e-9) == scalers(new(), epochs=1, optimizer="adam") == (None, None)


def test_reads_X_once():
    class Table:
        """What has to be made an array."""

        def __init__(self, array):
            self.array, self.times = array, 0

        def __array__(self, dtype=None, copy=None):
            self.times += 1
            return self.array

    for shape, kind, said in [
        ((3,), float, {}),
        ((3,), np.float32, {"validation": 0.5}),
        ((3,), float, {"validation": "rows"}),
        ((4, 4, 1), np.uint8, {}),
    ]:
        rows = Table(rng.integers(0, 256, (20, *shape)).astype(kind))
        if said.get("validation"):
            said["validation"] = said["validation"] if said["validation"] != "rows" else (np.ones((5, 3)), np.ones(5))
        net = NeuralNetwork([nnc.layers.Input(*shape), *([nnc.layers.Flatten()] * (len(shape) > 1)), 1], loss="mse")
        net.fit(rows, np.arange(20.0), **said)
        assert rows.times == 1
        assert net.converter.scaler_X == (nnc.Pixels() if kind is np.uint8 else nnc.Standardize())


@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_images_of_bytes_are_pixels(kind):
    images = rng.integers(0, 256, (20, 4, 4)).astype(kind) / kind(1 if kind is np.uint8 else 255)
    net = NeuralNetwork([nnc.layers.Input(4, 4, 1), nnc.layers.Flatten(), 2], loss="cross_entropy", seed=0)
    net.fit(images.astype(kind), np.arange(20) % 2)
    assert net.converter.scaler_X == (nnc.Pixels() if kind is np.uint8 else None)


def test_goes_with_what_is_said_beside():
    net = NeuralNetwork([3, 4, 1], loss="mse", seed=0)
    history = net.fit(X, Y, batch_size=45, validation=0.5, l2=1e-4, metrics="rmse")
    assert history.epochs == 10_000
    assert history["val_rmse"][-1] < 0.5 * Y.std()
    with pytest.raises(ValueError, match="batch_size must be"):
        net.fit(X, Y, batch_size=0)
    with pytest.raises(TypeError, match="epochs must be set"):
        net.fit(X, Y, lr=0.1)


def squares(P, Y):
    return float(((P - Y) ** 2).mean()), 2 * (P - Y) / P.size


def test_losses_that_are_functions_and_files(tmp_path):
    net = NeuralNetwork([3, 1], loss=squares, seed=0)
    history = net.fit(X, Y / 1000, batch_size=90)
    assert history["loss"][-1] < history["loss"][0]
    rows = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=X.shape)
    rows[:] = X
    of_file, of_array = (NeuralNetwork([3, 2, 1], loss="mse", seed=0) for _ in range(2))
    of_file.fit(rows, Y, batch_size=30)
    of_array.fit(np.array(rows), Y, batch_size=30)
    assert (of_file.params == of_array.params).all()


def test_one_row_is_not_scaled():
    net = NeuralNetwork([2, 1], loss="mse", seed=0)
    net.fit([[1.0, 2.0]], [3.0])
    assert net.predict([[1.0, 2.0]])[0, 0] == pytest.approx(3)


def epoch_of(path, network):
    """A checkpoint after 10 of 30 epochs by the rule, from which another network goes on."""
    with pytest.raises(KeyboardInterrupt):
        network.fit(X, Y, epochs=30, callback=[nnc.Checkpoint(path, every=10), stop_after(12)])
    return NeuralNetwork.load(path)


def stop_after(epoch):
    def stop(record):
        if record.epoch == epoch:
            raise KeyboardInterrupt

    return stop


def test_a_checkpoint_goes_on_to_the_bit(tmp_path):
    whole, part = (NeuralNetwork([3, 5, 1], loss="mse", seed=1) for _ in range(2))
    whole.fit(X, Y, epochs=30)
    path = tmp_path / "run.json"
    again = epoch_of(path, part)
    assert again.state.epoch == 10
    for other in (again, again.copy(), pickle.loads(pickle.dumps(again))):
        history = other.fit(X, Y, epochs=20)
        assert (other.params == whole.params).all()
        assert (history.lr == whole.history.lr[10:]).all()
    anew = NeuralNetwork.load(path)
    assert anew.fit(X, Y, epochs=21).lr[0] == 0.02  # more than is left of it
    assert anew.fit(X, Y, patience=2).lr[0] == 0.001
    document = json.loads(path.read_text())
    assert document["training"]["by_rule"] is True
    document["training"]["by_rule"] = 1
    del document["sha256"]
    path.write_text(json.dumps(document))
    with pytest.raises(nnc.ModelFileError, match=r"training\.by_rule"):
        NeuralNetwork.load(path)
    whole.fit(X, Y, epochs=1, lr=0.1)
    assert "by_rule" not in json.loads(whole.to_json(checkpoint=True))["training"]


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("end", [{"patience": 1, "min_delta": 10.0}, {"callback": lambda record: record.epoch >= 2}])
def test_what_has_ended_early_is_gone_on_with_by_the_rule(end):
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    assert net.fit(X, Y, epochs=30, **end).epochs == 2
    steps = net.state.steps
    assert net.fit(X, Y, epochs=10).lr[0] < 0.02  # what is left of it
    assert net.state.steps == steps + 10 * 3
    assert net.fit(X, Y, epochs=60).lr[-1] > 0
    assert net.state.steps == 60 * 3
    net.train_step(X, Y)
    assert net.fit(X, Y, epochs=2).lr[0] == 0.02
    assert net.state.steps == 2 * 3
    net.fit_batches([(X, Y)])
    assert net.fit(X, Y, epochs=2).lr[0] == 0.02


def test_a_schedule_of_ones_own_is_not_the_rules():
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    rate = nnc.PerStep(nnc.CosineLR(0.02))
    for optimizer in ("momentum", "adam"):
        net.fit(X / 500, Y / 1000, lr=rate, optimizer=optimizer, epochs=2, batch_size=32)
        for more in (lambda: net.fit(X, Y, epochs=5), lambda: net.train_step(X, Y), lambda: net.fit_batches([(X, Y)])):
            with pytest.raises(ValueError, match="is 0 from epoch 2 on"):
                more()


def test_batches_of_a_file_behind_a_batch_norm(tmp_path):
    rows = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=X.shape)
    rows[:] = X / 500
    layers = [3, nnc.layers.Dense(4, "identity"), nnc.layers.BatchNorm("relu"), 1]
    of_file, of_array = (NeuralNetwork(layers, loss="mse", seed=0) for _ in range(2))
    of_file.fit(rows, Y / 1000, epochs=2, batch_size=30, lr=0.01)
    of_array.fit(np.array(rows), Y / 1000, epochs=2, batch_size=30, lr=0.01)
    assert (of_file.params == of_array.params).all()
    assert NeuralNetwork(layers, loss="mse", seed=0).fit(rows, Y, epochs=2, metrics="r2").epochs == 2  # all at hand


def test_a_search_goes_by_it():
    def make(width, seed):
        return NeuralNetwork([3, width, 1], loss="mse", seed=seed)

    found = nnc.search(make, {"width": [2, 4, 8]}, X, Y, epochs=9, trials=3, seed=0)
    assert found.network.history.lr[0] == 0.02
    assert found.network.converter.scaler_X == nnc.Standardize()


def test_targets_that_do_not_fit_are_refused_by_many_as_by_one():
    for y in (Y[:5], 3.0):
        with pytest.raises(ValueError, match="y must have"):
            nnc.fit_many([NeuralNetwork([3, 1], loss="mse", seed=0)], X, y, epochs=2, validation=0.2)


@pytest.mark.parametrize("how", [{"folds": 3}, {"validation": (X[:20], Y[:20])}, {}], ids=["folds", "rows", "share"])
@pytest.mark.parametrize("space", [{}, {"optimizer": [None]}], ids=["", "None"])
def test_a_search_has_one_schedule_over_its_rounds(how, space):
    layers = [3, nnc.layers.Dense(4, "identity"), nnc.layers.BatchNorm("relu"), 1]

    def make(width, seed):
        return NeuralNetwork(layers, loss="mse", seed=seed)

    rows = np.concatenate([X, X[:7]]), np.concatenate([Y, Y[:7]])  # of which a fold of three has 65
    found = nnc.search(make, {"width": [2, 4, 8, 3], **space}, *rows, epochs=9, trials=4, seed=0, **how)
    rates = found.network.history.lr
    assert len(rates) == 9
    assert rates[0] == 0.02
    assert (np.diff(rates) < 0).all()
    assert found.network.fit(*rows, epochs=2).lr[0] == 0.02
    assert found.network.converter.scaler_X == nnc.Standardize()


def test_what_is_wrong_is_said_in_the_same_words():
    net = NeuralNetwork([3, 1], loss="mse", seed=0)
    net.fit(X, Y, epochs=3)
    for epochs in ("3", [3], 2.5):
        with pytest.raises(TypeError, match="epochs must be a whole number"):
            net.fit(X, Y, epochs=epochs)
    for words, wrong in ((r"X must have", (5.0, Y)), ("batch_size must be", (X, Y))):
        with pytest.raises((TypeError, ValueError), match=words):
            nnc.search(
                lambda width, seed: NeuralNetwork([3, width, 1], loss="mse", seed=seed), {"width": [2]}, *wrong,
                epochs=2, trials=1, validation=(X, Y), **({"batch_size": "a"} if wrong[0] is X else {}),
            )  # fmt: skip


def test_bytes_of_another_kind_of_array_are_pixels_to_many_as_well():
    class Table:
        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return self.array

    images = Table(rng.integers(0, 256, (20, 4, 4, 1)).astype(np.uint8))
    one, other = (NeuralNetwork([nnc.layers.Input(4, 4, 1), 2], loss="cross_entropy", seed=0) for _ in range(2))
    one.fit(images, np.arange(20) % 2, epochs=2)
    nnc.fit_many([other], images, np.arange(20) % 2, epochs=2)
    assert other.converter.scaler_X == nnc.Pixels()
    assert (one.params == other.params).all()


def test_an_optimizer_named_in_a_step_leaves_the_rule():
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    net.fit(X, Y, epochs=3)
    net.train_step(X, Y, optimizer="adam")
    assert set(net.fit(X, Y, epochs=2).lr) == {0.001}


def test_files_whose_rule_does_not_fit_are_refused():
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    net.fit(X, Y, epochs=3)
    document = json.loads(net.to_json(checkpoint=True))
    del document["sha256"]
    document["training"]["schedule"]["epochs"] = None
    with pytest.raises(nnc.ModelFileError, match="by_rule"):
        nnc.from_json(json.dumps(document))


def falls(epoch):
    return 0.01 / (1 + epoch)


def test_a_task_after_a_function_as_rate_goes_by_it():
    nets = [NeuralNetwork([3, 2, 1], loss="mse", seed=0) for _ in range(2)]
    for net in nets:
        net.fit(X / 500, Y / 1000, epochs=2, lr=falls, optimizer="sgd")
    with ThreadPoolExecutor(1) as executor:
        nnc.fit_many([pickle.loads(pickle.dumps(nets[0]))], X / 500, Y / 1000, executor=executor)
    job = pickle.loads(pickle.dumps(Job(0, nets[0], FitArguments(batch_size=90), None, None)))
    assert job.arguments.given() == {"batch_size": 90}
    job = pickle.loads(pickle.dumps(Job(0, nets[0], FitArguments(epochs=1), None, None)))
    assert job.arguments.lr is not None
