"""Export ONNX models with PyTorch and Keras, and store rows with the outputs that these frameworks compute.

    pip install torch keras onnx onnxscript
    python tools/foreign_models.py              # write models and outputs to tests/models/

Tests read the stored files without PyTorch and Keras. Weights are random, so each run and version writes other numbers.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
FOLDER = Path(__file__).parents[1] / "tests" / "models"


def modules():
    """Return for each name the layers of a PyTorch module and the shape of a row."""
    import torch
    from torch import nn

    class Recurrent(nn.Module):
        """Recurrent module with a function that selects a tensor from its result."""

        def __init__(self, recurrent, select, reverse=False):
            super().__init__()
            self.recurrent, self.select, self.reverse = recurrent, select, reverse

        def forward(self, x):
            return self.select(*self.recurrent(x.flip(1) if self.reverse else x))

    first = {"batch_first": True}
    lstm, gru = nn.LSTM(3, 4, 2, bidirectional=True, **first), nn.GRU(3, 4, bidirectional=True, **first)
    recurrent = {
        "lstm": [Recurrent(lstm, lambda outputs, states: outputs), nn.Linear(8, 2)],
        "lstm_state": [Recurrent(nn.LSTM(3, 4, **first), lambda outputs, states: states[0][-1]), nn.Linear(4, 2)],
        "gru": [Recurrent(gru, lambda outputs, states: torch.cat((states[-2], states[-1]), 1)), nn.Linear(8, 2)],
        "gru_reversed": [Recurrent(nn.GRU(3, 4, **first), lambda outputs, _: outputs[:, -1], True), nn.Linear(4, 2)],
    }
    return {
        **{name: (layers, (6, 3)) for name, layers in recurrent.items()},
        "classes": ([nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 3), nn.Softmax(1)], (5,)),
        "normed": ([nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4), nn.ELU(), nn.Linear(4, 1), nn.Sigmoid()], (5,)),
        "images": (
            [nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 3)],
            (2, 8, 8),
        ),
        "global_pool": (
            [nn.Conv2d(2, 3, 2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(3, 2)],
            (2, 8, 8),
        ),
        "causal": (
            [
                *(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(3, 4, 3, dilation=2), nn.BatchNorm1d(4), nn.ReLU()),
                *(nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2)),
            ],
            (3, 16),
        ),
        "sequences": (
            [
                *(nn.Conv1d(3, 4, 3, 2, 1), nn.Tanh(), nn.MaxPool1d(3, 2), nn.Conv1d(4, 5, 2, padding="same")),
                *(nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(5, 2)),
            ],
            (3, 16),
        ),
    }


def export_pytorch(folder):
    """Export models of PyTorch into a folder, and return rows (channels last) and outputs by file name.

    The old exporter writes files of two opsets. The new one ("dynamo") stores tensors in a second file.
    """
    import torch

    exported = {}
    for name, (layers, shape) in modules().items():
        module = torch.nn.Sequential(*layers).eval()
        X = torch.rand(7, *shape)
        for opset, dynamo in ((17, False), (20, False), (20, True)):
            options = {} if dynamo else {"dynamic_axes": {"X": {0: "n"}}, "input_names": ["X"]}
            file = f"pytorch_{name}_{'dynamo' if dynamo else opset}.onnx"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    module, (X,), str(folder / file), opset_version=opset, dynamo=dynamo, verbose=False, **options
                )
            rows = X if hasattr(layers[0], "recurrent") else X.movedim(1, -1)
            exported[file] = rows.numpy(), module(X).detach().numpy()
    return exported


def export_keras(folder):
    """Export models of Keras into a folder, and return rows and outputs by file name."""
    import keras
    from keras import layers

    exported = {}
    for name, shape, parts in (
        ("classes", (5,), [layers.Dense(4, "relu"), layers.Dense(4, "silu"), layers.Dense(3, "softmax")]),
        (
            "images",
            (8, 8, 2),
            [layers.Conv2D(3, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(2)],
        ),
        (
            "sequences",
            (16, 3),
            [
                *(layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"), layers.MaxPooling1D(2)),
                *(layers.Conv1D(5, 3, 2, padding="same"), layers.GlobalAveragePooling1D(), layers.Dense(2)),
            ],
        ),
    ):
        model = keras.Sequential([keras.Input(shape), *parts])
        X, file = np.random.default_rng(0).uniform(0, 1, (6, *shape)).astype("float32"), f"keras_{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported[file] = X, keras.ops.convert_to_numpy(model(X))
            model.export(str(folder / file), format="onnx", verbose=False)
    return exported


def normalize_file(path):
    """Remove descriptions and source locations from a model, and store tensors of a second file in the model itself."""
    import onnx

    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for part in (*model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
    onnx.save(model, path)
    Path(f"{path}.data").unlink(missing_ok=True)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    exported = export_pytorch(FOLDER) | export_keras(FOLDER)
    for file in exported:
        normalize_file(FOLDER / file)
    arrays = {}
    for file, (X, P) in exported.items():
        arrays |= {f"{file} X": X, f"{file} P": P}
    np.savez_compressed(FOLDER / "outputs.npz", **arrays)
    sys.stdout.write(f"{len(exported)} models written to {FOLDER}\n")
