"""Training methods of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc._network.parameters import Parameters
from nnc._utils.checks import suggest_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import ArrayLike

    from nnc._data.derivatives import GradientsLike
    from nnc._registry.choices import OptimizerName, PresetName
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
        optimizer: OptimizerName | Optimizer | None = None,
        preset: PresetName | None = None,
        reset_optimizer: bool = False,
        batch_size: int | None = None,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        truncate: int | None = None,
        warm_up: int = 0,
        class_weight: Any = None,
        dY: ArrayLike | None = None,
        dY_weight: float = 1,
        validation: Any = None,
        metrics: Any = (),
        l1: float = 0,
        l2: float = 0,
        weight_decay: float | Schedule | Callable[[int], float] | None = None,
        dropout: Any = 0,
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
        progress: bool | str = False,
        verbose: int = 0,
        n_threads: int | None = None,
    ) -> History:
        """Train the network, starting from its current parameters.

        Parameters
        ----------
        X : array (n, n_in)
            Rows of inputs: an array, a data frame, a tensor or lists. The network stores column names, see
            `feature_names`. A numpy.memmap of the network's dtype is not copied. A memmap of another dtype is converted
            batch by batch if `batch_size` is given and `validation` does not split X.
        y : array (n, n_out) or (n,)
            Targets as in `evaluate_loss`. With "cross_entropy", "hinge", and "bce" with one output, y may have labels
            of any type; the first fit learns the classes, see `classes`. Bytes and dates become text.
        epochs : int, optional
            Number of passes over the rows; the largest number if the automatic rule applies (see Notes). It may be
            omitted if another rule ends the training (patience, target_loss, max_seconds or a callback), or if the
            automatic rule chooses it. A training without `epochs` ends after at most 10 million epochs.
        lr : float, schedule or callable, optional
            Learning rate: a number, a schedule such as nnc.CosineLR(0.1), or a function of the epoch. Epochs are
            counted from 0 since the optimizer started. A function must be passed again after `load`. Default: the
            current learning rate or schedule. The first fit uses the default of the optimizer; without an optimizer see
            Notes.
        optimizer : str or object, optional
            "sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam", "rprop", "lbfgs", "levenberg_marquardt", "momentum"
            (SGD with momentum 0.9),
            or an object such as nnc.SGD(lr=0.1, momentum=0.9). If its settings equal those of the current optimizer,
            the current one continues with its moments and its position in the schedule, also after `load` of a
            checkpoint. Otherwise a new optimizer starts. Default: the current optimizer; the first fit uses "sgd", or
            without lr the automatic rule (see Notes).
        preset : {"auto", "plain"}, optional
            Choice of the settings that are not passed. "auto" applies the automatic rule (see Notes) to each of
            optimizer, lr, batch_size, epochs and scalings that is not passed. "plain" uses gradient descent with all
            rows in each step instead. The default is "auto" if neither lr nor optimizer is passed, and the network has
            no optimizer of an earlier plain fit to continue; otherwise it is "plain". `history.settings` and `summary`
            show the resolved settings.
        reset_optimizer : bool, default False
            Whether to start the optimizer anew: with moments, steps and epochs at 0.
        batch_size : int, optional
            Number of rows in each step; the last batch of an epoch has the remaining rows. Default: all rows, or the
            choice of the automatic rule (see Notes).
        shuffle : bool, default True
            Whether the rows get a new random order in each epoch, which `seed` determines. A single batch of all rows
            is not shuffled.
        sample_weight : array (n,), optional
            Weight of each row in the loss: weight 2 has the effect of two equal rows. BatchNorm statistics ignore it.
        lengths : int array (n,), optional
            Number of steps of each sequence, as in `evaluate_loss`. X and y may be lists of arrays instead.
        truncate : int, optional
            Truncated backpropagation through time: sequences are trained in chunks of this many steps. The states of
            the recurrent layers are passed on from each chunk to the next one, but gradients are not. An epoch trains
            on the first chunks of all sequences in batches of `batch_size`, then on the second chunks, and so on. It
            does not shuffle the sequences. A batch contains only sequences that have this chunk, so sequences of
            different lengths do not stay in the same batches. Requires recurrent layers that process the steps in their
            order, dense layers, and an output at each step. Default: gradients flow through all steps.
        warm_up : int, default 0
            Number of steps at the start of each chunk that do not count in the loss. Consecutive chunks overlap by this
            many steps, so all steps of a sequence count once, except the first `warm_up` ones.
        class_weight : "balanced" or dict, optional
            Weight of each class, by which the weight of each row is multiplied. "balanced" is
            n / (number of classes * number of rows of the class).
        dY : array (n, n_out, n_in), optional
            Targets of the derivatives of the outputs with respect to the inputs, in the units of y and X; for one
            output also (n, n_in). NaN marks a derivative that is not given. Requires a squared error as loss, and the
            layers and activations that `derivatives` requires. `fit_many`, `fit_batches` and `train_step` have no dY,
            because their rows have targets of the outputs only; a fit with epochs=1 is a single step.
        dY_weight : float, default 1
            Weight of the derivatives in the loss. The loss of a row is the squared error of y, plus dY_weight / n_in
            times the sum of the squared errors of the given derivatives, both computed from scaled X and y. Validation
            rows that are passed as arrays have no derivatives, so val_loss is then that of y only.
        validation : (X, y), (X, y, sample_weight), (X, y, sample_weight, lengths), float, "last" or LastRows, optional
            Validation rows, which do not train; their loss is computed after each epoch. sample_weight may be None. A
            fraction splits off that part of the rows: `seed` determines which ones, and all classes keep their
            proportions. "last" splits off the last fifth of the rows or sequences, for rows in the order of time;
            `nnc.LastRows` sets another size and a gap.
        metrics : str, function or nnc.Metric, or a list of them
            Additional columns of the History, computed on the validation rows (then "val_accuracy" and so on) or,
            without validation, on the training rows. For classification: "accuracy", "balanced_accuracy", "f1",
            "precision", "recall", "auc", "log_loss". For regression: "r2", "mae", "mape", "rmse". They are defined as
            in scikit-learn. A function of y_true and y_pred, such as those of scikit-learn, gets its own name;
            nnc.Metric has options.
        l1, l2 : float, default 0
            Penalty l1 sum |W| + l2 sum W**2 / 2, which is added to the loss.
        weight_decay : float, schedule or callable, optional
            Weight decay of this fit, instead of that of the optimizer: a number, or a schedule or function of the epoch
            as for `lr`.
        dropout : float, schedule or callable, or a list with one for each hidden layer, default 0
            Fraction of the outputs of a layer that each training step sets to 0; the other outputs are scaled up
            (Srivastava et al., 2014). A schedule or function gives the fraction of each epoch. `predict` does not use
            dropout. A single value does not apply to Scale layers.
        clip_norm, clip_value : float, optional
            Gradient clipping: limit of the Euclidean norm of the gradient, and limit of the absolute value of each
            element of the gradient. As in PyTorch, a norm that exceeds clip_norm - 1e-6 multiplies the gradient by
            clip_norm / (norm + 1e-6).
        max_norm : float, optional
            Limit of the Euclidean norm of the incoming weights of each unit, to which they are scaled down after each
            step.
        regularize_bias : bool, default False
            Whether penalties and weight decay also apply to biases, to gamma and beta of BatchNorm, and to Scale.
        patience : int, optional
            Early stopping: the training ends after this number of consecutive epochs without improvement by more than
            `min_delta`.
        min_delta : float, optional
            Smallest improvement that counts for `patience`. Default: 0 if `epochs` is given, otherwise 1e-4 of the best
            value so far, so that a slow decrease of the loss does not prevent the end of the training.
        monitor : str, optional
            Quantity that must improve: "loss", "val_loss" or a metric. Default: "val_loss" with validation rows,
            otherwise "loss".
        restore_best : bool or "last", optional
            Whether the network gets the weights of the best epoch at the end. Of equally good epochs True selects the
            first one, "last" the last one. Default: True with `patience`. Use validation rows to select epochs: the
            training loss of an epoch is computed while the weights still change. The validation loss of the best epoch
            underestimates the loss of new rows.
        target_loss : float, optional
            The training ends after an epoch whose training loss is at most this value.
        max_seconds : float, optional
            The training ends after this time, also in the middle of an epoch.
        callback : callable or list of callables, optional
            Function that is called with a Record after each epoch; it returns True to end the training. Optional
            attributes change how often it is called: `every` (number of epochs between two calls) and `seconds`
            (minimum time between two calls); the last epoch always has a call. A call takes about ten microseconds, in
            which a tiny network trains 100 epochs. A method `open` is called before the first epoch, and `close` after
            the training, even if it fails. See nnc.Checkpoint, nnc.CSVLogger and nnc.TensorBoard.
        progress : bool or "plot", default False
            True shows a progress bar (extra `[progress]`). "plot" plots losses, metrics and, for two inputs, the
            decision boundary, in notebooks and terminals; see nnc.LivePlot.
        verbose : {0, 1, 2}, default 0
            1 prints lines like those of Keras, at most ten per second; 2 prints a line for each epoch, which takes more
            time than an epoch of a small network.
        n_threads : int, optional
            Number of threads; 1 starts no thread. Default: the number that is measured to be fastest, at most
            `nnc.get_num_threads()`. The result is the same to the last bit for each number.

        Returns
        -------
        History
            Loss of each epoch, duration, and the reason for the end. Ctrl-C ends the training early and returns the
            epochs so far, unless the training takes less than a millisecond.

        Raises
        ------
        ValueError, TypeError
            An argument is invalid, or the data does not fit the network.
        DivergedError
            The loss or a parameter is no longer finite. The network keeps the last finite parameters.

        Warns
        -----
        TrainingWarning
            The training shows a common mistake; see the subclasses in nnc._training.advice.

        Notes
        -----
        The automatic rule applies to `fit(X, y)` and `fit(X, y, epochs=50)`. It trains with Adam. The learning rate
        decreases in each step along half a cosine wave, from 0.02 to 0, or from 0.02 sqrt(64 / k) if a unit has k > 64
        inputs. With patience, target_loss or max_seconds and without epochs it is constant at 0.001. A batch has 1/100
        of the rows, at least 32 and at most 256, and one more if a single row would remain. The largest number of
        epochs is 20, or more to reach 10,000 steps.

        With 5 rows or more, and without patience, target_loss and max_seconds, the rule selects the number of epochs
        and the weight decay (AdamW with 0.5, or Adam) by validation, for which it trains copies of the network. The
        validation uses the rows of `validation`. Without them it is a 3-fold cross-validation for up to 1,000 rows, or
        uses a held-out fifth of a larger number of rows. Below 200 rows, it is a 5-fold cross-validation, twice, and
        the weight decay may also be 2, 8 or 32, which predicts almost a constant. Then the network is trained on all
        rows, except those of `validation`. Below 20 rows, a FewRowsWarning is issued.

        If `scale_X` and `scale_y` are "auto", a new network standardizes the inputs, and also the targets for
        regression with an identity output; images of uint8 are divided by 255. The next fit by this rule continues the
        schedule of a fit that ended early for the remaining epochs, or starts a new one.

        With `preset="auto"`, an optimizer object whose lr is not the default also determines the learning rate.
        Second-order optimizers have no learning rate and use all rows in each step.
        """
        from nnc._training.arguments import FitArguments
        from nnc._training.start import fit_arrays

        arguments = FitArguments(
            epochs=epochs,
            lr=lr,
            optimizer=optimizer,
            preset=preset,
            reset_optimizer=reset_optimizer,
            batch_size=batch_size,
            truncate=truncate,
            warm_up=warm_up,
            shuffle=shuffle,
            sample_weight=sample_weight,
            class_weight=class_weight,
            dY=dY,
            dY_weight=dY_weight,
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
        return fit_arrays(self, X, y, arguments, lengths)

    def fit_batches(
        self,
        batches: Iterable[tuple[Any, ...]] | Callable[[], Iterable[tuple[Any, ...]]],
        *,
        epochs: int | None = 1,
        **options: Any,
    ) -> History:
        """Train on batches from an iterable such as a generator, with one step per batch.

        Only one batch is in memory at a time.

        Parameters
        ----------
        batches : iterable of (X, y), (X, y, sample_weight) or (X, y, sample_weight, lengths), or callable
            Batches with X (n, n_in) and y as in `fit`; the number of rows may differ. More than one epoch requires an
            iterable that can be iterated several times, such as a list, or a function that returns a new iterator for
            each epoch. The very first batch determines scalings, classes, and a loss that is "auto"; it must contain
            all classes unless labels are the indices of the outputs.
        epochs : int or None, default 1
            Number of passes over the batches.
        **options
            Other arguments of `fit` except batch_size, shuffle, sample_weight and class_weight. `validation` must not
            be a fraction. If the automatic rule of `fit` applies, the learning rate of Adam is 0.001.

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
        optimizer: OptimizerName | Optimizer | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        dP: ArrayLike | None = None,
        reset_optimizer: bool = False,
    ) -> float:
        """Take one training step with all given rows.

        This is `fit` with one epoch and without a history. Repeated calls reuse all preparations, so a step with few
        rows takes microseconds.

        Parameters
        ----------
        X, y : arrays
            Rows as in `evaluate_loss`. C-contiguous arrays of the network's dtype are not copied.
        lr : float, schedule or callable, optional
            Learning rate as in `fit`, also for the following steps; a schedule counts steps instead of epochs. Default:
            the current one. Gradient descent on a network without an optimizer uses 0.01.
        optimizer : str or object, optional
            First-order optimizer as in `fit`. If its settings equal those of the current optimizer, the current one
            continues, also if `fit` started it. Default: the current optimizer of the network. A network without an
            optimizer takes a step of gradient descent and still has no optimizer afterwards.
        sample_weight : array (n,), optional
            Weight of each row, as in `evaluate_loss`.
        dP : array (n, n_out), optional
            Derivative d loss / d P of a loss that the caller has computed, as in `vjp`, instead of y. Networks with
            BatchNorm do not support it.
        reset_optimizer : bool, default False
            Whether to start the optimizer anew before this step.

        Returns
        -------
        float
            The loss before the step, including penalties; with dP the sum of dP * P.

        Raises
        ------
        ValueError, TypeError, DivergedError
            As in `fit`.

        See Also
        --------
        stepper : Single steps with penalties, clipping and dropout.
        """
        stepper = None if reset_optimizer is not False else self._stepper
        loss = None if stepper is None else stepper.try_step(self, X, y, sample_weight, dP, lr, optimizer)
        if loss is None:
            from nnc._training.arguments import FitArguments
            from nnc._training.step import new_stepper

            self._update_counters()
            stepper = self._stepper = new_stepper(optimizer, lr, FitArguments(reset_optimizer=reset_optimizer))
            loss = stepper.try_step(self, X, y, sample_weight, dP, lr, optimizer)
        return loss  # type: ignore[return-value]

    @suggest_arguments(elsewhere="fit")
    def apply_gradients(
        self,
        gradients: GradientsLike,
        lr: float | Schedule | Callable[[int], float] | None = None,
        optimizer: OptimizerName | Optimizer | None = None,
        *,
        reset_optimizer: bool = False,
    ) -> None:
        """Take one step of the optimizer with given gradients.

        `net.apply_gradients(net.gradients(X, y))` has the effect of `net.train_step(X, y)`. Gradients of several
        losses, micro-batches or workers can be added before the step.

        Parameters
        ----------
        gradients : list of (dW, db), or array (n_params,)
            Gradients as `gradients` and `vjp` return them: one pair for each parametric layer, where db is None for a
            layer without biases. Or one vector in the order of `params`. Other dtypes are converted to that of the
            network.
        lr : float, schedule or callable, optional
            Learning rate as in `train_step`, except nnc.ReduceLROnPlateau, which needs the loss of each step.
        optimizer, reset_optimizer
            As in `train_step`.

        Raises
        ------
        ValueError, TypeError
            The gradients do not have the shapes of the parameters, or contain NaN or infinity. The network has
            BatchNorm, whose running statistics a gradient does not contain. The loss is still "auto".
        DivergedError
            The step would make a parameter infinite or NaN; the parameters do not change.

        See Also
        --------
        stepper : Single steps with penalties and clipping, and sums of several gradients.

        Notes
        -----
        With the same gradient, the parameters are equal to those after `train_step` to the last bit. For large batches
        (300,000 rows x parameters or more), `train_step` sums the gradient in another order than `gradients`, so the
        last bits may differ.
        """
        stepper = None if reset_optimizer is not False else self._stepper
        if stepper is None or not stepper.try_apply(self, gradients, lr, optimizer):
            from nnc._training.arguments import FitArguments
            from nnc._training.step import new_stepper

            self._update_counters()
            stepper = self._stepper = new_stepper(optimizer, lr, FitArguments(reset_optimizer=reset_optimizer))
            stepper.try_apply(self, gradients, lr, optimizer)

    @suggest_arguments(elsewhere="fit")
    def stepper(
        self,
        optimizer: OptimizerName | Optimizer | None = None,
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
        """Return a function for custom training loops, which takes one step per call.

        Parameters
        ----------
        optimizer, lr
            As in `train_step`.
        reset_optimizer : bool, default False
            Whether to start the optimizer anew before the first step.
        l1, l2, dropout, clip_norm, clip_value, max_norm, regularize_bias
            As in `fit`.

        Returns
        -------
        nnc.Stepper
            `step(X, y, sample_weight=None)` and `step(X, dP=dP)` take a step and return the result of `train_step`.
            `step.apply(gradients)` is `apply_gradients`. `step.lr` is the learning rate, which can be assigned. The
            stepper refers to the network until `step.close()`, or the end of `with net.stepper(...) as step:`. It is
            not pickled with the network.

        Examples
        --------
        >>> step = net.stepper("adam", lr=1e-3, clip_norm=1.0)
        >>> for x, y in stream:
        ...     loss = step(x, y)
        """
        from nnc._training.arguments import FitArguments
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
