"""Validation loss and metrics after an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.steps import model_for_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._model.model import Model
    from nnc._team import Interrupt, Team
    from nnc._training.dataset import Dataset
    from nnc._training.options import TrainingOptions

SLICE_MULTIPLY_ADDS = 1e9  # number of multiply-adds between two checks for Ctrl-C
ASSUMED_BLOCK_ROWS = 128  # rows in a block of the core, assumed to limit the time between these checks


class Evaluator:
    """Computation of the validation loss and the metrics after each epoch.

    Parameters
    ----------
    model : Model
        Network in training.
    dataset : Dataset
        Rows of the fit, of which `metric_rows` are evaluated.
    options : TrainingOptions
        Source of the metrics.
    outputs : array (n, n_out), optional
        Destination of the outputs.

    Attributes
    ----------
    columns : list of str
        Names of the values that `evaluate` returns: "val_loss" if there are validation rows, and the metrics.
    """

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        options: TrainingOptions,
        outputs: NDArray[np.floating] | None = None,
    ) -> None:
        self.model = model = model_for_rows(model, dataset.metric_rows)
        self.dataset, self.options = dataset, options
        self.columns = [*(["val_loss"] if dataset.validation is not None else []), *options.metrics]
        self.evaluation: Any = None  # core.Evaluation, which the first call of evaluate() creates
        if outputs is None and (options.metrics or options.callbacks) and model.custom is None:
            outputs = np.empty((dataset.metric_rows.n, model.sizes[-1]), model.dtype)
        self.outputs = outputs

    def evaluate(self, team: Team, n_threads: int, interrupt: Interrupt | None) -> list[float]:
        """Return the validation loss and the metrics of an epoch; NaN if Ctrl-C has interrupted the evaluation.

        Parameters
        ----------
        team : Team
            Threads of the run.
        n_threads : int
            Number of threads to use.
        interrupt : Interrupt or None
            Context that records Ctrl-C.
        """
        if self.model.custom is not None:
            return self._evaluate_custom()
        dataset, threads = self.dataset, team.grow(n_threads)
        if self.evaluation is None or self.evaluation.threads != threads:
            self.evaluation = self.model.evaluation(dataset.metric_rows, self.outputs, threads)
        self.evaluation.restart()
        blocks = max(1, int(SLICE_MULTIPLY_ADDS / (len(self.model.theta) * ASSUMED_BLOCK_ROWS)))
        while not self.evaluation.done and not interrupt:
            team.run(self.evaluation.task, blocks, threads)
        done = self.evaluation.done
        if done and self.outputs is not None and self.model.heads is not None:
            self.model.heads.outputs(self.outputs)
        losses = [] if dataset.validation is None else [self.evaluation.loss if done else np.nan]
        return [*losses, *self._metrics(self.outputs if done else None)]

    def _evaluate_custom(self) -> list[float]:
        """Return the validation loss and the metrics with a custom loss."""
        rows, custom = self.dataset.metric_rows, self.model.custom
        assert custom is not None
        P = self.outputs = self.model.engine_outputs(rows)
        losses = [] if self.dataset.validation is None else [custom.value_of_rows(P, rows)]
        return [*losses, *self._metrics(P)]

    def _metrics(self, P: NDArray[np.floating] | None) -> list[float]:
        """Return each metric of the outputs P; NaN if P is None."""
        rows, converter = self.dataset.metric_rows, self.dataset.converter
        if self.model.stack.input.any_steps and not converter.is_bound:
            converter = converter.at(self.model.input_shape[0])
        return [np.nan if P is None else converter.measure(metric, rows, P) for metric in self.options.metrics.values()]
