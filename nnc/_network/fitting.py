"""Training of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc._network.parameters import Parameters
from nnc._training.arguments import FitArguments
from nnc._utils.checks import suggest_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import ArrayLike

    from nnc._data.derivatives import GradientsLike
    from nnc._registry.optimizers import Optimizer
    from nnc._team import Stepper
    from nnc._training.callbacks import Record
    from nnc._training.history import History
    from nnc._training.schedules import Schedule


class Fitting(Parameters):
    """Training on arrays, on batches and in single steps."""

    @suggest_arguments(elsewhere="__init__")
    def fit(
        self,
        X: ArrayLike,
        y: Any,
        *,
        epochs: int | None = None,
        lr: float | Schedule | Callable[[int], float] | None = None,
        optimizer: str | Optimizer | None = None,
        preset: str | None = None,
        reset_optimizer: bool = False,
        batch_size: int | None = None,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: Any = None,
        validation: Any = None,
        metrics: Any = (),
        l1: float = 0.0,
        l2: float = 0.0,
        weight_decay: float | Schedule | Callable[[int], float] | None = None,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        regularize_bias: bool = False,
        patience: int | None = None,
        min_delta: float | None = None,
        monitor: str | None = None,
        restore_best: bool | str | None = None,
        target_loss: float | None = None,
        max_seconds: float | None = None,
        callback: Callable[[Record], Any] | Sequence[Callable[[Record], Any]] | None = None,
        progress: bool = False,
        verbose: int = 0,
        n_threads: int | None = None,
    ) -> History:
        """Trains the network, going on from where it is.

        Parameters
        ----------
        X : array (n, n_in)
            Or a frame, a tensor, lists. Names of columns are remembered, see `feature_names`. A numpy.memmap of the
            network's dtype is used where it is; another one is read batch by batch, where batch_size is given and
            `validation` is no fraction.
        y : array (n, n_out), or (n,)
            As in `evaluate_loss`. Labels of any kind with "cross_entropy", "bce" (two of them, one output) and "hinge":
            the first fit learns which classes there are, see `classes`. Bytes and dates become text.
        epochs : int, optional
            Passes over the data. May be left out where another rule ends the training: patience, target_loss,
            max_seconds or a callback; or with lr and optimizer, see Notes.
        lr : float, schedule or callable, optional
            Learning rate: a number, a schedule such as nnc.CosineLR(0.1), or a function of the epoch, which is counted
            from 0 since the optimizer began. A function has to be given again after `load`. Default: as before, at
            first the optimizer's; without one see Notes.
        optimizer : str or object, optional
            "sgd", "momentum" (SGD with momentum 0.9), "adam", "adamw", "rmsprop", "adagrad", "nadam", "rprop", "lbfgs",
            "levenberg_marquardt", or an object such as nnc.SGD(lr=0.1, momentum=0.9). One with the settings of the
            optimizer before continues it, with its moments and its place in the schedule, also after `load` of a
            checkpoint; another one starts anew. Default: the optimizer before; at first "sgd", without lr see Notes.
        preset : "auto", "plain" or None, default None
            How settings are chosen that are not named. "auto" applies the automatic rule (see Notes) to each setting
            that is not named: optimizer, lr, batch_size, epochs, scalings. "plain" switches the rule off: plain
            gradient descent with all rows in a step. None is "auto" if neither lr nor optimizer is named and the
            network has no optimizer of an earlier plain fit to continue with; otherwise it is "plain".
            `history.settings` and `summary` show the resolved settings.
        reset_optimizer : bool, default False
            Whether the optimizer starts anew, whatever its settings: with moments, steps and epochs at 0.
        batch_size : int, optional
            Rows in a step; the last of an epoch takes what is left. Default: all, one step an epoch, but see Notes.
        shuffle : bool, default True
            Whether mini-batches take the rows in a new order every epoch, which `seed` determines. One batch of all
            rows is not shuffled.
        sample_weight : array (n,), optional
            How much each row counts: a row of weight 2 is as good as two rows, but to a BatchNorm, to which all count
            the same.
        class_weight : "balanced" or dict, optional
            Multiplies the weight of each row by that of its class; "balanced" is n / (number of classes * rows of it).
        validation : (X, y), (X, y, sample_weight) or a fraction, optional
            Rows whose loss is computed after every epoch, and which are not trained on. A fraction of the rows is split
            off by `seed`, with the same share of every class.
        metrics : str, function or nnc.Metric, or several in a list
            Columns of the History, of the validation rows where there are any (then "val_accuracy" and so on), else of
            the training rows. With losses of classes "accuracy", "balanced_accuracy", "f1", "precision", "recall",
            "auc", "log_loss", else "r2", "mae", "mape", "rmse", as scikit-learn has them (see nnc._data.metrics); a
            function of y_true and y_pred, such as scikit-learn's, by its name: nnc.Metric says more about it.
        l1, l2 : float, default 0
            Penalties: the loss gets l1 sum |W| + l2 sum W**2 / 2.
        weight_decay : float, schedule or callable, optional
            In place of the optimizer's, in this fit: a number, or one for each epoch as `lr` has them.
        dropout : float, schedule or callable, or one for each hidden layer, default 0
            The share of a layer's outputs that each training step drops; the others are scaled up (Srivastava et al.,
            2014). `predict` drops nothing. A schedule or a function gives the share of each epoch, as `lr` does its
            rate. One for all drops nothing of a Scale.
        clip_norm, clip_value : float, optional
            Scales the gradient down to this Euclidean norm; keeps each of its numbers within -clip_value to clip_value.
        max_norm : float, optional
            Scales the incoming weights of a neuron down to this Euclidean norm after each step.
        regularize_bias : bool, default False
            Whether penalties and weight decay work on biases, too, on gamma and beta of a BatchNorm and on a Scale.
        patience : int, optional
            Ends the training after so many epochs of this call in a row without an improvement by more than
            `min_delta`.
        min_delta : float, optional
            Default: 0 with `epochs`. Without them patience may have to end the training alone, and a loss can go on
            falling by less and less: an improvement is more than 1e-4 of the best value so far then.
        monitor : str, optional
            What has to improve: "loss", "val_loss" or a metric. Default: "val_loss" with validation, else "loss".
        restore_best : bool or "last", optional
            Whether the network ends with the weights of the best epoch, the first of equal ones, or with "last" the
            last. Default: with patience. Validation rows are the better judge, as the training loss of an epoch is that
            of the weights during it. Their loss at the best epoch is too low an estimate of the loss on new rows.
        target_loss : float, optional
            Ends the training after an epoch whose training loss is this or less.
        max_seconds : float, optional
            Ends the training after this time, within an epoch, too.
        callback : callable or several, optional
            Called with a Record after every epoch; where it has an attribute `every`, after every so many epochs and
            the last one; where it has an attribute `seconds`, with so much time in between at least, and after the last
            one. Returns True to end the training. A call costs some ten microseconds, in which a tiny network trains
            for a hundred epochs: let `every` or `seconds` ask for less there. Where it has a method `open`, that is
            called before the first epoch; `close`, when the training is over, however it ends. See nnc.Checkpoint,
            nnc.CSVLogger, nnc.TensorBoard.
        progress : bool, default False
            Shows a progress bar (extra `[progress]`).
        verbose : {0, 1, 2}, default 0
            1 prints lines of epochs as Keras does, ten a second at most and the last one; 2 prints each epoch, which
            takes longer than an epoch of a small network.
        n_threads : int, optional
            Default: as many as are measured to pay, up to `nnc.get_num_threads()`; 1 starts no thread. The result is
            the same to the last bit for every number.

        Returns
        -------
        History
            The loss of every epoch, the time, and why training ended. Ctrl-C ends it early with what has been reached,
            but for one of less than a millisecond.

        Raises
        ------
        ValueError, TypeError
            An argument is not one of these, or the data does not fit the network.
        DivergedError
            The loss or the weights stopped being finite. The network has the last finite weights.

        Warns
        -----
        TrainingWarning
            One of its subclasses, where the training shows a common mistake: see nnc._training.advice.

        Notes
        -----
        The automatic rule, as in `fit(X, y)` and `fit(X, y, epochs=50)`, trains by Adam. Its rate falls step by step
        along half a wave of the cosine, to 0 from 0.02, or 0.02 sqrt(64 / k) where a neuron has k > 64 inputs; with
        patience, target_loss or max_seconds and no epochs it is 0.001. A step takes a hundredth of the rows, at least
        32 and at most 256 (one more where one would be left over). There are 20 epochs, or more until there are 10,000
        steps. With scale_X and scale_y "auto", a new network standardizes inputs, and targets if they are numbers and
        the output is the identity, and divides images of uint8 by 255. The next such fit continues the schedule for the
        epochs that are left, or begins anew.

        With `preset="auto"`, a named optimizer object whose lr is not its default also names the learning rate.
        Second-order optimizers have no learning rate and take all rows in a step.
        """
        from nnc._training.start import fit_arrays

        arguments = FitArguments(
            epochs=epochs,
            lr=lr,
            optimizer=optimizer,
            preset=preset,
            reset_optimizer=reset_optimizer,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation=validation,
            metrics=metrics,
            l1=l1,
            l2=l2,
            weight_decay=weight_decay,
            dropout=dropout,
            clip_norm=clip_norm,
            clip_value=clip_value,
            max_norm=max_norm,
            regularize_bias=regularize_bias,
            patience=patience,
            min_delta=min_delta,
            monitor=monitor,
            restore_best=restore_best,
            target_loss=target_loss,
            max_seconds=max_seconds,
            callback=callback,
            progress=progress,
            verbose=verbose,
            n_threads=n_threads,
        )
        return fit_arrays(self, X, y, arguments)

    def fit_batches(
        self,
        batches: Iterable[tuple[Any, ...]] | Callable[[], Iterable[tuple[Any, ...]]],
        *,
        epochs: int | None = 1,
        **options: Any,
    ) -> History:
        """Trains on batches that come one after the other, such as from a generator: one step each, and no more than
        one is held in memory.

        Parameters
        ----------
        batches : iterable of (X, y) or (X, y, sample_weight), or callable
            X (n, n_in) and y as in `fit`, any number of rows. For several epochs something that can be gone through
            several times, such as a list, or a function that gives a new iterator for every epoch. The first batch of
            all is what scalings, and a loss that is "auto", are found from; it must have all classes where those are
            not the numbers of outputs.
        epochs : int or None, default 1
        **options
            The other arguments of `fit` but batch_size, shuffle, sample_weight and class_weight; `validation` is no
            fraction here. Where `fit` goes by its Notes, Adam's rate is 0.001.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError, DivergedError
            As in `fit`.
        """
        from nnc._training.start import fit_batches

        return fit_batches(self, batches, {**options, "epochs": epochs})

    def train_step(
        self,
        X: ArrayLike,
        y: Any = None,
        lr: float | Schedule | Callable[[int], float] | None = None,
        optimizer: str | Optimizer | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        dP: ArrayLike | None = None,
        reset_optimizer: bool = False,
    ) -> float:
        """One step of training on all these rows: `fit` with one epoch, without its history. Everything that does not
        change from one call to the next is prepared once, so a step of few rows takes microseconds.

        Parameters
        ----------
        X, y : arrays
            As in `evaluate_loss`. C-contiguous arrays of the network's dtype are taken as they are.
        lr : float, schedule or callable, optional
            As in `fit`: kept from here on, a schedule counts steps as epochs. Default: as before; with plain descent on
            a network that has no optimizer, which keeps nothing, 0.01.
        optimizer : str or object, optional
            As in `fit`, a first-order one: the same settings continue it, whether `fit` or a step has begun it.
            Default: the one of the network; on a network that has none plain gradient descent, which leaves none
            behind.
        sample_weight : array (n,), optional
            As in `evaluate_loss`.
        dP : array (n, n_out), optional
            In place of y: d loss / d P of a loss of your own, as in `vjp`; not where there is a BatchNorm.
        reset_optimizer : bool, default False
            As in `fit`, before this step.

        Returns
        -------
        float
            The loss before the step, penalties included; with dP the sum of dP * P in place of it.

        Raises
        ------
        ValueError, TypeError, DivergedError
            As in `fit`.

        See Also
        --------
        stepper : with penalties, clipping and dropout.
        """
        steps = None if reset_optimizer is not False else self._steps
        loss = None if steps is None else steps.try_step(self, X, y, sample_weight, dP, lr, optimizer)
        if loss is None:
            from nnc._training.step import new_stepper

            self._catch_up()
            steps = self._steps = new_stepper(optimizer, lr, FitArguments(reset_optimizer=reset_optimizer))
            loss = steps.try_step(self, X, y, sample_weight, dP, lr, optimizer)
        return loss  # type: ignore[return-value]

    @suggest_arguments(elsewhere="fit")
    def apply_gradients(
        self,
        gradients: GradientsLike,
        lr: float | Schedule | Callable[[int], float] | None = None,
        optimizer: str | Optimizer | None = None,
        *,
        reset_optimizer: bool = False,
    ) -> None:
        """Take one step of the optimizer from given gradients.

        `net.apply_gradients(net.gradients(X, y))` does what `net.train_step(X, y)` does. Gradients of several losses,
        micro-batches or workers can be added before the step.

        Parameters
        ----------
        gradients : list of (dW, db), or array (n_params,)
            As `gradients` and `vjp` return them, one pair for each layer with weights, db None without biases; or one
            vector in the order of `params`. Other dtypes are converted to that of the network.
        lr : float, schedule or callable, optional
            As in `train_step`; not nnc.ReduceLROnPlateau, which needs the loss of each step.
        optimizer, reset_optimizer
            As in `train_step`.

        Raises
        ------
        ValueError, TypeError
            The gradients have other shapes than the parameters, or hold NaN or infinity; the network has BatchNorm,
            whose running statistics a gradient does not contain; or its loss is "auto" and no training has chosen it.
        DivergedError
            The step would have made weights infinite or NaN, which keep their values.

        See Also
        --------
        stepper : with penalties and clipping, and a sum over several gradients.

        Notes
        -----
        The step has the same bits as that of `train_step` with the same gradient. `train_step` adds the gradient of a
        large batch (300,000 rows x parameters or more) in another order than `gradients`, so that it may differ in the
        last bits.
        """
        steps = None if reset_optimizer is not False else self._steps
        if steps is None or not steps.try_apply(self, gradients, lr, optimizer):
            from nnc._training.step import new_stepper

            self._catch_up()
            steps = self._steps = new_stepper(optimizer, lr, FitArguments(reset_optimizer=reset_optimizer))
            steps.try_apply(self, gradients, lr, optimizer)

    @suggest_arguments(elsewhere="fit")
    def stepper(
        self,
        optimizer: str | Optimizer | None = None,
        lr: float | Schedule | Callable[[int], float] | None = None,
        *,
        reset_optimizer: bool = False,
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        regularize_bias: bool = False,
    ) -> Stepper:
        """A function for a loop of your own: each call takes one step, as `train_step` does.

        Parameters
        ----------
        optimizer, lr
            As in `train_step`.
        reset_optimizer : bool, default False
            As in `fit`, before the first step.
        l1, l2, dropout, clip_norm, clip_value, max_norm, regularize_bias
            As in `fit`.

        Returns
        -------
        nnc.Stepper
            `step(X, y, sample_weight=None)`, or `step(X, dP=dP)`, returns what `train_step` does.
            `step.apply(gradients)` does what `apply_gradients` does, and `step.lr` is the learning rate, which can be
            changed. The stepper holds the network until `step.close()`, or the end of `with net.stepper(...) as step:`.
            It is not pickled with the network.

        Examples
        --------
        >>> step = net.stepper("adam", lr=1e-3, clip_norm=1.0)
        >>> for x, y in stream:
        ...     loss = step(x, y)
        """
        from nnc._training.step import new_stepper

        options = FitArguments(
            reset_optimizer=reset_optimizer,
            l1=l1,
            l2=l2,
            dropout=dropout,
            clip_norm=clip_norm,
            clip_value=clip_value,
            max_norm=max_norm,
            regularize_bias=regularize_bias,
        )
        return new_stepper(optimizer, lr, options, self)
