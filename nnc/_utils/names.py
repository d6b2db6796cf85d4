"""Suggestions for unknown names in error messages: synonyms from other packages, former names and typing errors.

This module is imported only when a message is needed.
"""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def _invert(names: Mapping[str, str]) -> dict[str, str]:
    """Return a dict from each synonym to its name; the values of `names` are synonyms separated by spaces."""
    return {synonym: name for name, synonyms in names.items() for synonym in synonyms.split()}


# Synonyms in PyTorch, Keras, scikit-learn and textbooks, in lower case without underscores, for each name of nnc.
VALUE_SYNONYMS = _invert(
    {
        # Synonyms of activations.
        "silu": "swish",
        "sigmoid": "logistic expit",
        "identity": "linear none",
        "tanh": "hyperbolictangent",
        "leaky_relu": "lrelu",
        "exp": "exponential",
        "relu": "rectifier",
        # Synonyms of losses.
        "bce": "binarycrossentropy bceloss bcewithlogitsloss logloss",
        "cross_entropy": "categoricalcrossentropy sparsecategoricalcrossentropy crossentropyloss nll nllloss",
        "mse": "mseloss meansquarederror squarederror l2loss",
        "mae": "l1loss meanabsoluteerror absoluteerror",
        "huber": "huberloss smoothl1loss",
        "sse": "sumofsquares",
        "quantile": "pinball",
        "poisson": "poissonnllloss",
        # Synonyms of weight initializations.
        "glorot_uniform": "xavier xavieruniform glorot",
        "glorot_normal": "xaviernormal",
        "he_uniform": "kaiming kaiminguniform he",
        "he_normal": "kaimingnormal",
        # Synonyms of optimizers.
        "sgd": "gd gradientdescent",
        "momentum": "nesterov",
        "levenberg_marquardt": "lm levenberg",
        "rprop": "resilientbackpropagation",
        # Synonyms of scalings and metrics.
        "standardize": "standard standardscaler zscore",
        "minmax": "minmaxscaler normalize",
        "pixels": "rescale uint8",
        "accuracy": "acc",
        "f1": "f1score",
        "r2": "r2score",
        "rmse": "rootmeansquarederror",
        "auc": "rocauc rocaucscore",
        "precision": "precisionscore",
        "recall": "recallscore",
        "mape": "meanabsolutepercentageerror",
    }
)
# Synonyms of each argument. A key with several names, separated by spaces, stands for the first of them that the
# function has.
ARGUMENT_SYNONYMS = _invert(
    {
        "lr": "learningrate learningrateinit eta rate",
        "validation": "validationsplit validationdata validationfraction evalset",
        "callback": "callbacks",
        "epochs": "nepochs numepochs nbepoch maxiter maxepochs niter iterations",
        "batch_size": "batch minibatchsize",
        "seed": "randomstate randomseed",
        "layers": "hiddenlayersizes layersizes sizes hidden hiddendim inputdim inputsize infeatures",
        "activation": "activationfunction activations nonlinearity",
        "output": "outputactivation outactivation",
        "loss": "lossfunction criterion objective",
        "bias": "usebias",
        "init": "kernelinitializer initializer weightinit",
        "optimizer": "solver optim",
        "l2": "alpha kernelregularizer regularization",
        "weight_decay": "decay",
        "optimizer=nnc.SGD(momentum=...)": "momentum",
        "clip_norm": "gradclip clipnorm",
        "min_delta": "tol",
        "patience": "earlystopping niternochange",
        "restore_best": "restorebestweights savebestonly",
        "verbose": "verbosity",
        "n_threads": "njobs numthreads workers",
        "sample_weight": "sampleweights weights",
        "class_weight": "classweights",
        "max_seconds": "maxtime timeout",
        "n units filters": "n units filters neurons hiddensize outfeatures outchannels",
        "rate": "p dropoutrate",
        "size": "kernelsize poolsize",
        "X": "inputs features",
        "y": "targets target labels",
        "betas": "beta",
        "eps": "epsilon",
    }
)
ARGUMENT_STATEMENTS = _invert(
    {
        "omit it, because a layer gets its number of inputs from the previous layer": (
            "inputsize infeatures inchannels inputdim inputshape numfeatures"
        ),
        "list one object for each layer, with return_sequences=True in all recurrent layers but the last": "numlayers",
        "omit it, because sequences have the shape (rows, steps, features)": "batchfirst timemajor",
        "use net.stream(), which keeps the states between calls": "stateful returnstate",
        "omit it, because networks run on the processor": "device",
    }
)  # ends of messages about arguments of other packages that nnc does not have
# For each name, a suggestion. Names separated by spaces are former names of nnc, and names of PyTorch, Keras and
# scikit-learn. A suggestion that begins with "nnc " is a statement; all others complete "did you mean ...?".
OTHER_ATTRIBUTES = _invert(
    {
        # Former names of nnc, and functions that are not methods.
        "biases": "bias intercepts_",
        "untracked_epochs": "forgotten",
        "nnc.check_gradients": "check_gradients",
        "nnc.from_json": "from_json",
        "nnc.from_keras": "from_keras",
        "nnc.from_onnx": "from_onnx",
        "nnc.from_sklearn": "from_sklearn",
        "nnc.from_torch": "from_torch",
        "layers[:-1]": "hidden_layers",
        "nnc.input_gradients": "input_gradients",
        "nnc.load": "load load_model",
        "evaluate_loss": "loss",
        "layers[-1]": "output_layer",
        "draw": "plot",
        "nnc.to_keras": "to_keras",
        # Networks.
        "NeuralNetwork": "Sequential Model Module MLP Network",
        "nnc.layers": "nn",
        "nnc.sklearn.MLPClassifier": "MLPClassifier",
        "nnc.sklearn.MLPRegressor": "MLPRegressor",
        "nnc.tabular.TableClassifier": "TableClassifier",
        "nnc.tabular.TableRegressor": "TableRegressor",
        "nnc has no add; pass all layers to NeuralNetwork, such as [Input(3), Dense(4), Dense(1)]": "add",
        "nnc has no compile; pass loss= to NeuralNetwork, and optimizer= and lr= to fit": "compile",
        # Layers. Names of layers of nnc are not in this list.
        "nnc.layers.Dense": "Linear",
        "nnc.layers.Input": "InputLayer",
        "nnc.layers.Conv1D": "Conv1d",
        "nnc.layers.Conv2D": "Conv2d",
        "nnc.layers.MaxPool1D": "MaxPool1d MaxPooling1D",
        "nnc.layers.MaxPool2D": "MaxPool2d MaxPooling2D",
        "nnc.layers.AvgPool1D": "AvgPool1d AveragePooling1D",
        "nnc.layers.AvgPool2D": "AvgPool2d AveragePooling2D",
        "nnc.layers.GlobalAvgPool1D": "GlobalAveragePooling1D AdaptiveAvgPool1d",
        "nnc.layers.GlobalAvgPool2D": "GlobalAveragePooling2D AdaptiveAvgPool2d",
        "nnc.layers.GlobalMaxPool1D": "GlobalMaxPooling1D AdaptiveMaxPool1d",
        "nnc.layers.BatchNorm": "BatchNormalization BatchNorm1d BatchNorm2d",
        "nnc.layers.SimpleRNN": "RNN",
        "Dense(4, 'relu')": "Activation ReLU Sigmoid Tanh Softmax",
        "nnc has no attention layers; GRU, LSTM and Conv1D process sequences": (
            "Attention MultiHeadAttention MultiheadAttention Transformer TransformerEncoder TransformerEncoderLayer"
        ),
        "nnc has no embeddings; nnc.tabular encodes categories, and other networks accept one-hot columns": "Embedding",
        "nnc has no such normalization; use BatchNorm, or scale_X": (
            "LayerNorm LayerNormalization GroupNorm GroupNormalization InstanceNorm2d"
        ),
        "nnc has no such convolution; use Conv1D or Conv2D": (
            "Conv3D Conv3d ConvTranspose1d ConvTranspose2d Conv1DTranspose Conv2DTranspose DepthwiseConv2D "
            "SeparableConv2D"
        ),
        "nnc has no networks with branches; each layer has one input": "Add Concatenate Multiply Lambda",
        # Training.
        "fit": "train fit_transform",
        "net.fit(X, y, validation=0.2, patience=10)": "EarlyStopping",
        "Checkpoint": "ModelCheckpoint",
        "net.fit(X, y, epochs=100, lr=function)": "LearningRateScheduler LambdaLR",
        "CosineLR": "CosineAnnealingLR CosineDecay CosineAnnealingWarmRestarts",
        "ExponentialLR": "ExponentialDecay",
        "nnc.Adam or nnc.SGD": "optim optimizers",
        "net.fit(X, y, batch_size=32) or net.fit_batches": "DataLoader Dataset TensorDataset",
        "fit_batches": "fit_generator",
        "train_step": "partial_fit train_on_batch step",
        "gradients": "backward grad autograd GradientTape",
        "nnc has no zero_grad; train_step and gradients start from zero": "zero_grad",
        "nnc has no modes; predict uses no dropout": "eval training no_grad inference_mode",
        "nnc has no GPU support; networks run on the processor": "cuda cpu gpu device",
        "nnc has no tensors; use NumPy arrays or lists": "tensor Tensor from_numpy as_tensor",
        "nnc has no to_categorical; loss='cross_entropy' accepts labels": "to_categorical one_hot OneHotEncoder",
        "nnc.search": "GridSearchCV RandomizedSearchCV",
        "nnc.Ensemble": "BaggingClassifier BaggingRegressor VotingClassifier",
        "nnc.datasets.train_test_split": "train_test_split",
        "nnc.datasets.load_iris": "load_iris",
        "nnc.datasets.load_digits": "load_digits",
        "nnc.datasets.load_mnist": "load_mnist",
        # Losses and scalings.
        "NeuralNetwork([3, 4, 1], loss='mse')": "MSELoss MeanSquaredError mean_squared_error",
        "NeuralNetwork([3, 4, 1], loss='mae')": "L1Loss MeanAbsoluteError",
        "NeuralNetwork([3, 4, 1], loss='bce')": "BCELoss BCEWithLogitsLoss BinaryCrossentropy",
        "CrossEntropy": "CrossEntropyLoss CategoricalCrossentropy SparseCategoricalCrossentropy",
        "Huber": "HuberLoss SmoothL1Loss",
        "Standardize": "StandardScaler",
        "MinMax": "MinMaxScaler",
        # Methods and attributes of networks.
        "score or evaluate_loss": "evaluate",
        "predict": "call predict_on_batch",
        "params": "parameters named_parameters trainable_weights trainable_variables state_dict load_state_dict",
        "weights": "coefs_ get_weights set_weights",
        "history.loss": "loss_curve_ loss_",
        "astype": "to half double",
    }
)


