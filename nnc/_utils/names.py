"""Suggestions for unknown names in error messages: synonyms from other packages, former names and typing errors.

This module is imported only when a message is needed.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
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
ARGUMENT_SYNONYMS = _invert(
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
# Current names of renamed methods and attributes, keyed by their former names.
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
    "to_keras": "nnc.to_keras",
}


def find_similar_name(name: str, choices: Iterable[str], synonyms: dict[str, str] = VALUE_SYNONYMS) -> str | None:
    """Return the choice that was probably meant, or None.

    It is the same name in another spelling, the choice of which `name` is a synonym, or the most similar choice.
    """
    by_key = {_normalize(choice): choice for choice in choices}
    key = _normalize(name)
    if key in by_key:
        return by_key[key]
    if synonyms.get(key) is not None and _normalize(synonyms[key].partition("=")[0]) in by_key:
        return synonyms[key]
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
    """Return the end of a message about an unknown argument: the argument that was probably meant.

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
    return ""


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
    hint = ""
    if not name.startswith("_"):
        public = [attribute for attribute in attributes if not attribute.startswith("_")]
        suggestion = FORMER_ATTRIBUTES.get(name) or find_similar_name(name, public, {})
        hint = "" if suggestion is None else f"; did you mean {suggestion}?"
    return AttributeError(f"{owner} has no attribute {name!r}{hint}")
