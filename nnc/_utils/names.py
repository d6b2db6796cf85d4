"""What somebody may have meant by a name that is not known: the names of other packages, and slips of the keyboard.

Imported when a message is made, and not before.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Names of PyTorch, Keras, scikit-learn and textbooks, without capitals and underscores, and what they are called here.
VALUES = {
    # activations
    "swish": "silu",
    "logistic": "sigmoid",
    "expit": "sigmoid",
    "linear": "identity",
    "none": "identity",
    "hyperbolictangent": "tanh",
    "lrelu": "leaky_relu",
    "exponential": "exp",
    "rectifier": "relu",
    # losses
    "binarycrossentropy": "bce",
    "bceloss": "bce",
    "bcewithlogitsloss": "bce",
    "logloss": "bce",
    "categoricalcrossentropy": "cross_entropy",
    "sparsecategoricalcrossentropy": "cross_entropy",
    "crossentropyloss": "cross_entropy",
    "nll": "cross_entropy",
    "nllloss": "cross_entropy",
    "mseloss": "mse",
    "meansquarederror": "mse",
    "squarederror": "mse",
    "l2loss": "mse",
    "l1loss": "mae",
    "meanabsoluteerror": "mae",
    "absoluteerror": "mae",
    "huberloss": "huber",
    "smoothl1loss": "huber",
    "sumofsquares": "sse",
    "pinball": "quantile",
    "poissonnllloss": "poisson",
    # initial weights
    "xavier": "glorot_uniform",
    "xavieruniform": "glorot_uniform",
    "xaviernormal": "glorot_normal",
    "glorot": "glorot_uniform",
    "kaiming": "he_uniform",
    "kaiminguniform": "he_uniform",
    "kaimingnormal": "he_normal",
    "he": "he_uniform",
    # optimizers
    "gd": "sgd",
    "gradientdescent": "sgd",
    "nesterov": "momentum",
    "lm": "levenberg_marquardt",
    "levenberg": "levenberg_marquardt",
    "resilientbackpropagation": "rprop",
    # scaling and metrics
    "standard": "standardize",
    "standardscaler": "standardize",
    "zscore": "standardize",
    "minmaxscaler": "minmax",
    "normalize": "minmax",
    "rescale": "pixels",
    "uint8": "pixels",
    "acc": "accuracy",
    "f1score": "f1",
    "r2score": "r2",
    "rootmeansquarederror": "rmse",
    "rocauc": "auc",
    "rocaucscore": "auc",
    "precisionscore": "precision",
    "recallscore": "recall",
    "meanabsolutepercentageerror": "mape",
}
ARGUMENTS = {
    "learningrate": "lr",
    "learningrateinit": "lr",
    "eta": "lr",
    "validationsplit": "validation",
    "validationdata": "validation",
    "validationfraction": "validation",
    "evalset": "validation",
    "callbacks": "callback",
    "nepochs": "epochs",
    "numepochs": "epochs",
    "nbepoch": "epochs",
    "maxiter": "epochs",
    "iterations": "epochs",
    "batch": "batch_size",
    "minibatchsize": "batch_size",
    "randomstate": "seed",
    "randomseed": "seed",
    "hiddenlayersizes": "layers",
    "layersizes": "layers",
    "sizes": "layers",
    "hidden": "layers",
    "activationfunction": "activation",
    "activations": "activation",
    "outputactivation": "output",
    "outactivation": "output",
    "lossfunction": "loss",
    "criterion": "loss",
    "objective": "loss",
    "usebias": "bias",
    "kernelinitializer": "init",
    "initializer": "init",
    "weightinit": "init",
    "solver": "optimizer",
    "optim": "optimizer",
    "alpha": "l2",
    "decay": "weight_decay",
    "momentum": "optimizer=nnc.SGD(momentum=...)",
    "gradclip": "clip_norm",
    "clipnorm": "clip_norm",
    "tol": "min_delta",
    "earlystopping": "patience",
    "restorebestweights": "restore_best",
    "savebestonly": "restore_best",
    "niternochange": "patience",
    "verbosity": "verbose",
    "njobs": "n_threads",
    "numthreads": "n_threads",
    "workers": "n_threads",
    "sampleweights": "sample_weight",
    "weights": "sample_weight",
    "classweights": "class_weight",
    "maxtime": "max_seconds",
    "timeout": "max_seconds",
    "units": "n",
    "neurons": "n",
    "rate": "lr",
    "beta": "betas",
    "epsilon": "eps",
}
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


def meant(name: str, known: Iterable[str], others: dict[str, str] = VALUES) -> str | None:
    """Which of the known names stands for this one, if any: the same in another spelling, the one that `others` has for
    it, or a similar one."""
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


def suggestion(name: str, known: Iterable[str]) -> str:
    """What a message about an unknown value ends with."""
    found = meant(name, known)
    return "" if found is None else f"; did you mean {found!r}?"


def argument_suggestion(name: str, known: Iterable[str], elsewhere: Mapping[str, Iterable[str]] | None = None) -> str:
    """The same of an unknown argument; `elsewhere` has the arguments of other functions by their names."""
    found = meant(name, known, ARGUMENTS)
    if found is not None:
        return f"; did you mean {found}?"
    for function, arguments in (elsewhere or {}).items():
        found = meant(name, arguments, ARGUMENTS)
        if found is not None:
            return f"; did you mean {found} of {function}?"
    return ""


def unknown_attribute(owner: str, name: str, known: Iterable[str]) -> AttributeError:
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
        found = FORMER_ATTRIBUTES.get(name) or meant(name, public, {})
        hint = "" if found is None else f"; did you mean {found}?"
    return AttributeError(f"{owner} has no attribute {name!r}{hint}")