def find_similar_name(name: str, choices: Iterable[str], synonyms: dict[str, str] = VALUE_SYNONYMS) -> str | None:
    """Return the choice that was probably meant, or None.

    It is the same name in another spelling, the choice of which `name` is a synonym, or the most similar choice.
    """
    by_key = {_normalize(choice): choice for choice in choices}
    key = _normalize(name)
    if key in by_key:
        return by_key[key]
    for meant in synonyms.get(key, "").split():
        if _normalize(meant.partition("=")[0]) in by_key:
            return meant
    similar = get_close_matches(key, by_key, n=1, cutoff=0.75)
    return by_key[similar[0]] if similar else None


def _normalize(name: str) -> str:
    """Return a name in lower case without underscores and punctuation."""
    return re.sub(r"[\W_]", "", name.lower())


def suggest_value(name: str, choices: Iterable[str]) -> str:
    """Return the end of a message about an unknown value: the value that was probably meant."""
    suggestion = find_similar_name(name, choices)
    return "" if suggestion is None else f"; did you mean {suggestion!r}?"


def suggest_argument(name: str, arguments: Iterable[str], others: Mapping[str, Iterable[str]] | None = None) -> str:
    """Return the end of a message about an unknown argument: the argument that was probably meant, or a statement.

    Parameters
    ----------
    name : str
        The unknown argument.
    arguments : iterable of str
        Arguments of the function that was called.
    others : dict, optional
        Arguments of other functions, by the name of the function.
    """
    suggestion = find_similar_name(name, arguments, ARGUMENT_SYNONYMS)
    if suggestion is not None:
        return f"; did you mean {suggestion}?"
    for function, choices in (others or {}).items():
        suggestion = find_similar_name(name, choices, ARGUMENT_SYNONYMS)
        if suggestion is not None:
            return f"; did you mean {suggestion} of {function}?"
    statement = ARGUMENT_STATEMENTS.get(_normalize(name))
    return "" if statement is None else f"; {statement}"


