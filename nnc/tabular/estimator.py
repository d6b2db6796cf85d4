"""What TableClassifier and TableRegressor have in common."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral, Real
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from nnc._serialization import ModelFileError
from nnc._serialization.models import load_model
from nnc._team import Interrupt
from nnc._utils import disk
from nnc._utils.arrays import as_finite_array
from nnc._utils.sklearn_private import HasMethods, Interval, StrOptions
from nnc.tabular import file
from nnc.tabular.explain import Explanations
from nnc.tabular.export import build_table_program
from nnc.tabular.frames import read_table
from nnc.tabular.held_out import evaluate, find_importances
from nnc.tabular.leakage import warn_of_leakage
from nnc.tabular.model import TableModel
from nnc.tabular.recipe import PRESETS, choose_member_count
from nnc.tabular.schema import N_BINS, Schema
from nnc.tabular.selection import remove_outliers
from nnc.tabular.summary import summary
from nnc.tabular.training import MAX_BINNED_VALUES, Rows, Training, total_epochs, with_progress_bar

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from nnc._interop.table import TableProgram
    from nnc._network import NeuralNetwork
    from nnc.tabular.frames import Table
    from nnc.tabular.recipe import Task
    from nnc.tabular.report import Report
    from nnc.tabular.snapshots import HeldOut
    from nnc.tabular.target import Target

LEAST_WEIGHT = 1e-30  # of the largest: what is below is none in float32


def _weights(weights: Any, n: int) -> NDArray[np.float64]:
    array: NDArray[np.float64] = as_finite_array("sample_weight", weights, (n,), np.dtype(np.float64))
    if array.min() < 0 or not array.any():
        raise ValueError(f"sample_weight must be 0 or more, and not zero for all rows, got {array.min():g} at least")
    scaled: NDArray[np.float64] = array / array.max()
    return scaled


def _that_count(table: Table, y: NDArray[Any], weights: NDArray[np.float64]) -> Any:
    """The rows that have a weight; the others are as if they were not there, so every member has some to learn from,
    and those of the cross-validation some to be held against."""
    count = (weights > 0) & (weights >= LEAST_WEIGHT * weights.max())
    if count.sum() < 2:
        raise ValueError(f"sample_weight and class_weight must leave two rows or more that count, got {count.sum()}")
    if not count.all():
        table, y, weights = table.take(count), y[count], weights[count]
    return table, y, weights / weights.max()


def _schema(table: Table) -> Schema:
    """That of the training rows, with scores of numbers unless there are so many that bins will not do either."""
    return Schema.learn(table, scores=len(table) * len(table.columns) * (N_BINS + 2) <= MAX_BINNED_VALUES)


def _rows(schema: Schema, table: Table, y: NDArray[Any], weights: NDArray[np.float64] | None) -> Rows:
    """The training rows as networks see them."""
    wide = schema.width(bins=True)
    binned = wide > schema.width() and len(table) * wide <= MAX_BINNED_VALUES
    bins = schema.encode(table, bins=True) if binned else None
    plain = schema.encode(table) if bins is None else np.ascontiguousarray(bins[:, : schema.width()])
    return Rows(plain, bins, y, weights)


NAMES = {"classes": "TableClassifier", "numbers": "TableRegressor"}


class TableEstimator(BaseEstimator):
    """A model of a table that needs nothing to be set.

    Parameters
    ----------
    preset : {"fast", "default", "best"}, default="default"
        Number of networks: "fast" trains few and "best" many, in the same way.
    members : int, default=None
        Number of networks. Default: by the preset and the number of rows. With the same `random_state`, data and
        `members`, the model is the same to the last bit for every n_jobs.
    max_seconds : float, default=None
        Time limit of the training in seconds. The model then consists of the networks that are complete, or if there
        are none, of those whose training has begun.
    n_jobs : int, default=None
        Number of networks that are trained at a time. Default: `nnc.get_num_threads()`.
    random_state : int, RandomState or None, default=None
        Seed of all random numbers; `seed_` is the seed that was used.
    checkpoint : path, default=None
        File that is written every few seconds once networks are complete, and when the fit ends early. A fit of the
        same data with the same parameters continues from it, to the same model. A complete fit deletes the file.
    callback : callable, default=None
        Called after each epoch of each network with the network's number and its record (see NeuralNetwork.fit), in the
        thread that trains it. The last record of a network that stops early has "skipped_epochs", the number of
        epochs of its schedule that are not trained.
    progress : bool, default=False
        Shows a progress bar of epochs (extra `[progress]`).

    Attributes
    ----------
    n_features_in_ : int
    target_name_ : str or None
        Name of y, if it was a series with a name.
    feature_names_in_ : array of str
        Names of the columns, if X has names.
    n_members_ : int
        Number of networks of the fit; a valid `members`.
    seed_ : int
        Seed of the fit; a valid `random_state`.
    complete_ : bool
        Whether all networks were trained to their end: neither Ctrl-C nor `max_seconds` has ended the fit early.
    networks_ : list of nnc.NeuralNetwork
        Networks whose mean is the prediction.
    held_out_ : HeldOut
        Estimates of the quality of the model on new rows: `score` (accuracy or R^2), `calibration_error`,
        `temperature`, and `n`, the number of held-out rows that they are made with. These rows neither train nor select
        the networks that predict them: other held-out rows choose the epoch and the encoding. `score` includes how
        much the mean of all networks improves on one of them.
    """

    _parameter_constraints = {  # noqa: RUF012 (scikit-learn's name and form)
        "preset": [StrOptions(set(PRESETS))],
        "members": [Interval(Integral, 1, None, closed="left"), None],
        "max_seconds": [Interval(Real, 0, None, closed="neither"), None],
        "n_jobs": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
        "checkpoint": [str, HasMethods(["__fspath__"]), None],
        "callback": [callable, None],
        "progress": ["boolean"],
    }

    preset: str
    members: int | None
    max_seconds: float | None
    n_jobs: int | None
    random_state: Any
    checkpoint: Any
    callback: Any
    progress: bool

    model_: TableModel
    _kind: ClassVar[str]  # of its tasks

    # ------------------------------------------------------------------------------------------ training

    @abstractmethod
    def _task(self, target: Target, y: NDArray[Any], weights: NDArray[np.float64] | None) -> Task:
        """What the networks are to learn, of targets as `Target.encode` gives them."""

    @abstractmethod
    def _target(self, y: Any, n: int) -> Target:
        """What y is."""

    def _class_weight(self, target: Target) -> Any:
        """As the facts of a model have it."""
        return None

    def _weights(self, y: NDArray[Any], weights: NDArray[np.float64] | None, target: Target) -> Any:
        """How much each row counts, where rows may have weights themselves."""
        return weights

    @classmethod
    @abstractmethod
    def _settings(cls, model: TableModel) -> dict[str, Any]:
        """The parameters of its own that a model follows from."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains a model.

        Parameters
        ----------
        X : frame or array (n, columns)
            A frame of pandas, polars or pyarrow, or what else narwhals reads, or an array or a list of rows: numbers,
            booleans, categories, text and dates, any of them missing.
        y : array (n,), or (n, targets) of numbers
            None may be missing.
        sample_weight : array (n,), optional
            How much each row counts. A row of weight 0 is as if it were not there, but for its label: it is a class.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            A parameter, or the data, is not as it has to be: the message names the column, the row and what is there.
        """
        self._validate_params()
        began = perf_counter()
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        table = read_table(X)
        if len(table) < 2:
            raise ValueError("X must have two rows or more, got n_samples=1")
        target = self._target(y, len(table))
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        seed = int(seed)
        encoded = target.encode(y, len(table))
        weights = None if sample_weight is None else _weights(sample_weight, len(table))
        weights = self._weights(encoded, weights, target)
        if weights is not None:
            table, encoded, weights = _that_count(table, encoded, weights)
        task = self._task(target, encoded, weights)
        if weights is not None and task.quantiles:
            raise ValueError("sample_weight does not go with quantiles: their loss has no weights")
        n = len(table)
        count = choose_member_count(self.preset, n) if self.members is None else int(self.members)
        schema = _schema(table)
        warn_of_leakage(schema, table, encoded, seed)
        rows = _rows(schema, table, encoded, weights)
        key = file.fingerprint(rows, task, self.preset, seed, count) if self.checkpoint is not None else ""
        done = file.read_checkpoint(self.checkpoint, key) if self.checkpoint is not None else []

        def keep(members: Any) -> None:
            file.write_checkpoint(self.checkpoint, key, members)

        left = None if self.max_seconds is None else max(1e-3, self.max_seconds - (perf_counter() - began))
        with with_progress_bar(self.callback, self.progress, total_epochs(n, count - len(done))) as callback:
            training = Training(
                task, rows, seed, self.n_jobs, left, callback, None if self.checkpoint is None else keep
            )
            trained = training.run(count, done)
            members = remove_outliers(task, trained, rows)
            training.discard({member.spec for member in trained} - {member.spec for member in members})
        with Interrupt():  # Ctrl-C comes too late to spare anything, and what has been trained would be lost
            facts = {
                "preset": self.preset,
                "seed": seed,
                "trained": count,
                "rows": n,
                "weighted": sample_weight is not None,
                "class_weight": self._class_weight(target),
                "complete": not training.stopped,
                "target": name if isinstance(name := getattr(y, "name", None), str) else None,
            }
            model = TableModel(
                task,
                schema,
                target,
                members,
                training.scaling,
                np.stack([rows.y.min(axis=0), rows.y.max(axis=0)]) if task.kind == "numbers" else None,
                rows.inputs(any(member.spec.bins for member in members)).mean(axis=0, dtype=np.float64),
                facts,
            )
            evaluate(model, rows, training, seed)
            facts["seconds"] = perf_counter() - began
            self.model_ = model
            if self.checkpoint is not None and not training.stopped:
                file.remove_checkpoint(self.checkpoint)
        return self

    # ------------------------------------------------------------------------------------------ what it says

    def _model(self) -> TableModel:
        check_is_fitted(self, "model_")
        return self.model_

    def _table(self, X: Any) -> Table:
        names = self._model().schema.names
        table = read_table(X)
        if not (table.named or table.numbered) and len(table.names) != len(names):
            raise ValueError(
                f"X has {len(table.names)} features, but {type(self).__name__} is expecting {len(names)} features as "
                "input"
            )
        return table

    def _answer(self, X: Any) -> NDArray[np.float64]:
        return self._model().predict(self._table(X))

    def _explained(self, table: Table, outputs: NDArray[np.intp]) -> Explanations:
        """Of the outputs with these numbers, one for each row."""
        contributions = np.empty((len(table), len(self.model_.schema.names)))
        baseline = np.empty(len(table))
        for output in np.unique(outputs):
            rows = np.flatnonzero(outputs == output)
            contributions[rows], baseline[rows] = self.model_.explain(table.take(rows), int(output))
        return Explanations(self.model_.schema.names, contributions, baseline, outputs)

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def n_features_in_(self) -> int:
        return len(self._model().schema.names)

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        schema = self._model().schema
        if not schema.named:
            raise AttributeError("X had no names of columns in the fit")
        return np.array(schema.names, dtype=object)

    @property
    def target_name_(self) -> str | None:
        name: str | None = self._model().facts["target"]
        return name

    @property
    def n_members_(self) -> int:
        return int(self._model().facts["trained"])

    @property
    def seed_(self) -> int:
        return int(self._model().facts["seed"])

    @property
    def complete_(self) -> bool:
        return bool(self._model().facts["complete"])

    @property
    def networks_(self) -> list[NeuralNetwork]:
        return [member.network for member in self._model().members]

    @property
    def held_out_(self) -> HeldOut:
        return self._model().held_out

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """Permutation importances (columns,): by how much the score falls if a column is permuted (Breiman, 2001).

        The score is the accuracy, or R^2, the mean over several targets, of held-out rows, by networks that these rows
        have neither trained nor selected. The importance of a column without information is 0 on average;
        `feature_importances_std_` tells by how much it may differ from 0. `fit` computes importances for tables of up
        to 100 columns. For wider tables this is an AttributeError until `find_importances` is called.
        """
        return self._importances("feature_importances_")[0]

    @property
    def feature_importances_std_(self) -> NDArray[np.float64]:
        """Standard errors of `feature_importances_`, (columns,).

        They include the sampling of the held-out rows, the permutations, and the correlation between folds: a column
        without information has an importance within two standard errors of 0 in 95 % of tables or more. In a file that
        nnc 0.1.0 has written they are the standard deviations over permutations only.
        """
        return self._importances("feature_importances_std_")[1]

    def _importances(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        importances = self._model().importances
        if importances is None:
            raise AttributeError(f"{name} is not known yet: call find_importances()")
        return importances

    def find_importances(self) -> NDArray[np.float64]:
        """Compute `feature_importances_`, (columns,), if that is not done yet: minutes for some thousand columns.

        Raises
        ------
        ValueError
            No rows were held out, as there were fewer than 10, or the model comes from a file that has none.
        """
        return find_importances(self._model())[0]

    def report(self) -> Report:
        """Return a summary of the fit: the columns and what was made of each, the networks, how good they are on rows
        that were held out, what the columns are worth, and the sizes of files. `print(model.report())`; notebooks show
        it as HTML."""
        return summary(type(self).__name__, self._call(), self._model())

    def _call(self) -> str:
        """What makes the same model again, of the same data."""
        model, defaults = self._model(), type(self)().get_params()
        facts = model.facts
        said = {"members": facts["trained"], **self._settings(model), "random_state": facts["seed"]}
        told = [repr(facts["preset"]), *(f"{k}={v!r}" for k, v in said.items() if v != defaults[k])]
        return f"{type(self).__name__}({', '.join(told)}).fit(X, y{', sample_weight' * facts['weighted']})"

    # ------------------------------------------------------------------------------------------ files

    def _count(self, members: Any) -> int:
        """Return how many members are to be written, checked; all by default."""
        n = len(self._model().members)
        if members is None:
            return n
        if isinstance(members, bool) or not isinstance(members, (int, np.integer)) or not 1 <= members <= n:
            expected = f"a whole number from 1 to {n}, the networks of the model"
            raise ValueError(f"members must be {expected}, got {members!r}")
        return int(members)

    def _program(self, members: Any) -> TableProgram:
        """Return the model, or its best members, for the writers of nnc/_interop."""
        return build_table_program(self._model().with_members(self._count(members)))

    def save(self, path: Any, *, members: int | None = None) -> None:
        """Write the model to a JSON file: columns, encodings, networks and what was learned from held-out rows.

        Parameters
        ----------
        path : str, os.PathLike or text file
            As in `NeuralNetwork.save`: atomically, exact to the bit.
        members : int, default=None
            How many networks are written: those with the best scores on their held-out rows. `report()` says where one
            is as good as all. Default: all.

        Raises
        ------
        OSError
            It cannot be written; the message says why and what to do.
        ValueError
            members is not from 1 to the number of networks.
        """
        file.write(path, self._model(), self._count(members))

    def codes(self, X: Any) -> NDArray[np.float64]:
        """A table as the matrix (n, columns) that models take which `to_onnx` and `to_c` write.

        Numbers are as they are, booleans 0 and 1, dates seconds since 1970 (local time if the column has a time zone);
        text has its index in the list of its column, which stands in the file, or else -1. What is missing is NaN.

        Parameters
        ----------
        X : frame or array (n, columns)

        Returns
        -------
        float64 array (n, columns)
        """
        table = self._table(X)
        return self._model().schema.codes(table)

    def to_onnx(self, path: Any, *, members: int | None = None) -> None:
        """Writes the model as one ONNX model: the encoding of the columns, the networks and what is made of their
        outputs, in standard operators of opset 17.

        The input is "X" (n, columns), float64: what `codes` gives. The metadata have "columns", as JSON the name of
        each, what its numbers mean, and the "levels" of text. Outputs are "label" (n,) and "probabilities"
        (n, n_classes), or "output" (n, targets), what `predict` gives, and "quantiles" (n, quantiles, targets) where
        that is what was asked for.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole, as `save` does.
        members : int, default=None
            How many networks are written, as in `save`.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`.
        ValueError
            The model would be larger than 2 GiB, or members is not from 1 to the number of networks.
        """
        from nnc._interop.onnx_table import to_onnx_table

        disk.replace_file(path, to_onnx_table(self._program(members)), "model")

    def to_c(self, path: Any, name: str | None = None, *, members: int | None = None) -> None:
        """Writes the model as one header of C99 (or C++11), which needs nothing but math.h.

        `name_predict(in, out)` makes of NAME_N_IN raw columns, which are what `codes` gives, NAME_N_OUT outputs: the
        probabilities of the classes (`name_class(out)` is the number of the class and `name_labels[...]` its name), or
        what is predicted, all targets of the first quantile before those of the next where quantiles were asked for.
        The texts of column j are `name_levelsj`. `name_self_test()` is 0 where all of this computes what the model
        does.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole, as `save` does.
        name : str, optional
            What all names in the header begin with. Default: the file's.
        members : int, default=None
            How many networks are written, as in `save`.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`.
        ValueError
            name is no identifier of C, or members is not from 1 to the number of networks.
        """
        from nnc._interop.c_source import name_from_path
        from nnc._interop.c_table import to_c_table

        name = name_from_path(path) if name is None else name
        disk.write_text(path, to_c_table(self._program(members), name), "model")

    @classmethod
    def load(cls, path: Any) -> Self:
        """Reads a model that `save` has written.

        Parameters
        ----------
        path : str, os.PathLike or text file

        Returns
        -------
        TableClassifier or TableRegressor
            It predicts as the one that was saved, to the last bit on the same kind of processor. Its parameters are
            those that say how it would be trained again.

        Raises
        ------
        OSError
            It cannot be read, or is no such model (ModelFileError): the message says why and what to do.
        """
        return load_model(path, None, {file.WHAT: cls._from_content})

    @classmethod
    def _from_content(cls, content: Any, where: str, loss: None) -> Self:
        """Return the estimator for the checked content of a file, which error messages call `where`."""
        model = file.built(content, where)
        if model.task.kind != cls._kind:
            raise ModelFileError(
                f"cannot load the model from {where}: it is one of {model.task.kind}, load it with "
                f"{NAMES[model.task.kind]}.load, or with nnc.load"
            )
        return cls._of_model(model)

    @classmethod
    def _of_model(cls, model: TableModel) -> Self:
        """The estimator that would make such a model again."""
        facts = model.facts
        settings = cls._settings(model)
        estimator = cls(facts["preset"], members=facts["trained"], random_state=facts["seed"], **settings)
        estimator.model_ = model
        return estimator
