"""Fitted table model: encodings of the columns, members of the ensemble, and estimates on held-out rows."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.conformal import check_level, classes_within, half_width, quantile
from nnc._data.metrics import METRICS
from nnc._parallel.members import Members
from nnc._tables.cells import CellError
from nnc._tables.features import PLAIN
from nnc.tabular.explain import integrated_gradients
from nnc.tabular.intervals import calibrate, spread_inputs
from nnc.tabular.selection import best_members
from nnc.tabular.snapshots import EPSILON, HeldOut
from nnc.tabular.temperature import with_temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._data.scaling import Scaling
    from nnc._report.outcomes import ClassOutcomes, NumberOutcomes
    from nnc._tables.features import FeatureSet
    from nnc._tables.frames import Table
    from nnc._tables.schema import Schema
    from nnc.tabular.intervals import Spread
    from nnc.tabular.recipe import Task
    from nnc.tabular.selection import Gain
    from nnc.tabular.snapshots import ImportanceData
    from nnc.tabular.target import Target
    from nnc.tabular.training import Member, Rows

MAX_BLOCK_VALUES = 1 << 22  # maximum number of array elements in a block of encoded rows, to limit memory
MAX_SAVED_IMPORTANCE_COLUMNS = 1000  # `save` computes importances only for tables with up to this number of columns


@dataclass(eq=False, repr=False)
class TableModel:
    """Fitted model that predicts a target from the columns of a table.

    Attributes
    ----------
    task : Task
    schema : Schema
    target : Target
    members : list of Member
    scaling : Scaling or None
        Scaling of the targets; members predict scaled targets.
    bounds : array (2, n_targets) or None
        Smallest and largest target of the training rows, to which predictions are clipped; None for classes.
    baseline : array (width,)
        Mean of the encoded training rows, with which explanations compare a row.
    facts : dict
        Facts about the fit: "preset", "seed", "trained" (number of members), "rows", "weighted" (whether rows had
        sample weights), "class_weight" (None, "balanced", or a number or None for each class), "complete" (False if
        the fit ended early), "target" (name), "seconds".
    held_out : HeldOut
        Estimates on held-out rows.
    spread : Spread or None
        Networks that predict the width of intervals. None if all intervals have the same width, and for classes and
        quantiles.
    gain : Gain or None
        Score of the mean of all members minus the score of a single member. None if there is only one member, or if
        there are no held-out rows.
    importances : (mean, standard_error) or None
        Permutation importances of the columns; None until `find_importances` computes them.
    importance_data : ImportanceData or None
        Data from which importances are computed. None after the computation, and if there are no held-out rows.
    outcomes : ClassOutcomes, list of NumberOutcomes, or None
        Statistics of the predictions for held-out rows, for each target; None without held-out rows, and for files of
        earlier versions.
    """

    task: Task
    schema: Schema
    target: Target
    members: list[Member]
    scaling: Scaling | None
    bounds: NDArray[np.float64] | None
    baseline: NDArray[np.float64]
    facts: dict[str, Any]
    held_out: HeldOut = field(init=False)
    spread: Spread | None = None
    gain: Gain | None = None
    importances: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    importance_data: ImportanceData | None = None
    outcomes: ClassOutcomes | list[NumberOutcomes] | None = None

    def __post_init__(self) -> None:
        n_targets = 1 if self.task.kind == "classes" else self.task.n_out
        self.held_out = HeldOut(0, np.nan, np.nan, 1.0, np.empty((0, n_targets)))

    # ------------------------------------------------------------------------------------------ predictions

    @property
    def networks(self) -> Members:
        """Networks of the members."""
        return Members(member.network for member in self.members)

    @property
    def features(self) -> FeatureSet:
        """Largest set of features that a member receives."""
        return max(member.features for member in self.members)

    def predict(self, table: Table) -> NDArray[np.float64]:
        """Predict probabilities (n, n_classes), numbers (n, n_targets) or quantiles (n, n_quantiles, n_targets)."""
        return np.concatenate([self.predict_encoded(inputs) for inputs in self.encoded_blocks(table)])

    def encoded_blocks(self, table: Table) -> Any:
        """Encode a table and yield its rows in blocks, so that large tables need little memory."""
        features, n = self.features, len(table)
        size = max(1, MAX_BLOCK_VALUES // self.schema.width(features))
        for start in range(0, n, size):
            try:
                block = table if n <= size else table.select(slice(start, start + size))
                encoded = self.schema.encode(block, features)
            except CellError as error:
                raise error.shifted(start) from None
            yield encoded

    def predict_encoded(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return predictions for rows that are encoded with `features`."""
        feature_sets = {member.features for member in self.members}
        parts = {part: np.ascontiguousarray(inputs[:, : self.schema.width(part)]) for part in feature_sets}
        outputs = np.stack([member.network.predict(parts[member.features]) for member in self.members])
        return self.postprocess(self.convert_outputs(outputs.astype(np.float64)).mean(axis=0))

    def member_inputs(self, member: Member, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the columns of the encoded rows `inputs` that are the inputs of a member."""
        return inputs[:, : self.schema.width(member.features)]

    def member_output(self, member: Member, inputs: NDArray[Any]) -> NDArray[np.float64]:
        """Return the outputs of a member, converted by `convert_outputs`; `inputs` is the result of `member_inputs`."""
        return self.convert_outputs(member.network.predict(np.ascontiguousarray(inputs)).astype(np.float64))

    def convert_outputs(self, P: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert outputs P (..., outputs) of networks to calibrated probabilities or unscaled targets."""
        if self.task.kind == "classes":
            return with_temperature(P, self.held_out.temperature)
        return P if self.scaling is None else self.scaling.undo(P.reshape(-1, self.task.n_out)).reshape(P.shape)

    def postprocess(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert outputs, averaged over the members, to predictions: clip numbers to the bounds, and sort quantiles.

        Sorting prevents quantiles from crossing (Chernozhukov, Fernandez-Val and Galichon, 2010).
        """
        if self.task.quantiles:
            outputs = np.sort(outputs.reshape(len(outputs), -1, self.task.n_out), axis=1)
        return outputs if self.bounds is None else np.clip(outputs, *self.bounds)

    # ------------------------------------------------------------------------------------------ scores and coverage

    def score(self, predictions: NDArray[np.float64], truth: NDArray[Any], weights: Any = None) -> float:
        """Return the accuracy of class predictions, or the smallest R^2 of the targets."""
        if self.task.kind == "classes":
            return METRICS["accuracy"](truth, predictions.argmax(axis=1), weights)
        P = self.point_predictions(predictions)
        return min(METRICS["r2"](truth[:, [j]], P[:, [j]], weights) for j in range(P.shape[1]))

    def point_predictions(self, predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the predicted numbers; if quantiles are predicted, return the quantile closest to the median."""
        return predictions[:, self.median_index] if self.task.quantiles else predictions

    @property
    def median_index(self) -> int:
        """Index of the quantile closest to the median; 0 if the model does not predict quantiles."""
        return min(range(len(self.task.quantiles)), key=lambda i: abs(self.task.quantiles[i] - 0.5), default=0)

    def nonconformity(self, predictions: NDArray[np.float64], truth: NDArray[Any]) -> NDArray[np.float64]:
        """Return the nonconformity scores (n, n_targets) of predictions.

        For classes, the score is 1 minus the probability of the true class; for numbers, it is the absolute error. For
        quantiles, it is the distance of the target from the interval between the outer quantiles, negative inside the
        interval (Romano, Patterson and Candes, 2019).
        """
        if self.task.kind == "classes":
            return 1 - np.take_along_axis(predictions, truth[:, None].astype(np.intp), axis=1)
        ends = (predictions[:, 0], predictions[:, -1]) if self.task.quantiles else (predictions, predictions)
        scores: NDArray[np.float64] = np.maximum(ends[0] - truth, truth - ends[1])
        return scores

    def calibrate_conformal(
        self,
        rows: Rows,
        index: NDArray[np.intp],
        predictions: NDArray[np.float64],
        truth: NDArray[Any],
        group: NDArray[np.intp],
        seed: int,
    ) -> NDArray[np.float64]:
        """Fit `spread`, the networks that predict the width of intervals, and return the calibration scores.

        Parameters
        ----------
        rows : Rows
            The training rows.
        index : int array (n,)
            Indices of the held-out rows.
        predictions : array (n, ...)
            Predictions for the held-out rows by networks that did not train on them.
        truth : array (n,) or (n, n_targets)
            Class indices or targets of the held-out rows.
        group : int array (n,)
            Group of each held-out row, see `Folds`.
        seed : int
            Seed of the random order of the held-out rows and of the networks of `spread`.

        Returns
        -------
        array (rows, n_targets)
            Nonconformity scores of some of the held-out rows. If `spread` is not None, each score is divided by the
            output of `spread` for its row.
        """

        def inputs(part: NDArray[np.intp]) -> NDArray[np.float32]:
            """Return the inputs of the networks of `spread` for the held-out rows with the indices `part`."""
            assert self.scaling is not None
            return spread_inputs(rows.inputs[PLAIN][index[part]], predictions[part], self.scaling)

        adaptive = self.task.kind == "numbers" and not self.task.quantiles
        weights = None if rows.weights is None else rows.weights[index]
        errors = self.nonconformity(predictions, truth)
        self.spread, scores = calibrate(errors, inputs if adaptive else None, weights, group, seed)
        return scores

    def row_errors(self, predictions: NDArray[np.float64], truth: NDArray[Any]) -> NDArray[np.float64]:
        """Return errors (n,) whose mean is 1 minus the accuracy, or 1 minus the mean R^2 of the targets."""
        if self.scaling is None:
            return np.asarray(predictions.argmax(axis=1) != truth, np.float64)
        # Scale the targets, so that the squares of large targets are finite.
        scaled, scaled_truth = self.scaling.apply(self.point_predictions(predictions)), self.scaling.apply(truth)
        deviation = scaled_truth.std(axis=0)
        relative = (scaled - scaled_truth) / np.where(deviation > 0, deviation, 1)
        errors: NDArray[np.float64] = np.square(relative).mean(axis=1)
        return errors

    def with_members(self, count: int) -> TableModel:
        """Return a model that has only the `count` best members, and shares its other attributes with this model."""
        if count == len(self.members):
            return self
        small = copy(self)
        small.members = best_members(self.members, count)
        small.held_out = self.held_out.with_networks(count, len(self.members))
        small.baseline = self.baseline[: self.schema.width(small.features)]
        small.importance_data = small.gain = None
        return small

    def score_threshold(self, level: float) -> NDArray[np.float64]:
        """Return the threshold (n_targets,) that a fraction `level` of the nonconformity scores do not exceed."""
        level = check_level("level", level)
        if not len(self.held_out.scores):
            raise ValueError("prediction sets and intervals require held-out rows, got none; fit with 10 rows or more")
        return quantile(self.held_out.scores, level)

    def interval(self, table: Table, level: float, clip: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ends (n, n_targets) of intervals that contain the target in a fraction `level` of all rows.

        If `clip` is true, negative ends become 0 for each target that was never negative in the training rows.
        """
        threshold = self.score_threshold(level)
        ends = [self.interval_ends(inputs, threshold) for inputs in self.encoded_blocks(table)]
        low, high = (np.concatenate(blocks) for blocks in zip(*ends, strict=True))
        if clip and self.bounds is not None:
            minimum = np.where(self.bounds[0] >= 0, 0, -np.inf)
            low, high = np.maximum(low, minimum), np.maximum(high, minimum)
        return low, high

    def interval_ends(
        self, inputs: NDArray[np.float32], threshold: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lower and upper ends (n, n_targets) of intervals for encoded rows; see `score_threshold`."""
        predictions, scale = self.predict_encoded(inputs), np.ones(1)
        if self.task.quantiles:
            low, high = predictions[:, 0] - threshold, predictions[:, -1] + threshold
            middle = (low + high) / 2
            return np.minimum(low, middle), np.maximum(high, middle)
        if self.spread is not None and self.scaling is not None:
            scale = self.spread.predict(spread_inputs(inputs[:, : self.schema.width()], predictions, self.scaling))
        half = half_width(threshold, scale)
        return predictions - half, predictions + half

    def classes_within(self, table: Table, level: float, allow_empty: bool) -> NDArray[np.bool_]:
        """Return sets of classes (n, n_classes) that contain the true class in a fraction `level` of all rows."""
        return classes_within(self.predict(table), self.score_threshold(level), allow_empty)

    # ------------------------------------------------------------------------------------------ explanations

    def explain(self, table: Table, output: int) -> tuple[NDArray[np.float64], float]:
        """Return the contributions (n, columns) of the columns to one output of the model, and the baseline.

        The contributions are integrated gradients, see `integrated_gradients`. The baseline is the output for the mean
        of the encoded training rows.
        """
        X = self.schema.encode(table, self.features).astype(np.float64)
        baseline = self.baseline[: X.shape[1]]
        members = [(member, member.network.astype("float64")) for member in self.members]

        def select_inputs(member: Member, inputs: NDArray[Any]) -> NDArray[Any]:
            """Return the inputs of a member, copied to a contiguous array."""
            return np.ascontiguousarray(self.member_inputs(member, inputs))

        def value(inputs: NDArray[Any]) -> NDArray[Any]:
            """Return the output whose index is `output` for encoded rows, averaged over the members, array (m,)."""
            mean: NDArray[Any] = np.mean(
                [self.convert_outputs(net.predict(select_inputs(m, inputs)))[:, output] for m, net in members], axis=0
            )
            return mean

        def gradient(inputs: NDArray[Any]) -> NDArray[Any]:
            """Return the derivatives (m, width) of the function `value` with respect to the encoded rows."""
            total = np.zeros(inputs.shape)
            for member, net in members:
                rows = select_inputs(member, inputs)
                total[:, : rows.shape[1]] += net.vjp(rows, self.output_derivative(net.predict(rows), output))[1]
            return total / len(members)

        contributions = integrated_gradients(value, gradient, X, baseline, self.schema.groups(self.features))
        return contributions, float(value(baseline[None])[0])

    def output_derivative(self, P: NDArray[np.float64], output: int) -> NDArray[np.float64]:
        """Return the derivatives (n, outputs) of result number `output` of `convert_outputs` with respect to P."""
        dP = np.zeros_like(P)
        dP[:, output] = 1
        if self.task.kind == "classes":
            Q, temperature = self.convert_outputs(P), self.held_out.temperature
            return Q[:, [output]] * (dP - Q) / (temperature * np.maximum(P, EPSILON))
        return dP if self.scaling is None else dP / self.scaling.factor[output % self.task.n_out]
