"""ONNX models as the exporters of PyTorch and Keras write them, with rows and what their own frameworks say of these.

    pip install torch keras onnx onnxscript
    python tools/foreign_models.py              # writes them to tests/models/, where tests read them without these

Weights are drawn, so another run or version writes others; what nnc is to read of them stays the same.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
FOLDER = Path(__file__).parents[1] / "tests" / "models"


def modules():
    """Modules of PyTorch by their names, with the shape of a row."""
    from torch import nn

    return {
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
    }


def of_pytorch(folder):
    """Writes models of PyTorch into a folder: by the old exporter for two opsets, and by the new one ("dynamo"), which
    puts tensors into a file beside the model. Rows, channels last, and outputs by the names of files."""
    import torch

    made = {}
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
            rows = X.permute(0, 2, 3, 1) if len(shape) == 3 else X
            made[file] = rows.numpy(), module(X).detach().numpy()
    return made


def of_keras(folder):
    """The same of Keras' own exporter."""
    import keras
    from keras import layers

    made = {}
    for name, shape, parts in (
        ("classes", (5,), [layers.Dense(4, "relu"), layers.Dense(4, "silu"), layers.Dense(3, "softmax")]),
        (
            "images",
            (8, 8, 2),
            [layers.Conv2D(3, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(2)],
        ),
    ):
        model = keras.Sequential([keras.Input(shape), *parts])
        X, file = np.random.default_rng(0).uniform(0, 1, (6, *shape)).astype("float32"), f"keras_{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made[file] = X, keras.ops.convert_to_numpy(model(X))
            model.export(str(folder / file), format="onnx", verbose=False)
    return made


def stripped(path):
    """Takes out of a model what no reader needs and what says where it was written, lines of source and their files,
    and takes in the tensors beside it."""
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
    made = of_pytorch(FOLDER) | of_keras(FOLDER)
    for file in made:
        stripped(FOLDER / file)
    arrays = {f"{file} {what}": part for file, both in made.items() for what, part in zip("XP", both, strict=True)}
    np.savez_compressed(FOLDER / "outputs.npz", **arrays)
    sys.stdout.write(f"{len(made)} models in {FOLDER}\n")
