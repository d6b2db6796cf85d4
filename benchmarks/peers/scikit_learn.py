"""scikit-learn: MLPClassifier and MLPRegressor, their own fit and predict."""

from time import perf_counter
from warnings import filterwarnings

import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from . import Unsupported, repeat

VERSION = f"scikit-learn {sklearn.__version__}"

filterwarnings("ignore", category=ConvergenceWarning)


def estimator(work):
    kind = {"cross_entropy": MLPClassifier, "mse": MLPRegressor}.get(work.loss)
    if kind is None or not work.bias:
        raise Unsupported("it has neither this loss with a sigmoid output nor networks without bias")
    start = iter(work.weights)

    class Estimator(kind):
        def _init_coef(self, fan_in, fan_out, dtype):  # the only door for initial weights
            W, b = next(start)
            return W.copy(), b.copy()

    # Its squared error is half a sum over the outputs: the gradient of the mean is that times 2 / n_out.
    factor = 2 / work.sizes[-1] if kind is MLPRegressor and work.optimizer == "sgd" else 1
    return Estimator(
        hidden_layer_sizes=work.sizes[1:-1], activation=work.hidden, solver=work.optimizer, alpha=0,
        momentum=0, nesterovs_momentum=False, learning_rate_init=work.lr * factor,
        batch_size=work.batch or work.rows, shuffle=work.batch is not None, random_state=0,
        max_iter=work.epochs, tol=0, n_iter_no_change=work.epochs + 1,
    )  # fmt: skip


def fit(work, threads):
    if not work.training:
        return repeat(fitted(work).predict, work)

    def run():
        model = estimator(work)
        start = perf_counter()
        model.fit(work.X, work.y)
        return perf_counter() - start, list(zip(model.coefs_, model.intercepts_, strict=True))

    return run


def fitted(work):
    """An estimator with exactly `work.weights`: one step of fit with a rate of 0."""
    model = estimator(work).set_params(max_iter=1, learning_rate_init=1e-30, batch_size="auto")
    return model.fit(work.X, work.y)


WAYS = {"fit": fit}
