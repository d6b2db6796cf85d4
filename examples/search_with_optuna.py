"""Search for hyperparameters with Optuna (pip install optuna); nnc.fit_many trains the folds of a trial together.

nnc.search is random search with successive halving. A sampler that learns from earlier trials, as here, pays where
trials are few and long.
"""

import numpy as np
import optuna
from picture import save_picture

import nnc
from nnc import NeuralNetwork

FOLDS = 4


def objective(trial, X, y):
    """Return the validation loss, averaged over the folds."""
    width = trial.suggest_int("width", 4, 64, log=True)
    options = {
        "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        "l2": trial.suggest_float("l2", 1e-6, 1e-2, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [16, 32, 64]),
    }
    net = NeuralNetwork([X.shape[1], width, 1], activation="tanh", loss="mse", scale_X="standardize", seed=trial.number)
    networks = nnc.clones(net, FOLDS)
    fold = np.arange(len(X)) % FOLDS
    nnc.fit_many(networks, X, y, rows=[fold != k for k in range(FOLDS)], epochs=40, optimizer="adam", **options)
    return np.mean([network.evaluate_loss(X[fold == k], y[fold == k]) for k, network in enumerate(networks)])


def main(trials=20):
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (400, 3))
    y = np.sin(2 * X[:, 0]) * X[:, 1] + 0.1 * rng.normal(size=400)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(lambda trial: objective(trial, X, y), n_trials=trials)
    print(f"loss {study.best_value:.4f} with {study.best_params}")

    def draw(ax):
        ax.plot([trial.value for trial in study.trials], "o", label="trials")
        ax.plot(np.minimum.accumulate([trial.value for trial in study.trials]), label="lowest so far")
        ax.set_xlabel("trial")
        ax.set_ylabel("loss of held-out rows")
        ax.legend()

    save_picture(draw)
    return study.best_value


if __name__ == "__main__":
    main()
