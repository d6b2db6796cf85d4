"""scikit-learn: `fit` and `predict` of MLPClassifier and MLPRegressor."""

from time import perf_counter
from warnings import filterwarnings

import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from . import UnsupportedWork, repeat_predict

VERSION = f"scikit-learn {sklearn.__version__}"

filterwarnings("ignore", category=ConvergenceWarning)


def create_estimator(work):
    """Return an estimator that begins with the initial weights of a work."""
    base = {"cross_entropy": MLPClassifier, "mse": MLPRegressor}.get(work.loss)
    if base is None or not work.bias:
        raise UnsupportedWork("scikit-learn's networks have cross-entropy or mean squared error, and biases")
    initial_weights = iter(work.weights)

    class Estimator(base):
        # Override a private method, because scikit-learn has no public way to set initial weights.
        def _init_coef(self, fan_in, fan_out, dtype):
            W, b = next(initial_weights)
            return W.copy(), b.copy()

    # Factor of the learning rate: scikit-learn's loss is half the sum over the outputs, so its gradient is n_out / 2
    # times that of the mean.
    factor = 2 / work.sizes[-1] if base is MLPRegressor and work.optimizer == "sgd" else 1
    return Estimator(
        hidden_layer_sizes=work.sizes[1:-1], activation=work.hidden, solver=work.optimizer, alpha=0,
        momentum=0, nesterovs_momentum=False, learning_rate_init=work.lr * factor,
        batch_size=work.batch or work.rows, shuffle=work.batch is not None, random_state=0,
        max_iter=work.epochs, tol=0, n_iter_no_change=work.epochs + 1,
    )  # fmt: skip


def fit(work, threads):
    """Return the function `run`, which calls `fit` once, or `predict` many times if the work is prediction."""
    if not work.training:
        return repeat_predict(fit_initial_weights(work).predict, work)

    def run():
        model = create_estimator(work)
        start = perf_counter()
        model.fit(work.X, work.y)
        return perf_counter() - start, list(zip(model.coefs_, model.intercepts_, strict=True))

    return run


def fit_initial_weights(work):
    """Return an estimator with the weights `work.weights`, fitted with a learning rate that changes nothing."""
    model = create_estimator(work).set_params(max_iter=1, learning_rate_init=1e-30, batch_size="auto")
    return model.fit(work.X, work.y)


VARIANTS = {"fit": fit}
