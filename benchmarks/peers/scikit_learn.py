"""scikit-learn: `fit` and `predict` of MLPClassifier and MLPRegressor."""

from time import perf_counter
from warnings import filterwarnings

import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from . import UnsupportedWorkload, repeat_predict

VERSION = f"scikit-learn {sklearn.__version__}"

filterwarnings("ignore", category=ConvergenceWarning)


def create_estimator(workload):
    """Return an estimator that begins with the initial weights of a workload."""
    base = {"cross_entropy": MLPClassifier, "mse": MLPRegressor}.get(workload.loss)
    if base is None or not workload.bias:
        raise UnsupportedWorkload("scikit-learn's networks have cross-entropy or mean squared error, and biases")
    initial_weights = iter(workload.weights)

    class Estimator(base):
        # Override a private method, because scikit-learn has no public way to set initial weights.
        def _init_coef(self, fan_in, fan_out, dtype):
            W, b = next(initial_weights)
            return W.copy(), b.copy()

    # Factor of the learning rate: scikit-learn's loss is half the sum over the outputs, so its gradient is n_out / 2
    # times that of the mean.
    factor = 2 / workload.sizes[-1] if base is MLPRegressor and workload.optimizer == "sgd" else 1
    return Estimator(
        hidden_layer_sizes=workload.sizes[1:-1], activation=workload.hidden, solver=workload.optimizer, alpha=0,
        momentum=0, nesterovs_momentum=False, learning_rate_init=workload.lr * factor,
        batch_size=workload.batch or workload.rows, shuffle=workload.batch is not None, random_state=0,
        max_iter=workload.epochs, tol=0, n_iter_no_change=workload.epochs + 1,
    )  # fmt: skip


def fit(workload, threads):
    """Return the function `run`, which calls `fit` once, or `predict` many times if the workload is prediction."""
    if not workload.training:
        return repeat_predict(fit_initial_weights(workload).predict, workload)

    def run():
        model = create_estimator(workload)
        start = perf_counter()
        model.fit(workload.X, workload.y)
        return perf_counter() - start, list(zip(model.coefs_, model.intercepts_, strict=True))

    return run


def fit_initial_weights(workload):
    """Return an estimator with the weights `workload.weights`, fitted with a learning rate that changes nothing."""
    model = create_estimator(workload).set_params(max_iter=1, learning_rate_init=1e-30, batch_size="auto")
    return model.fit(workload.X, workload.y)


VARIANTS = {"fit": fit}
