"""Base class of TableClassifier and TableRegressor: training, predictions, attributes and files."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral, Real
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from nnc._serialization import ModelFileError
from nnc._serialization.models import load_model
from nnc._tables.frames import read_table
from nnc._team import Interrupt
from nnc._utils import disk
from nnc._utils.arrays import as_weights
from nnc._utils.fitted import check_fitted
from nnc._utils.sklearn_private import HasMethods, Interval, StrOptions
from nnc.tabular import file
from nnc.tabular.explain import Explanations
from nnc.tabular.export import build_table_program
from nnc.tabular.held_out import evaluate, find_importances
from nnc.tabular.leakage import warn_of_leakage
from nnc.tabular.model import TableModel
from nnc.tabular.recipe import PRESETS, check_preset, choose_member_count
from nnc.tabular.selection import remove_outliers
from nnc.tabular.summary import summary
from nnc.tabular.training import Training, total_epochs, with_progress_bar
from nnc.tabular.training_rows import encode_rows, find_row_groups, learn_schema, split_into_folds

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from nnc._interop.table import TableProgram
    from nnc._network import NeuralNetwork
    from nnc._report.page import Report
    from nnc._tables.frames import Table
    from nnc.tabular.recipe import Task
    from nnc.tabular.snapshots import HeldOut
    from nnc.tabular.target import Target

MIN_WEIGHT_RATIO = 1e-30  # sample weights below this fraction of the largest one count as 0
# Name of the estimator class for each kind of task.
CLASS_NAMES = {"classes": "TableClassifier", "numbers": "TableRegressor"}


def _drop_unweighted_rows(table: Table, y: NDArray[Any], weights: NDArray[np.float64]) -> Any:
    """Return the table, y and weights without rows of weight 0; the largest returned weight is 1."""
    has_weight = (weights > 0) & (weights >= MIN_WEIGHT_RATIO * weights.max())
    if has_weight.sum() < 2:
        raise ValueError(f"the number of rows with positive weight must be 2 or more, got {has_weight.sum()}")
    if not has_weight.all():
        table, y, weights = table.select(has_weight), y[has_weight], weights[has_weight]
    return table, y, weights / weights.max()


class TableEstimator(BaseEstimator):
    """Base class of models that predict one or several columns from the other columns of a table.

    Parameters
    ----------
    preset : {"fast", "default"}, default="default"
        Determines the number of networks: few for "fast". Each network is trained in the same way.
    members : int, default=None
        Number of networks. Default: determined by `preset` and the number of rows.
    max_seconds : float, default=None
        Time limit of the training in seconds. At the limit the training ends, and the model consists of the networks
        whose training is complete. If there are none, it consists of the networks whose training has begun.
    n_jobs : int, default=None
        Number of networks that are trained at the same time. Default: `nnc.get_num_threads()`.
    random_state : int, RandomState or None, default=None
        Seed of all random numbers. Fits with the same seed, data and `members` give equal models, to the last bit.
    checkpoint : path, default=None
        File with the networks whose training is complete, written every few seconds and when the fit ends early. A fit
        with the same data and parameters continues from the file, and gives the same model as without interruption. A
        complete fit deletes the file.
    callback : callable, default=None
        Function that is called after each epoch of each network, in the thread that trains the network. Its arguments
        are the number of the network and the record of the epoch (see NeuralNetwork.fit). The last record of a network
        that stops early has "skipped_epochs", the number of remaining epochs.
    progress : bool, default=False
        Whether `fit` shows a progress bar (extra `[progress]`).

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    target_name_ : str or None
        Name of y if y was a series with a name in `fit`, otherwise None.
    feature_names_in_ : array of str
        Names of the columns of X. The attribute does not exist if the columns had no names.
    n_members_ : int
        Number of networks that were to be trained, which can be passed as `members`.
    seed_ : int
        Seed of the fit, which can be passed as `random_state`.
    complete_ : bool
        Whether all networks were trained completely; False if Ctrl-C or `max_seconds` ended the fit early.
    networks_ : list of nnc.NeuralNetwork
        Networks whose outputs are averaged for predictions.
    held_out_ : HeldOut
        Estimates of the quality of the model on new rows: `score` (accuracy or R^2 of the mean of all networks),
        `calibration_error`, `temperature`, and `n`, the number of held-out rows on which the estimates are based. A
        held-out row is predicted only by networks that it neither trained nor selected.
    """

    _parameter_constraints = {  # noqa: RUF012 (scikit-learn requires this name and form)
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
    _kind: ClassVar[str]  # kind of the targets, "classes" or "numbers"

    # ------------------------------------------------------------------------------------------ training

    @abstractmethod
    def _build_task(self, target: Target, y: NDArray[Any], weights: NDArray[np.float64] | None) -> Task:
        """Return the Task of the networks; y is the result of `Target.encode`."""

    @abstractmethod
    def _read_target(self, y: Any, n: int) -> Target:
        """Create the Target from the targets y of n rows; raise ValueError or TypeError if y is invalid."""

    def _class_weight(self, target: Target) -> Any:
        """Return the class weights of a classifier for storage in the model; None for regression."""
        return None

    def _row_weights(self, y: NDArray[Any], weights: NDArray[np.float64] | None, target: Target) -> Any:
        """Return the product of sample weight and class weight for each row; None if neither is set."""
        return weights

    @classmethod
    @abstractmethod
    def _model_parameters(cls, model: TableModel) -> dict[str, Any]:
        """Return the values that the subclass's own parameters had when a model was trained."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the model.

        Parameters
        ----------
        X : frame or array (n, columns)
            Frame of pandas, polars or pyarrow, any other frame that narwhals supports, an array, or a list of rows.
            Cells may contain numbers, booleans, categories, text or dates, and values may be missing.
        y : array (n,), or (n, targets) of numbers
            Labels for classification, numbers for regression; numbers may be text in one format, such as "25.53 €". No
            value may be missing.
        sample_weight : array (n,), optional
            Weight of each row. A row of weight 0 is ignored, but its label still counts as a class.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            A parameter or the data are invalid. If a cell is invalid, the message names its column, row and value.
        """
        check_preset(self.preset)
        self._validate_params()
        start = perf_counter()
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        table = read_table(X)
        if len(table) < 2:
            raise ValueError("X must have two rows or more, got n_samples=1")
        target = self._read_target(y, len(table))
        seed = self.random_state
        seed = int(seed if isinstance(seed, Integral) else check_random_state(seed).randint(2**31 - 1))
        encoded = target.encode(y, len(table))
        weights = None
        if sample_weight is not None:
            weights = as_weights("sample_weight", sample_weight, len(table), np.dtype(np.float64))
            weights = weights / weights.max()  # limit to 1: products with class weights do not overflow then
        weights = self._row_weights(encoded, weights, target)
        if weights is not None:
            table, encoded, weights = _drop_unweighted_rows(table, encoded, weights)
        task = self._build_task(target, encoded, weights)
        if weights is not None and task.quantiles:
            raise ValueError("sample_weight must be None if quantiles is given: quantile losses do not support weights")
        n = len(table)
        count = choose_member_count(self.preset, n) if self.members is None else int(self.members)
        schema = learn_schema(table)
        folds = split_into_folds(encoded, seed, find_row_groups(schema, table, encoded, seed))
        warn_of_leakage(schema, table, encoded, folds.distinct_rows, seed)
        schema, rows = encode_rows(schema, table, encoded, weights, folds)
        key = file.fingerprint(rows, task, self.preset, seed, count) if self.checkpoint is not None else ""
        done = file.read_checkpoint(self.checkpoint, key) if self.checkpoint is not None else []

        def save_members(members: Any) -> None:
            file.write_checkpoint(self.checkpoint, key, members)

        seconds = None if self.max_seconds is None else max(1e-3, self.max_seconds - (perf_counter() - start))
        epochs = total_epochs(n, count - len(done), task.kind)
        with with_progress_bar(self.callback, self.progress, epochs) as callback:
            save = None if self.checkpoint is None else save_members
            training = Training(task, rows, folds, seed, self.n_jobs, seconds, callback, save)
            trained = training.run(count, done)
            members = remove_outliers(task, trained, rows)
            training.discard({member.spec for member in trained} - {member.spec for member in members})
        with Interrupt():  # ignore Ctrl-C in this short block, because it would discard the trained networks
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
                rows.inputs[max(member.features for member in members)].mean(axis=0, dtype=np.float64),
                facts,
            )
            evaluate(model, rows, training, seed)
            facts["seconds"] = perf_counter() - start
            self.model_ = model
            if self.checkpoint is not None and not training.stopped:
                file.remove_checkpoint(self.checkpoint)
        return self

    # ------------------------------------------------------------------------------------------ predictions

    def _model(self) -> TableModel:
        """Return the fitted model; raise NotFittedError before `fit`."""
        check_fitted(self, "model_")
        return self.model_

    def _table(self, X: Any) -> Table:
        """Convert X to a Table; raise ValueError if X has no names and a different number of columns than in fit."""
        names = self._model().schema.names
        table = read_table(X)
        if not (table.named or table.numbered) and len(table.names) != len(names):
            raise ValueError(
                f"X has {len(table.names)} features, but {type(self).__name__} is expecting {len(names)} features as "
                "input"
            )
        return table

    def _predict(self, X: Any) -> NDArray[np.float64]:
        """Return the predictions of the model for X, with the shape that `TableModel.predict` returns."""
        return self._model().predict(self._table(X))

    def _explain_outputs(self, table: Table, outputs: NDArray[np.intp]) -> Explanations:
        """Return the Explanations of one output per row of a table; `outputs` contains the output index of each row."""
        contributions = np.empty((len(table), len(self.model_.schema.names)))
        baseline = np.empty(len(table))
        for output in np.unique(outputs):
            rows = np.flatnonzero(outputs == output)
            contributions[rows], baseline[rows] = self.model_.explain(table.select(rows), int(output))
        return Explanations(self.model_.schema.names, contributions, baseline, outputs)

    # ------------------------------------------------------------------------------------------ attributes

    @property
    def n_features_in_(self) -> int:
        """Number of columns that X had in `fit`."""
        return len(self._model().schema.names)

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the columns that X had in `fit`, array (columns,) of str."""
        schema = self._model().schema
        if not schema.named:
            raise AttributeError("feature_names_in_ does not exist, because X had no column names in fit")
        return np.array(schema.names, dtype=object)

    @property
    def target_name_(self) -> str | None:
        """Name of y if y was a series with a name in `fit`, otherwise None."""
        name: str | None = self._model().facts["target"]
        return name

    @property
    def n_members_(self) -> int:
        """Number of networks that `fit` trains if nothing ends it early."""
        return int(self._model().facts["trained"])

    @property
    def seed_(self) -> int:
        """Seed of all random numbers in `fit`."""
        return int(self._model().facts["seed"])

    @property
    def complete_(self) -> bool:
        """Return whether all networks were trained to the end; False if Ctrl-C or `max_seconds` ended the fit early."""
        return bool(self._model().facts["complete"])

    @property
    def networks_(self) -> list[NeuralNetwork]:
        """Networks whose outputs are averaged for predictions."""
        return list(self._model().networks)

    @property
    def held_out_(self) -> HeldOut:
        """Estimates of the quality of the model on new rows."""
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
        """Permutation importances (columns,): the decrease of the score if a column is permuted (Breiman, 2001).

        The score is the accuracy, or the mean R^2 of the targets, on held-out rows. The importance of a column without
        information is 0 on average. `feature_importances_std_` contains the standard errors. If a table has more than
        100 columns, `fit` does not compute importances; call `find_importances` to compute them.
        """
        return self._importances("feature_importances_")[0]

    @property
    def feature_importances_std_(self) -> NDArray[np.float64]:
        """Standard errors of `feature_importances_`, (columns,).

        In at least 95 % of tables, the importance of a column without information is at most two standard errors from
        0. For a model that nnc 0.1.0 has saved, the values are the standard deviations over permutations instead.
        """
        return self._importances("feature_importances_std_")[1]

    def _importances(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return importances and standard errors; if they are not computed yet, raise AttributeError for `name`."""
        importances = self._model().importances
        if importances is None:
            raise AttributeError(f"{name} is not computed yet; call find_importances()")
        return importances

    def find_importances(self) -> NDArray[np.float64]:
        """Return `feature_importances_`, (columns,); compute them if `fit` has not done so.

        For some thousand columns, the computation may take minutes.

        Raises
        ------
        ValueError
            There are no held-out rows, because the model was trained on fewer than 10 rows, or was loaded from a file
            without importances.
        """
        return find_importances(self._model())[0]

    def report(self) -> Report:
        """Return a report of the fit.

        The report contains the number of networks, scores on held-out rows, the sizes of model files, and the encoding
        and importance of each column. `print(model.report())` prints it as text; `model.report().save("report.html")`
        writes an HTML page with charts, which notebooks show.
        """
        return summary(type(self).__name__, self._reproducing_call(), self._model())

    def _reproducing_call(self) -> str:
        """Return a Python expression, as text, that fits an equal model on the same data."""
        model, defaults = self._model(), type(self)().get_params()
        facts = model.facts
        parameters = {"members": facts["trained"], **self._model_parameters(model), "random_state": facts["seed"]}
        arguments = [repr(facts["preset"]), *(f"{k}={v!r}" for k, v in parameters.items() if v != defaults[k])]
        return f"{type(self).__name__}({', '.join(arguments)}).fit(X, y{', sample_weight' * facts['weighted']})"

    # ------------------------------------------------------------------------------------------ files

    def _member_count(self, members: Any) -> int:
        """Return the argument `members` as an int; None means all members. Raise ValueError if it is invalid."""
        n = len(self._model().members)
        if members is None:
            return n
        if isinstance(members, bool) or not isinstance(members, (int, np.integer)) or not 1 <= members <= n:
            raise ValueError(f"members must be an integer from 1 to {n}, the number of networks, got {members!r}")
        return int(members)

    def _program(self, members: Any) -> TableProgram:
        """Describe the model, or only its best members, for the exporters in nnc/_interop."""
        return build_table_program(self._model().with_members(self._member_count(members)))

    def save(self, path: Any, *, members: int | None = None) -> None:
        """Save the model to a JSON file, with its schema, networks and estimates on held-out rows.

        Parameters
        ----------
        path : str, os.PathLike or text file
            Output file, which is replaced atomically as in `NeuralNetwork.save`. Numbers are exact to the last bit.
        members : int, default=None
            Number of networks to save: those with the best scores on held-out rows. Default: all networks.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            `members` is not from 1 to the number of networks.
        """
        file.write(path, self._model(), self._member_count(members))

    def codes(self, X: Any) -> NDArray[np.float64]:
        """Convert a table to the input of the models that `to_onnx` and `to_c` write.

        Booleans become 0 and 1. Dates become seconds since 1970, in local time if the column has a time zone. A text
        becomes its index in the list of the column's texts in the exported file, or -1 if it is not in the list. Free
        text becomes its number of words, followed by numbers for 32 words each of the vocabulary in the exported file:
        the sum of 2 ** i for the index i of each word in the text. Missing values become NaN.

        Parameters
        ----------
        X : frame or array (n, columns)
            Rows of a table with the columns of the training table.

        Returns
        -------
        float64 array (n, inputs)
            One input for each column, or several inputs for a column of free text.
        """
        table = self._table(X)
        return self._model().schema.codes(table)

    def to_onnx(self, path: Any, *, members: int | None = None) -> None:
        """Export the model to ONNX, with the encoding of the columns and the postprocessing of the outputs.

        The operators are those of opset 17. The input "X" (n, inputs) is float64, the result of `codes`. The metadata
        contain "columns", a JSON list of the name, the meaning and the "levels" of each input. The outputs of a
        classifier are "label" (n,) and "probabilities" (n, n_classes). The output of a regressor is "output"
        (n, targets), the result of `predict`; with `quantiles` there is also "quantiles" (n, quantiles, targets).

        Parameters
        ----------
        path : str or os.PathLike
            Output file, which is replaced atomically as in `save`.
        members : int, default=None
            Number of networks to export: those with the best scores on held-out rows. Default: all networks.

        Raises
        ------
        OSError, ValueError
            See `save`. ValueError is also raised if the ONNX model would be larger than 2 GiB.
        """
        from nnc._interop.onnx_table import to_onnx_table

        disk.replace_file(path, to_onnx_table(self._program(members)), "model")

    def to_c(self, path: Any, name: str | None = None, *, members: int | None = None) -> None:
        """Export the model as a C99 (or C++11) header, which requires only math.h.

        `name_predict(in, out)` computes NAME_N_OUT outputs (probabilities or predictions) from NAME_N_IN inputs, which
        are a row of the array that `codes` returns. Outputs for several quantiles are ordered by quantile, then by
        target. `name_class(out)` returns the index of the class; `name_labels` contains the labels of the classes, and
        `name_levelsj` the texts or words of input j. For free text, `name_count_words(text)` and `name_find_words(text,
        name_levelsj, n)` compute the inputs. `name_self_test()` returns 0 if the compiled code predicts correctly.

        Parameters
        ----------
        path : str or os.PathLike
            Output file, which is replaced atomically as in `save`.
        name : str, optional
            Prefix of all names in the header. Default: the name of the file without its extension.
        members : int, default=None
            Number of networks to export: those with the best scores on held-out rows. Default: all networks.

        Raises
        ------
        OSError, ValueError
            See `save`. ValueError is also raised if `name` is not a C identifier.
        """
        from nnc._interop.c_source import name_from_path
        from nnc._interop.c_table import to_c_table

        name = name_from_path(path) if name is None else name
        disk.write_text(path, to_c_table(self._program(members), name), "model")

    @classmethod
    def load(cls, path: Any) -> Self:
        """Load a model from a file.

        Parameters
        ----------
        path : str, os.PathLike or text file
            Model file that `save` has written.

        Returns
        -------
        TableClassifier or TableRegressor
            Estimator whose predictions equal those of the saved model, to the last bit on the same kind of processor.

        Raises
        ------
        OSError
            The file cannot be read, or is not a valid file of such a model (ModelFileError).
        """
        return load_model(path, None, {file.FILE_KIND: cls._from_content})

    @classmethod
    def _from_content(cls, content: Any, where: str, loss: None) -> Self:
        """Create the estimator from the parsed content of a file; `where` names the file in error messages."""
        model = file.build_model(content, where)
        if model.task.kind != cls._kind:
            raise ModelFileError(
                f"cannot load the model from {where}: it is a {CLASS_NAMES[model.task.kind]}, expected a "
                f"{cls.__name__}; load it with {CLASS_NAMES[model.task.kind]}.load or nnc.load"
            )
        return cls._from_model(model)

    @classmethod
    def _from_model(cls, model: TableModel) -> Self:
        """Create a fitted estimator from a model; its parameters are those with which the model was trained."""
        facts = model.facts
        parameters = cls._model_parameters(model)
        estimator = cls(facts["preset"], members=facts["trained"], random_state=facts["seed"], **parameters)
        estimator.model_ = model
        return estimator
