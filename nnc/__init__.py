"""nnc: fast training of small neural networks.

    from nnc import NeuralNetwork
    net = NeuralNetwork([3, 4, 1], seed=0)
    history = net.fit(X, y, epochs=1500, lr=1.0)
    net.predict(X)

Networks
    NeuralNetwork([3, 4, 1], activation="tanh", loss="mse")  create a network; help(nnc.NeuralNetwork)
    net.fit(X, y, epochs=100, optimizer="adam", lr=0.01)     train; net.fit(X, y) chooses all settings itself
    net.predict(X), predict_classes, predict_proba, score    use a trained network
    net.save("net.json"), nnc.load("net.json")               write and read a model file
    net.to_onnx, to_c, to_python, to_js, to_torch            export; nnc.from_onnx, from_torch, from_keras import
    net.summary(), inspect(), explain_step(X, y, lr=0.1)     look at every number

Modules
    nnc.layers    Dense, Conv2D, LSTM, Dropout and other layers, for example NeuralNetwork([Input(3), Dense(1)])
    nnc.tabular   TableClassifier and TableRegressor for tables with numbers, categories, text and dates
    nnc.sklearn   MLPClassifier and MLPRegressor with the interface of scikit-learn
    nnc.forecast  Forecaster for one or many time series
    nnc.images    ImageClassifier for folders, files and arrays of images
    nnc.pde       differential equations in the loss
    nnc.datasets  iris, digits, MNIST, train_test_split
    nnc.plot      plots with matplotlib

Many networks
    nnc.fit_many, nnc.Ensemble, nnc.search                   train, average and choose networks
"""

# Names are imported when they are first used, so that `import nnc` is fast. `_NAMES` and `_MODULES` are the only list
# of public names; `python tools/public_names.py` writes __init__.pyi for type checkers from it.

from nnc._version import __version__  # noqa: F401

_MODULES = ("datasets", "layers", "plot", "reference")  # public modules that are attributes of nnc
# public names, by the module that defines them
_NAMES = {
    "_comparison": ("compare", "Comparison"),
    "_data.augment": ("augment",),
    "_data.conformal": ("ConformalIntervals", "ConformalSets"),
    "_data.metrics": ("Metric",),
    "_data.scaling": ("MinMax", "Pixels", "Standardize"),
    "_data.splits": ("LastRows",),
    "_inspection.explain": ("Explanation",),
    "_inspection.gradients": ("GradientCheck",),
    "_loading": ("from_json", "load"),
    "_model.cores": ("show_config",),
    "_model.custom": ("LeastSquares",),
    "_model.views": ("Layer",),
    "_network": ("NeuralNetwork",),
    "_network.functions": ("check_gradients", "input_gradients", "to_keras"),
    "_network.readers": ("from_keras", "from_onnx", "from_sklearn", "from_torch"),
    "_network.streaming": ("Stream",),
    "_online": ("OnlineClassifier", "OnlineRegressor"),
    "_parallel.clones": ("clones",),
    "_parallel.ensemble": ("Ensemble",),
    "_parallel.fit": ("fit_many",),
    "_parallel.history": ("ManyHistory",),
    "_parallel.per_network": ("PerNetwork",),
    "_parallel.search": ("search", "SearchResult"),
    "_report.network_report": ("report",),
    "_report.page": ("Report",),
    "_registry.heads": ("Head", "Heads"),
    "_registry.losses": ("CrossEntropy", "Huber", "Quantile"),
    "_registry.optimizers": (
        "Adagrad",
        "Adam",
        "AdamW",
        "LBFGS",
        "LevenbergMarquardt",
        "NAdam",
        "RMSprop",
        "Rprop",
        "SGD",
    ),
    "_serialization": ("ModelFileError",),
    "_team": ("Stepper",),
    "_training.advice": (
        "DeadLayerWarning",
        "DivergedWarning",
        "EqualNeuronsWarning",
        "FewRowsWarning",
        "LeakageWarning",
        "LearningRateWarning",
        "NotConvergedWarning",
        "OverfittingWarning",
        "SaturatedLayerWarning",
        "TargetRangeWarning",
        "TrainingWarning",
        "UnscaledInputWarning",
    ),
    "_training.callbacks": ("Checkpoint", "Progress", "Record"),
    "_training.divergence": ("DivergedError",),
    "_training.history": ("History",),
    "_training.live": ("LivePlot",),
    "_training.loggers": ("CSVLogger", "TensorBoard"),
    "_training.schedules": (
        "Constant",
        "CosineLogLR",
        "CosineLR",
        "ExponentialLR",
        "OneCycleLR",
        "PerStep",
        "ReduceLROnPlateau",
        "StepLR",
        "Warmup",
    ),
    "_utils.processors": ("get_num_threads", "set_num_threads"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(("__version__", *_MODULES, *_HOME))


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"nnc.{name}")
    if name not in _HOME:
        from nnc import layers
        from nnc._utils.names import unknown_name_error

        raise unknown_name_error("nnc", name, __all__, {layer: f"nnc.layers.{layer}" for layer in layers.__all__})
    value = globals()[name] = getattr(import_module(f"nnc.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__.copy()
