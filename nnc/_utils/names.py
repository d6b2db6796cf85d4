"""Suggestions for unknown names in error messages: names of other packages, former names and typing errors.

This module is imported only when a message is needed.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def _by_their_names(names: Mapping[str, str]) -> dict[str, str]:
    """Return nnc's name for each name that is used elsewhere."""
    return {theirs: ours for ours, others in names.items() for theirs in others.split()}


# nnc's names, and those of PyTorch, Keras, scikit-learn and textbooks, without capitals and underscores.
VALUE_SYNONYMS = _by_their_names(
    {
        # activations
        "silu": "swish",
        "sigmoid": "logistic expit",
        "identity": "linear none",
        "tanh": "hyperbolictangent",
        "leaky_relu": "lrelu",
        "exp": "exponential",
        "relu": "rectifier",
        # losses
        "bce": "binarycrossentropy bceloss bcewithlogitsloss logloss",
        "cross_entropy": "categoricalcrossentropy sparsecategoricalcrossentropy crossentropyloss nll nllloss",
        "mse": "mseloss meansquarederror squarederror l2loss",
        "mae": "l1loss meanabsoluteerror absoluteerror",
        "huber": "huberloss smoothl1loss",
        "sse": "sumofsquares",
        "quantile": "pinball",
        "poisson": "poissonnllloss",
        # initial weights
        "glorot_uniform": "xavier xavieruniform glorot",
        "glorot_normal": "xaviernormal",
        "he_uniform": "kaiming kaiminguniform he",
        "he_normal": "kaimingnormal",
        # optimizers
        "sgd": "gd gradientdescent",
        "momentum": "nesterov",
        "levenberg_marquardt": "lm levenberg",
        "rprop": "resilientbackpropagation",
        # scaling and metrics
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
ARGUMENT_SYNONYMS = _by_their_names(
    {
        "lr": "learningrate learningrateinit eta rate",
        "validation": "validationsplit validationdata validationfraction evalset",
        "callback": "callbacks",
        "epochs": "nepochs numepochs nbepoch maxiter iterations",
        "batch_size": "batch minibatchsize",
        "seed": "randomstate randomseed",
        "layers": "hiddenlayersizes layersizes sizes hidden",
        "activation": "activationfunction activations",
        "output": "outputactivation outactivation",
        "loss": "lossfunction criterion objective",
        "bias": "usebias",
        "init": "kernelinitializer initializer weightinit",
        "optimizer": "solver optim",
        "l2": "alpha",
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
        "n": "units neurons",
        "betas": "beta",
        "eps": "epsilon",
    }
)
# Former names of methods and attributes, and the present ones, which error messages suggest.
FORMER_ATTRIBUTES = {
    "bias": "biases",
    "forgotten": "untracked_epochs",
    "check_gradients": "nnc.check_gradients",
    "from_json": "nnc.from_json",
    "from_keras": "nnc.from_keras",
    "from_onnx": "nnc.from_onnx",
    "from_sklearn": "nnc.from_sklearn",
    "from_torch": "nnc.from_torch",
    "hidden_layers": "layers[:-1]",
    "input_gradients": "nnc.input_gradients",
    "load": "nnc.load",
    "loss": "evaluate_loss",
    "output_layer": "layers[-1]",
    "plot": "draw",
}


def find_similar_name(name: str, known: Iterable[str], others: dict[str, str] = VALUE_SYNONYMS) -> str | None:
    """Return the name that was probably meant, or None.

    That is the same name in another spelling, the name that `others` has for it, or a similar one.
    """
    plain = {_plain(one): one for one in known}
    key = _plain(name)
    if key in plain:
        return plain[key]
    if others.get(key) is not None and _plain(others[key].partition("=")[0]) in plain:
        return others[key]
    similar = get_close_matches(key, plain, n=1, cutoff=0.75)
    return plain[similar[0]] if similar else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def suggest_value(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown value: the value that was probably meant."""
    found = find_similar_name(name, known)
    return "" if found is None else f"; did you mean {found!r}?"


def suggest_argument(name: str, known: Iterable[str], elsewhere: Mapping[str, Iterable[str]] | None = None) -> str:
    """Return the end of a message about an unknown argument: the argument that was probably meant.

    `elsewhere` has the arguments of other functions by the names of the functions.
    """
    found = find_similar_name(name, known, ARGUMENT_SYNONYMS)
    if found is not None:
        return f"; did you mean {found}?"
    for function, arguments in (elsewhere or {}).items():
        found = find_similar_name(name, arguments, ARGUMENT_SYNONYMS)
        if found is not None:
            return f"; did you mean {found} of {function}?"
    return ""


def unknown_attribute_error(owner: str, name: str, known: Iterable[str]) -> AttributeError:
    """Return the AttributeError for an unknown attribute, with the name that may have been meant.

    Parameters
    ----------
    owner : str
        The object in the words of Python's message: "'NeuralNetwork' object".
    name : str
    known : iterable of str
        The names of its attributes.
    """
    hint = ""
    if not name.startswith("_"):
        public = [attribute for attribute in known if not attribute.startswith("_")]
        found = FORMER_ATTRIBUTES.get(name) or find_similar_name(name, public, {})
        hint = "" if found is None else f"; did you mean {found}?"
    return AttributeError(f"{owner} has no attribute {name!r}{hint}")
