"""What a fit of a table leaves: how columns become numbers, the members that answer together, and what the rows that
some of them were held against say of the answers."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc.data.conformal import checked_level, classes_within, half_width, quantile
from nnc.data.metrics import METRICS
from nnc.tabular.cells import CellError
from nnc.tabular.explain import integrated_gradients, permutation_importances
from nnc.tabular.intervals import calibrate, inputs_of
from nnc.tabular.selection import MAX_COMPARED_ROWS, best_members, gain
from nnc.tabular.temperature import expected_calibration_error, fit_temperature, with_temperature

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nnc.data.scaling import Scaling
    from nnc.tabular.frames import Table
    from nnc.tabular.intervals import Spread
    from nnc.tabular.recipe import Task
    from nnc.tabular.schema import Schema
    from nnc.tabular.selection import Gain
    from nnc.tabular.target import Target
    from nnc.tabular.training import Member, Rows

BLOCK = 1 << 22  # inputs that are made at a time
SCORES, SHUFFLED = 2000, 1000  # held-out rows at least that are predicted, and those that importances rest on
PART = 1 << 14  # held-out rows that are copied at a time
MANY, MOST = 1 << 18, 1 << 20  # rows, and outputs for them: of more, some rows tell as much
WIDE, WIDEST = 100, 1000  # columns up to which importances take a tenth of the time of a fit at most, and some seconds
REPEATS, PASSES = 5, 60  # orders that columns are shuffled to: as many, or of many columns so many of all of them
TINY = 1e-30


class HeldOut(NamedTuple):
    """What the rows say that members were held against.

    Attributes
    ----------
    n : int
    score : float
        Accuracy, or R^2; the least R^2 of several targets. NaN where there were no such rows.
    calibration_error : float
        Of the probabilities of classes; NaN of numbers.
    temperature : float
        Of the probabilities of classes; 1 of numbers.
    scores : array (rows, n_targets)
        Nonconformity scores that sets and intervals are calibrated with, in no order: see `TableModel.nonconformity`.
        With a spread they are divided by it.
    """

    n: int
    score: float
    calibration_error: float
    temperature: float
    scores: NDArray[np.float64]


class Shuffle(NamedTuple):
    """What importances are computed from: some held-out rows, and which member may be asked of which."""

    plain: NDArray[np.float32]
    bins: NDArray[np.float32] | None
    y: NDArray[Any]
    weights: NDArray[np.float64] | None
    may: NDArray[np.bool_]  # (members, rows)


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
    held_out : HeldOut
    spread : Spread or None
        Scale of the intervals; None where all intervals have one width, and for classes and quantiles.
    gain : Gain or None
        Score of all members less that of one; None for one member, and without held-out rows.
    importances : (mean, deviation) or None
        Of the columns, see `find_importances`.
    facts : dict
        What is told of the fit: "preset", "seed", "trained" (members), "rows", "weighted" (whether rows had weights),
        "class_weight" (None, "balanced", or of each class a number or None), "complete" (not ended before), "target"
        (its name), "seconds".
    """

    task: Task
    schema: Schema
    target: Target
    members: list[Member]
    scaling: Scaling | None
    bounds: NDArray[np.float64] | None
    baseline: NDArray[np.float64]
    held_out: HeldOut
    spread: Spread | None
    gain: Gain | None
    importances: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    shuffle: Shuffle | None
    facts: dict[str, Any]

    def __init__(
        self,
        task: Task,
        schema: Schema,
        target: Target,
        members: Sequence[Member],
        scaling: Scaling | None,
        bounds: NDArray[np.float64] | None,
        baseline: NDArray[np.float64],
        facts: dict[str, Any],
    ) -> None:
        self.task, self.schema, self.target = task, schema, target
        self.members, self.scaling, self.bounds = list(members), scaling, bounds
        self.baseline, self.facts = baseline, facts
        n_targets = 1 if task.kind == "classes" else task.n_out
        self.held_out = HeldOut(0, np.nan, np.nan, 1.0, np.empty((0, n_targets)))
        self.spread = self.gain = self.importances = self.shuffle = None

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
                raise error.below(start) from None
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

    def learn_from_held_out(self, rows: Rows, held: Callable[[int | None], NDArray[np.bool_]], seed: int) -> None:
        """Finds the temperature, the score, the scores for intervals, and the importances of few columns; `held` tells
        which rows a fold holds out."""
        n, outputs = len(rows.y), self.task.outputs
        few = np.ones(n, bool)
        most = max(SCORES, min(MANY, MOST // outputs // 2))  # a row is held out by two members at most, of a pair
        if most < n:
            few[np.random.default_rng([seed, 2]).permutation(n)[most:]] = False
        asked = [np.flatnonzero(held(member.spec.fold) & few) for member in self.members]
        known = np.unique(np.concatenate(asked))
        if not len(known):
            return
        y, weights = rows.y[known], None if rows.weights is None else rows.weights[known]
        classes = self.task.kind == "classes"
        raw, places = [], []
        for member, index in zip(self.members, asked, strict=True):
            if not len(index):
                continue
            parts, inputs = np.array_split(index, 1 + len(index) // PART), rows.inputs(member.spec.bins)
            raw.append(np.concatenate([member.network.predict(inputs[part]) for part in parts if len(part)]))
            places.append(np.searchsorted(known, index))
        if classes:
            at = np.concatenate(places)
            logits = np.concatenate(raw).astype(np.float64)
            np.log(np.maximum(logits, TINY, out=logits), out=logits)
            temperature = fit_temperature(logits, y[at], None if weights is None else weights[at])
            self.held_out = self.held_out._replace(temperature=temperature)
            del logits
        mean, times = np.zeros((len(known), outputs)), np.zeros((len(known), 1))
        for place in places:
            times[place] += 1
        for P, place in zip(raw, places, strict=True):
            mean[place] += self.meant(P.astype(np.float64)) / times[place]  # sums might overflow
        answers = self.formed(mean)
        self.held_out = HeldOut(
            len(known),
            self.score(answers, y, weights),
            expected_calibration_error(answers, y, sample_weight=weights) if classes else np.nan,
            self.held_out.temperature,
            self.calibrate(rows, known, answers, y, seed),
        )
        self.gain = self.gain_over_one(rows, known, answers, seed)
        order = np.random.default_rng([seed, 3]).permutation(len(known))
        chosen = np.sort(known[order[:SHUFFLED]])
        self.shuffle = Shuffle(
            rows.plain[chosen],
            rows.bins[chosen] if True in self.encodings and rows.bins is not None else None,
            rows.y[chosen],
            None if rows.weights is None else rows.weights[chosen],
            np.stack([np.isin(chosen, index) for index in asked]),
        )
        if len(self.schema.names) <= WIDE:
            self.find_importances()

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

    def gain_over_one(
        self, rows: Rows, index: NDArray[np.intp], answers: NDArray[np.float64], seed: int
    ) -> Gain | None:
        """Compare single members with all of them on held-out rows.

        Parameters
        ----------
        rows : Rows
            The training rows.
        index : int array (n,)
            The held-out rows among them.
        answers : array (n, ...)
            What one member that has not learned from each row predicts for it.
        seed : int

        Returns
        -------
        Gain or None
            None for a model of one member.
        """
        if len(self.members) < 2:
            return None
        some = np.random.default_rng([seed, 5]).permutation(len(index))[:MAX_COMPARED_ROWS]
        chosen = index[some]
        truth, weights = rows.y[chosen], None if rows.weights is None else rows.weights[chosen]
        every = self.answer(rows.inputs(True in self.encodings)[chosen])
        return gain(self.row_errors(answers[some], truth), self.row_errors(every, truth), weights)

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

    def find_importances(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How much the score on held-out rows falls where a column is shuffled: mean and deviation, (columns,) each."""
        if self.importances is None:
            shuffle = self.shuffle
            if shuffle is None:
                raise ValueError("no importances can be found: no rows were held out, or the file has none")
            inputs = shuffle.plain if shuffle.bins is None else shuffle.bins
            times = np.maximum(shuffle.may.sum(axis=0), 1)[:, None]

            def score(X: NDArray[np.float32]) -> float:
                total: Any = 0.0
                for member, may in zip(self.members, shuffle.may, strict=True):
                    part = np.zeros((len(X), self.task.outputs))
                    if may.any():
                        part[may] = self.output(member, self.seen_by(member, X[may])) / times[may]
                    total = total + part
                return self.score(self.formed(total), shuffle.y, shuffle.weights)

            groups = self.schema.groups(bins=shuffle.bins is not None)
            repeats = max(1, min(REPEATS, PASSES // len(groups)))
            self.importances = permutation_importances(score, inputs, groups, repeats, self.facts["seed"])
            self.shuffle = None  # its rows have done their work
        return self.importances

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
