"""Ensemble: networks that answer together."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.conformal import ConformalIntervals, ConformalSets, checked_level
from nnc._network import NeuralNetwork
from nnc._parallel.fit import checked_networks
from nnc._registry import activations, losses
from nnc._utils.arrays import as_real_array
from nnc._utils.attributes import SuggestsAttributes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.converter import DataConverter


class Ensemble(SuggestsAttributes):
    """Networks that were trained for the same, which answer together: with the mean of what they predict.

    Parameters
    ----------
    networks : sequence of NeuralNetwork
        Different objects with the same inputs and outputs. Layers and precision may differ; what outputs mean, classes
        and names of columns may not. They are kept, not copied.

    Attributes
    ----------
    networks : tuple of NeuralNetwork
    classes : array or None
        As of a network.

    Raises
    ------
    ValueError, TypeError
        It is no such sequence, or they do not go together.

    Examples
    --------
    >>> networks = nnc.clones(NeuralNetwork([8, 16, 1], loss="mse", scale_X="standardize"), 10)
    >>> nnc.fit_many(networks, X, y, epochs=100, optimizer="adam")
    >>> ensemble = nnc.Ensemble(networks)
    >>> low, high = ensemble.conformal(X_held, y_held, level=0.9).predict_interval(X_new)
    """

    networks: tuple[NeuralNetwork, ...]

    def __init__(self, networks: Sequence[NeuralNetwork]) -> None:
        self.networks = tuple(checked_networks("networks", networks))
        first = _meaning(self.networks[0])
        for i, network in enumerate(self.networks[1:], 1):
            for what, value in _meaning(network).items():
                if value != first[what]:
                    raise ValueError(
                        f"networks must have the same {what}, got {first[what]} in networks[0] and {value} in "
                        f"networks[{i}]"
                    )

    @property
    def _lead(self) -> DataConverter:
        """What outputs mean, as the first network has it: each fit gives a network another one."""
        return self.networks[0].converter

    @property
    def classes(self) -> NDArray[Any] | None:
        """What `predict_classes` answers with, as `NeuralNetwork.classes`."""
        return self.networks[0].classes

    def __len__(self) -> int:
        return len(self.networks)

    def __repr__(self) -> str:
        sizes = list(dict.fromkeys("-".join(map(str, network.sizes)) for network in self.networks))
        return f"<Ensemble: {len(self)} networks, {', '.join(sizes[:3])}{', ...' * (len(sizes) > 3)}>"

    # ------------------------------------------------------------------------------------------ what it predicts

    def predict_all(self, X: ArrayLike) -> NDArray[Any]:
        """What each network predicts.

        Parameters
        ----------
        X : array (n, n_in)
            As in `NeuralNetwork.predict`.

        Returns
        -------
        array (n_networks, n, n_out)
            (n_networks, n_out) where X is one row. float64, unless all networks are of float32.

        Raises
        ------
        ValueError, TypeError
            As in `NeuralNetwork.predict`.
        """
        return np.stack([network.predict(X) for network in self.networks])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The mean of what the networks predict, (n, n_out) for rows X (n, n_in)."""
        mean: NDArray[Any] = self.predict_all(X).mean(axis=0)
        return mean

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """The mean of the probabilities of every class, (n, n_classes), as `NeuralNetwork.predict_proba` has them."""
        mean: NDArray[Any] = np.mean([network.predict_proba(X) for network in self.networks], axis=0)
        return mean

    def predict_classes(self, X: ArrayLike) -> NDArray[Any]:
        """The class that the mean of the outputs speaks for, as `NeuralNetwork.predict_classes`."""
        index = self._lead.class_index(np.atleast_2d(self.predict(X)))
        classes = self._lead.classes
        return index if classes is None or index.ndim == 2 else classes[index]

    def predict_interval(self, X: ArrayLike, level: float = 0.9) -> tuple[NDArray[Any], NDArray[Any]]:
        """Where the networks see the answer: the mean and, to both sides, so many standard deviations that a normal
        distribution has a share of `level` there.

        The variance is that of the networks, and where the loss says how far targets lie from their mean ("poisson",
        whose variance is the mean), that on top. With other losses the interval says how sure the networks are of the
        mean, and not where targets lie: see `conformal`.

        Parameters
        ----------
        X : array (n, n_in)
        level : float, default 0.9
            Above 0 and below 1.

        Returns
        -------
        low, high : array (n, n_out)
            Within what outputs can be, as from 0 to 1 of probabilities.

        Raises
        ------
        ValueError
            There is one network only, or an argument does not fit.
        """
        if len(self) == 1:
            raise ValueError("predict_interval needs two networks or more, got 1; see conformal")
        z = NormalDist().inv_cdf((1 + checked_level("level", level)) / 2)
        mean, deviation = self._moments(X)
        low, high = -np.inf, np.inf
        if self._lead.scaler_y is None:
            low, high = activations.ROWS[self.networks[0].activations[-1]].output_range
        return np.maximum(mean - z * deviation, low), np.minimum(mean + z * deviation, high)

    def _moments(self, X: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """The mean, and the standard deviation of a target as far as the networks know of it."""
        P = self.predict_all(X)
        mean, variance = P.mean(axis=0), P.var(axis=0, ddof=1) if len(P) > 1 else np.zeros(P.shape[1:], P.dtype)
        noise = self._lead.loss.compute_variance
        return mean, np.sqrt(variance if noise is None else variance + noise(mean))

    def conformal(self, X: ArrayLike, y: Any, level: float = 0.9) -> ConformalIntervals | ConformalSets:
        """Intervals for targets, or sets of classes, that hold the truth in a share of `level` of all rows.

        Parameters
        ----------
        X, y : arrays
            Rows that no network has learned from, as in `NeuralNetwork.score`. They must not be validation rows that
            have chosen an epoch (`restore_best`, `patience`) or a network: sets and intervals would be too small.
        level : float, default 0.9
            Above 0 and below 1. It needs level / (1 - level) rows at least, and some hundred to be exact.

        Returns
        -------
        ConformalIntervals or ConformalSets
            `predict_interval(X)` gives (low, high), wider where the networks differ more: the distance is measured in
            their standard deviation plus its median over the held-out rows. They do not follow noise that all networks
            predict alike: `nnc.tabular.TableRegressor` scales its intervals by a predicted spread instead. Where the
            loss is one of classes `predict_set(X)` says which are in the set.

        Raises
        ------
        ValueError, TypeError
            There are too few rows, an argument does not fit, or outputs are neither numbers nor the probabilities of
            classes of which a row has one.
        """
        level = checked_level("level", level)
        data = self._lead.data(X, y)
        if self._lead.loss.is_classification:
            self._lead.check_probabilities()
            index = self._lead.true_class_index(data)
            if index.ndim == 2:
                raise ValueError("conformal needs one class a row, and with the loss 'bce' each output is for itself")
            return ConformalSets(self.predict_proba, X, index, level)
        usual = np.median(self._moments(X)[1], axis=0)
        usual = np.where(usual > 0, usual, 1)

        def predict(rows: Any) -> tuple[NDArray[Any], NDArray[Any]]:
            mean, deviation = self._moments(rows)
            return mean, deviation + usual

        truth = as_real_array("y", y).astype(np.float64)  # data.target may be rounded to float32
        return ConformalIntervals(predict, X, truth.reshape(len(data.X), -1), level)

    def score(self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None, metric: Any = None) -> float:
        """Return the score of the predictions, with the arguments and errors of `NeuralNetwork.score`: accuracy or R^2
        without `metric`. It is that of new rows if X has neither trained a network nor chosen an epoch."""
        lead = self.networks[0]
        metric = lead._metric(metric)
        data = lead.converter.data(X, y, sample_weight)
        P = self.predict(X).reshape(len(data.X), -1)
        if not np.isfinite(P).all():  # NaN has a class and a score like any number
            for network in self.networks:
                network.model.check_parameters()
        return lead.converter.measure_unscaled(metric, data, P)

    # ------------------------------------------------------------------------------------------ files

    def save(self, path: Any) -> None:
        """Writes all networks to one JSON file: a path, or a text file open for writing. As `NeuralNetwork.save` does
        it: atomically, exact to the bit, with the same errors."""
        from nnc import _serialization

        _serialization.write(path, [network._document(checkpoint=False) for network in self.networks])

    @classmethod
    def load(cls, path: Any, loss: Any = None) -> Ensemble:
        """Reads an ensemble from a file that `save` has written, with the arguments, checks and errors of
        `NeuralNetwork.load`."""
        from nnc._serialization.models import load_model

        return load_model(path, loss, {"ensemble": cls._from_documents})

    def to_json(self) -> str:
        """The ensemble as the text that `save` writes."""
        from nnc import _serialization

        return _serialization.dumps([network._document(checkpoint=False) for network in self.networks])

    @classmethod
    def _from_documents(cls, documents: list[dict[str, Any]], where: str, loss: Any) -> Ensemble:
        from nnc import _serialization

        networks = [NeuralNetwork._from_document(document, where, loss) for document in documents]
        with _serialization.build_errors(where, "ensemble"):
            return cls(networks)

    def to_onnx(self, path: Any, dtype: Any = None) -> None:
        """Writes the ensemble as one ONNX model, whose outputs are those of the mean, as `NeuralNetwork.to_onnx` does
        it; in float64, unless all networks are of float32 or dtype says another.

        Raises
        ------
        OSError, ValueError
            As `NeuralNetwork.to_onnx`.
        """
        from nnc._interop.onnx import to_onnx
        from nnc._utils import disk

        disk.replace_file(path, to_onnx(self._export_documents(), self._named(dtype)), "ensemble")

    def to_c(self, path: Any, name: str | None = None, dtype: Any = None) -> None:
        """Writes the ensemble as one header of C, whose outputs are those of the mean, as `NeuralNetwork.to_c` does it;
        in double or float, as in `to_onnx`, and not in whole numbers.

        Raises
        ------
        OSError, ValueError
            As `NeuralNetwork.to_c`.
        """
        from nnc._interop.c_source import name_from_path, to_c
        from nnc._utils import disk

        name = name_from_path(path) if name is None else name
        disk.write_text(path, to_c(self._export_documents(), name, self._named(dtype), self.predict), "ensemble")

    def to_python(self, path: Any) -> None:
        """Writes the ensemble as one module of plain Python, whose outputs are those of the mean, with what
        `NeuralNetwork.to_python` writes and raises."""
        from nnc._interop.python_source import to_python
        from nnc._utils import disk

        disk.write_text(path, to_python(self._export_documents(), self.predict), "ensemble")

    def to_js(self, path: Any) -> None:
        """Writes the ensemble as one ES module, whose outputs are those of the mean, with what `NeuralNetwork.to_js`
        writes and raises."""
        from nnc._interop.js_source import to_js
        from nnc._utils import disk

        disk.write_text(path, to_js(self._export_documents(), self.predict), "ensemble")

    def _export_documents(self) -> list[dict[str, Any]]:
        """The documents, for other formats."""
        return [network._export_document() for network in self.networks]

    def _named(self, dtype: Any) -> str:
        """The name of a dtype, by default that of the outputs."""
        from nnc._model.cores import check_dtype

        dtype = np.result_type(*(network.dtype for network in self.networks)) if dtype is None else dtype
        return str(check_dtype(dtype).name)


def _meaning(network: NeuralNetwork) -> dict[str, Any]:
    """What networks of an ensemble have in common."""
    loss, output = losses.ROWS[network.model.loss], network.activations[-1]
    classes = network.classes
    return {
        "inputs": network.model.input_shape,
        "number of outputs": network.sizes[-1],
        "kind of targets": loss.target_type,
        "bounds of outputs": activations.ROWS[output].output_range if network.converter.scaler_y is None else None,
        "noise": loss.target_variance,
        "heads": network.heads,
        "classes": None if classes is None else classes.tolist(),
        "feature_names": network.feature_names,
    }
