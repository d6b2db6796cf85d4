"""What the docstrings of both MLP estimators say of what scikit-learn has not."""

FURTHER = """
    All of scikit-learn's parameters and attributes are there, with the same meanings and defaults. Below is what
    scikit-learn has not.

    Parameters
    ----------
    activation : str or list of str
        Also "sigmoid" (as "logistic") and every other hidden activation of nnc, such as "gelu"; or a list of names, one
        for each hidden layer.
    solver : str or object
        Also "adamw", "rmsprop", "adagrad", "nadam", "rprop", which take `learning_rate_init` (and beta_1, beta_2 and
        epsilon where they have them), "levenberg_marquardt" for squared errors, or an object such as
        nnc.RMSprop(lr=0.01, momentum=0.9), which brings all of its constants.
    learning_rate : str, schedule or callable
        Also a schedule such as nnc.CosineLR(0.1), or a function of the epoch, for every stochastic solver.{loss}
    dropout : float or list of one for each hidden layer, default=0.0
        The share of a layer's outputs that each training step drops.
    max_seconds : float, default=None
        Ends the training after this time.
    callback : callable or list of them, default=None
        Called after every iteration with a record: `epoch`, `loss`, `val_loss` and `val_score` where there are
        validation rows, `lr`, `seconds`, `best`, `network`. Returns True to end the training.
    n_threads : int, default=None
        Default: as many as pay, and no more than joblib, threadpoolctl and the usual environment variables allow. The
        result is the same for every number.

    Attributes
    ----------
    network_ : nnc.NeuralNetwork
        The network, whose weights `coefs_` are: `network_.save("model.json")`, `network_.inspect()`.
    validation_loss_curve_ : list or None
        The loss of the validation rows after every iteration, without the penalty; None where there are none.
    """