def unknown_name_error(
    module: str, name: str, names: Iterable[str], others: Mapping[str, str] | None = None
) -> AttributeError | ImportError:
    """Return the error that the `__getattr__` of a package raises for an unknown name.

    The error is an AttributeError for `package.name`, and an ImportError with a hint for `from package import name`.
    Python would replace an AttributeError by an ImportError without the hint. Such an import is recognized by its
    caller, the function `_handle_fromlist` of importlib.

    Parameters
    ----------
    module : str
        Name of the package.
    name : str
        The unknown name.
    names : iterable of str
        Public names of the package.
    others : dict, optional
        Suggestions for public names of other packages, such as "nnc.layers.Dense" for "Dense".
    """
    hint = f"; did you mean {others[name]}?" if others and name in others else attribute_hint(name, names)
    caller = sys._getframe(1).f_back  # frame that called `__getattr__`; None in a call from C
    is_import = caller is not None and caller.f_code.co_name == "_handle_fromlist"
    if hint and is_import and find_spec(f"{module}.{name}") is None:  # importlib imports submodules itself
        return ImportError(f"cannot import name {name!r} from {module!r}{hint}", name=module)
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


def unknown_attribute_error(owner: str, name: str, attributes: Iterable[str]) -> AttributeError:
    """Return the AttributeError for an unknown attribute, with the name that may have been meant.

    Parameters
    ----------
    owner : str
        The object as the messages of Python name it: "'NeuralNetwork' object".
    name : str
        The unknown attribute.
    attributes : iterable of str
        Names of the existing attributes.
    """
    return AttributeError(f"{owner} has no attribute {name!r}{attribute_hint(name, attributes)}")


def attribute_hint(name: str, attributes: Iterable[str]) -> str:
    """Return the end of a message about an unknown attribute: the name that may have been meant, or a statement."""
    if name.startswith("_"):
        return ""
    public = [attribute for attribute in attributes if not attribute.startswith("_")]
    suggestion = OTHER_ATTRIBUTES.get(name) or find_similar_name(name, public, {})
    if suggestion is None:
        return ""
    return f"; {suggestion}" if suggestion.startswith("nnc ") else f"; did you mean {suggestion}?"
