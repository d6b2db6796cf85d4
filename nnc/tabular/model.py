"""What a fit of a table leaves: how columns become numbers, the members that answer together, and what the rows that
some of them were held against say of the answers."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.conformal import checked_level, classes_within, half_width, quantile
from nnc._data.metrics import METRICS
from nnc.tabular.cells import CellError
from nnc.tabular.explain import integrated_gradients
from nnc.tabular.intervals import calibrate, inputs_of
from nnc.tabular.selection import best_members
from nnc.tabular.snapshots import HeldOut
from nnc.tabular.temperature import with_temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._data.scaling import Scaling
    from nnc.tabular.frames import Table
    from nnc.tabular.intervals import Spread
    from nnc.tabular.recipe import Task
    from nnc.tabular.schema import Schema
    from nnc.tabular.selection import Gain
    from nnc.tabular.snapshots import ImportanceData
    from nnc.tabular.target import Target
    from nnc.tabular.training import Member, Rows

BLOCK = 1 << 22  # inputs that are made at a time
WIDEST = 1000  # columns up to which importances, which take seconds then, are computed before a file is written
TINY = 1e-30


@dataclass(eq=False, repr=False)
class TableModel:
    """A model of a table.

    Attributes
    ----------
    task : Task
    schema : Schema
    target : Target
    members : list of Member
    scaling : Scaling or None
        Of targets, which members predict scaled.
    bounds : array (2, n_targets) or None
        The least and the largest target of the training rows, between which predictions of numbers stay.
    baseline : array (width,)
        The mean of the training rows as members see them, which explanations begin at.
    facts : dict
        Facts about the fit: "preset", "seed", "trained" (members), "rows", "weighted" (whether rows had weights),
        "class_weight" (None, "balanced", or a number or None for each class), "complete" (not ended early), "target"
        (its name), "seconds".
    held_out : HeldOut
    spread : Spread or None
        Scale of the intervals; None where all intervals have one width, and for classes and quantiles.
    gain : Gain or None
        Score of all members less that of one; None for one member, and without held-out rows.
    importances : (mean, standard_error) or None
        Of the columns, see `find_importances`.
    shuffle : ImportanceData or None
        Data that importances are computed from, until they are known.
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
    shuffle: ImportanceData | None = None

    def __post_init__(self) -> None:
        n_targets = 1 if self.task.kind == "classes" else self.task.n_out
        self.held_out = HeldOut(0, np.nan, np.nan, 1.0, np.empty((0, n_targets)))

    # ------------------------------------------------------------------------------------------ answers

    @property
    def encodings(self) -> set[bool]:
        """Those that members see, with bins or without."""
        return {member.spec.bins for member in self.members}

    def predict(self, table: Table) -> NDArray[np.float64]:
        """The probabilities (n, n_classes), or numbers (n, n_targets), or (n, n_quantiles, n_targets)."""
        encoded = self.blocks(table)
        return np.concatenate([self.answer(inputs) for inputs in encoded])

    def blocks(self, table: Table) -> Any:
        """The inputs of rows, so many at a time that the memory they take does not depend on how many there are."""
        bins, n = True in self.encodings, len(table)
        size = max(1, BLOCK // self.schema.width(bins))
        for start in range(0, n, size):
            try:
                encoded = self.schema.encode(table.take(slice(start, start + size)), bins=bins)
            except CellError as error:
                raise error.shifted(start) from None
            yield encoded

    def answer(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """What `predict` returns, of encoded rows: with bins where a member sees them."""
        outputs = [self.output(member, self.seen_by(member, inputs)) for member in self.members]
        return self.formed(np.mean(outputs, axis=0))

    def seen_by(self, member: Member, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a member sees of encoded rows."""
        return inputs if member.spec.bins else inputs[:, : self.schema.width()]

    def output(self, member: Member, inputs: NDArray[Any]) -> NDArray[np.float64]:
        """What a single member says of what it sees."""
        return self.meant(member.network.predict(np.ascontiguousarray(inputs)).astype(np.float64))

    def meant(self, P: NDArray[np.float64]) -> NDArray[np.float64]:
        """Outputs of a network (n, outputs) as probabilities at the temperature, or as numbers of the targets' size."""
        if self.task.kind == "classes":
            return with_temperature(P, self.held_out.temperature)
        return P if self.scaling is None else self.scaling.undo(P.reshape(-1, self.task.n_out)).reshape(P.shape)

    def formed(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers within their bounds, and quantiles that do not cross (Chernozhukov, Fernandez-Val and Galichon,
        2010)."""
        if self.task.quantiles:
            outputs = np.sort(outputs.reshape(len(outputs), -1, self.task.n_out), axis=1)
        return outputs if self.bounds is None else np.clip(outputs, *self.bounds)

    # ------------------------------------------------------------------------------------------ how far it is trusted

    def score(self, answers: NDArray[np.float64], truth: NDArray[Any], weights: Any = None) -> float:
        """Accuracy or R^2 of what `predict` returned."""
        if self.task.kind == "classes":
            return METRICS["accuracy"](truth, answers.argmax(axis=1), weights)
        P = self.middle(answers)
        return min(METRICS["r2"](truth[:, [j]], P[:, [j]], weights) for j in range(P.shape[1]))

    def middle(self, answers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of quantiles the one that is the closest to the median; numbers as they are."""
        return answers[:, self.middle_place] if self.task.quantiles else answers

    @property
    def middle_place(self) -> int:
        """Of the quantile that is the closest to the median; 0 where there are none."""
        return min(range(len(self.task.quantiles)), key=lambda i: abs(self.task.quantiles[i] - 0.5), default=0)

    def nonconformity(self, answers: NDArray[np.float64], truth: NDArray[Any]) -> NDArray[np.float64]:
        """Return nonconformity scores (n, n_targets).

        They are 1 less the probability of the true class, the absolute error of a number, or the distance from the
        interval between the outer quantiles, negative inside (Romano, Patterson and Candes, 2019).
        """
        if self.task.kind == "classes":
            return 1 - np.take_along_axis(answers, truth[:, None].astype(np.intp), axis=1)
        ends = (answers[:, 0], answers[:, -1]) if self.task.quantiles else (answers, answers)
        scores: NDArray[np.float64] = np.maximum(ends[0] - truth, truth - ends[1])
        return scores

    def calibrate(
        self, rows: Rows, index: NDArray[np.intp], answers: NDArray[np.float64], truth: NDArray[Any], seed: int
    ) -> NDArray[np.float64]:
        """Fit the spread of intervals and return the scores that they are calibrated with.

        Parameters
        ----------
        rows : Rows
            The training rows.
        index : int array (n,)
            The held-out rows among them.
        answers : array (n, ...)
            What members that have not learned from these rows predict for them.
        truth : array (n,) or (n, n_targets)
        seed : int
        """

        def inputs(part: NDArray[np.intp]) -> NDArray[np.float32]:
            assert self.scaling is not None
            return inputs_of(rows.plain[index[part]], answers[part], self.scaling)

        adaptive = self.task.kind == "numbers" and not self.task.quantiles
        weights = None if rows.weights is None else rows.weights[index]
        errors = self.nonconformity(answers, truth)
        self.spread, scores = calibrate(errors, inputs if adaptive else None, weights, seed)
        return scores

    def row_errors(self, answers: NDArray[np.float64], truth: NDArray[Any]) -> NDArray[np.float64]:
        """Return errors (n,) whose mean is 1 less the accuracy, or 1 less the mean R^2 of the targets."""
        if self.scaling is None:
            return np.asarray(answers.argmax(axis=1) != truth, np.float64)
        found, wanted = self.scaling.apply(self.middle(answers)), self.scaling.apply(truth)  # whose squares are finite
        deviation = wanted.std(axis=0)
        relative = (found - wanted) / np.where(deviation > 0, deviation, 1)
        errors: NDArray[np.float64] = np.square(relative).mean(axis=1)
        return errors

    def with_members(self, count: int) -> TableModel:
        """Return a model of the `count` best members, which shares all else; the model itself for all of them."""
        if count == len(self.members):
            return self
        small = copy(self)
        small.members = best_members(self.task, self.members, count)
        small.baseline = self.baseline[: self.schema.width(bins=True in small.encodings)]
        small.shuffle = small.gain = None
        return small

    def limit(self, level: float) -> NDArray[np.float64]:
        """Return the score (n_targets,) that a share of `level` of all rows does not exceed."""
        level = checked_level("level", level)
        if not len(self.held_out.scores):
            raise ValueError("no rows were held out, as there were too few: fit needs 10 rows or more for that")
        return quantile(self.held_out.scores, level)

    def interval(self, table: Table, level: float, clip: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ends (n, n_targets) of intervals that hold a share of `level` of all targets.

        With `clip` they are 0 or more for each target that was never negative in the training.
        """
        limit = self.limit(level)
        ends = [self.ends(inputs, limit) for inputs in self.blocks(table)]
        low, high = (np.concatenate(parts) for parts in zip(*ends, strict=True))
        if clip and self.bounds is not None:
            least = np.where(self.bounds[0] >= 0, 0, -np.inf)
            low, high = np.maximum(low, least), np.maximum(high, least)
        return low, high

    def ends(
        self, inputs: NDArray[np.float32], limit: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ends of intervals of encoded rows, for the quantile of the scores."""
        answers, scale = self.answer(inputs), np.ones(1)
        if self.task.quantiles:
            low, high = answers[:, 0] - limit, answers[:, -1] + limit
            middle = (low + high) / 2
            return np.minimum(low, middle), np.maximum(high, middle)
        if self.spread is not None and self.scaling is not None:
            scale = self.spread.predict(inputs_of(inputs[:, : self.schema.width()], answers, self.scaling))
        half = half_width(limit, scale)
        return answers - half, answers + half

    def classes_within(self, table: Table, level: float, allow_empty: bool) -> NDArray[np.bool_]:
        """Return which classes are in the set that holds the true one in a share of `level` of all rows."""
        return classes_within(self.predict(table), self.limit(level), allow_empty)

    # ------------------------------------------------------------------------------------------ what it rests on

    def explain(self, table: Table, output: int) -> tuple[NDArray[np.float64], float]:
        """What each column gives to an output of the rows (n, columns), and the output of the baseline: integrated
        gradients."""
        bins = True in self.encodings
        X = self.schema.encode(table, bins=bins).astype(np.float64)
        baseline = self.baseline[: X.shape[1]]
        exact = [(member, member.network.astype("float64")) for member in self.members]
        width = self.schema.width()

        def seen(member: Member, inputs: NDArray[Any]) -> NDArray[Any]:
            return inputs if member.spec.bins else np.ascontiguousarray(inputs[:, :width])

        def value(inputs: NDArray[Any]) -> NDArray[Any]:
            mean: NDArray[Any] = np.mean(
                [self.meant(net.predict(seen(m, inputs)))[:, output] for m, net in exact], axis=0
            )
            return mean

        def gradient(inputs: NDArray[Any]) -> NDArray[Any]:
            total = np.zeros(inputs.shape)
            for member, net in exact:
                rows = seen(member, inputs)
                total[:, : rows.shape[1]] += net.vjp(rows, self.slopes(net.predict(rows), output))[1]
            return total / len(exact)

        given = integrated_gradients(value, gradient, X, baseline, self.schema.groups(bins=bins))
        return given, float(value(baseline[None])[0])

    def slopes(self, P: NDArray[np.float64], output: int) -> NDArray[np.float64]:
        """How an output of `meant` changes with those of the network, (n, outputs)."""
        dP = np.zeros_like(P)
        dP[:, output] = 1
        if self.task.kind == "classes":
            Q, temperature = self.meant(P), self.held_out.temperature
            return Q[:, [output]] * (dP - Q) / (temperature * np.maximum(P, TINY))
        return dP if self.scaling is None else dP / self.scaling.factor[output % self.task.n_out]
