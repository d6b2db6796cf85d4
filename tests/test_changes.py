"""Tests of schedules for weight decay and dropout, whose values change from epoch to epoch."""

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")

rng = np.random.default_rng(0)
X, Y = rng.uniform(-1, 1, (40, 3)), rng.uniform(-1, 1, (40, 1))
DECAY = nnc.CosineLR(0.3, epochs=5)
DROPOUT = nnc.ExponentialLR(0.4, 0.5)


def build_network(**options):
    return NeuralNetwork([3, 40, 40, 1], activation="tanh", loss="mse", seed=0, **options)


@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("optimizer", [nnc.SGD(0.05), nnc.AdamW(0.01), nnc.Adam(0.01), nnc.SGD(0.01, momentum=0.9)])
@pytest.mark.parametrize("option", ["weight_decay", "dropout"])
def test_epoch_with_schedule_equals_fit_with_its_value(option, optimizer, batch_size):
    schedule = {"weight_decay": DECAY, "dropout": DROPOUT}[option]
    net, other = build_network(dtype="float32"), build_network(dtype="float32")
    settings = {"batch_size": batch_size, "l2": 1e-3, "n_threads": 1}
    net.fit(X, Y, epochs=5, optimizer=optimizer, **{option: schedule}, **settings)
    for epoch in range(5):
        first_epoch = {"optimizer": optimizer} if epoch == 0 else {}
        other.fit(X, Y, epochs=1, **{option: schedule(epoch)}, **first_epoch, **settings)
    assert net.params.tobytes() == other.params.tobytes()


def test_schedule_without_length_has_length_of_fit():
    nets = build_network(), build_network(), build_network()
    nets[0].fit(X, Y, epochs=6, optimizer="adamw", weight_decay=nnc.CosineLR(0.3), dropout=[0.1, nnc.CosineLR(0.2)])
    nets[1].fit(
        X, Y, epochs=6, optimizer="adamw", weight_decay=nnc.CosineLR(0.3, 6), dropout=[0.1, nnc.CosineLR(0.2, 6)]
    )
    nets[2].fit(
        X, Y, epochs=2, optimizer="adamw", weight_decay=nnc.CosineLR(0.3, 6), dropout=[0.1, nnc.CosineLR(0.2, 6)]
    )
    nets[2].fit(X, Y, epochs=4, weight_decay=nnc.CosineLR(0.3, 6), dropout=[0.1, nnc.CosineLR(0.2, 6)])
    assert len({net.params.tobytes() for net in nets}) == 1


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_schedules_give_same_bits_in_fit_batches_and_with_threads(n_threads):
    rows = [(X[:30], Y[:30]), (X[30:], Y[30:])]
    net, other = build_network(dtype="float32"), build_network(dtype="float32")
    options = {"weight_decay": DECAY, "dropout": DROPOUT, "optimizer": "adamw"}
    net.fit_batches(rows, epochs=4, n_threads=n_threads, **options)
    other.fit(X, Y, epochs=4, batch_size=30, shuffle=False, n_threads=n_threads, **options)
    assert net.params.tobytes() == other.params.tobytes()
    # The batch has enough rows for several blocks, which are distributed to the threads.
    threaded, single = build_network(dtype="float32"), build_network(dtype="float32")
    rows, targets = np.tile(X, (20, 1)), np.tile(Y, (20, 1))
    threaded.fit(rows, targets, epochs=3, n_threads=n_threads, **options)
    single.fit(rows, targets, epochs=3, n_threads=1, **options)
    assert threaded.params.tobytes() == single.params.tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": -1}, "weight_decay must be a finite number, 0 or more, got -1"),
        ({"weight_decay": lambda epoch: -1}, "weight_decay must be a finite number, 0 or more, got -1"),
        ({"weight_decay": nnc.CosineLR, "optimizer": "adam"}, "weight_decay must be a number, a schedule or a functi"),
        ({"dropout": lambda epoch: 1.0}, "dropout must be at least 0 and less than 1, got 1.0"),
        ({"dropout": nnc.ReduceLROnPlateau(0.1)}, "dropout must be a number, a schedule or a function of the epoch"),
        ({"dropout": [DROPOUT]}, "dropout must be a number, or a list with one number per hidden layer (here 2)"),
        (
            {"dropout": nnc.CosineLR(0.1), "epochs": None, "patience": 3},
            "a fit without epochs requires a schedule of a fixed length",
        ),
    ],
)
def test_invalid_weight_decay_or_dropout_is_rejected(options, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        build_network().fit(X, Y, **{"epochs": 3, **options})
    assert message in str(caught.value)
