"""A search by Optuna (pip install optuna) whose trials are folds, trained side by side by nnc.fit_many.

nnc.search is random search with successive halving. Where trials are few and long, a sampler that learns from the
trials before is worth its time: this is the recipe.
"""

import numpy as np
import optuna
from picture import drawn

import nnc
from nnc import NeuralNetwork

FOLDS = 4


def objective(trial, X, y):
    """The loss of held-out rows, the mean over the folds."""
    width = trial.suggest_int("width", 4, 64, log=True)
    options = {
        "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        "l2": trial.suggest_float("l2", 1e-6, 1e-2, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [16, 32, 64]),
    }
    net = NeuralNetwork([X.shape[1], width, 1], activation="tanh", loss="mse", scale_X="standardize", seed=trial.number)
    networks = nnc.clones(net, FOLDS)
    held = np.arange(len(X)) % FOLDS
    nnc.fit_many(networks, X, y, rows=[held != k for k in range(FOLDS)], epochs=40, optimizer="adam", **options)
    return np.mean([network.evaluate_loss(X[held == k], y[held == k]) for k, network in enumerate(networks)])


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
        ax.plot(np.minimum.accumulate([trial.value for trial in study.trials]), label="the best so far")
        ax.set_xlabel("trial")
        ax.set_ylabel("loss of held-out rows")
        ax.legend()

    drawn(draw)
    return study.best_value


if __name__ == "__main__":
    main()
