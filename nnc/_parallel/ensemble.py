"""`Ensemble`: networks whose predictions are averaged."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.conformal import ConformalIntervals, ConformalSets, check_level
from nnc._parallel.fit import check_networks
from nnc._parallel.members import Members
from nnc._registry import activations, losses
from nnc._registry.capabilities import check
from nnc._utils.arrays import as_real_array
from nnc._utils.attributes import SuggestsAttributes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.converter import DataConverter
    from nnc._network import NeuralNetwork
    from nnc._registry.choices import DType


class Ensemble(SuggestsAttributes):
    """Ensemble of networks that were trained for the same task; it predicts the mean of their predictions.

    Parameters
    ----------
    networks : sequence of NeuralNetwork
        Different objects with the same inputs, outputs, classes, feature names and type of loss. Layers and precision
        may differ. The ensemble stores the networks, not copies.

    Attributes
    ----------
    networks : tuple of NeuralNetwork
        Members of the ensemble.
    classes : array or None
        Classes of the members, as `NeuralNetwork.classes`.

    Raises
    ------
    ValueError, TypeError
        `networks` is not a sequence of networks, or the networks differ in one of these properties.

    Examples
    --------
    >>> networks = nnc.clones(NeuralNetwork([8, 16, 1], loss="mse", scale_X="standardize"), 10)
    >>> nnc.fit_many(networks, X, y, epochs=100, optimizer="adam")
    >>> ensemble = nnc.Ensemble(networks)
    >>> low, high = ensemble.conformal(X_held, y_held, level=0.9).predict_interval(X_new)
    """

    networks: Members

    def __init__(self, networks: Sequence[NeuralNetwork]) -> None:
        self.networks = Members(check_networks("networks", networks))
        first = _common_properties(self.networks[0])
        for i, network in enumerate(self.networks[1:], 1):
            for name, value in _common_properties(network).items():
                if value != first[name]:
                    raise ValueError(
                        f"networks must have the same {name}, got {first[name]} in networks[0] and {value} in "
                        f"networks[{i}]"
                    )

    @property
    def _converter(self) -> DataConverter:
        """Data converter of the first network, read at each use because a fit replaces it."""
        return self.networks[0].converter

    @property
    def classes(self) -> NDArray[Any] | None:
        """Classes that `predict_classes` returns, in the order of the outputs; see `NeuralNetwork.classes`."""
        return self.networks[0].classes

    def __len__(self) -> int:
        return len(self.networks)

    def __repr__(self) -> str:
        sizes = list(dict.fromkeys("-".join(map(str, network.sizes)) for network in self.networks))
        return f"<Ensemble: {len(self)} networks, {', '.join(sizes[:3])}{', ...' * (len(sizes) > 3)}>"

    # ------------------------------------------------------------------------------------------ prediction

    def predict_all(self, X: ArrayLike, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the predictions of each network.

        Parameters
        ----------
        X : array (n, n_in)
            Inputs as in `NeuralNetwork.predict`.
        lengths : int array (n,), optional
            Number of steps of each sequence, as in `NeuralNetwork.predict`.

        Returns
        -------
        array (n_networks, n, n_out)
            The shape is (n_networks, n_out) if X is a single row. The dtype is float64, unless all networks have
            float32. For outputs at each step of a list of sequences, a list of arrays (n_networks, steps, k).

        Raises
        ------
        ValueError, TypeError
            X is invalid, as in `NeuralNetwork.predict`.
        """
        return self.networks.stacked(lambda network: network.predict(X, lengths=lengths))  # type: ignore[no-any-return]

    def predict(self, X: ArrayLike, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the mean of the predictions of the networks, (n, n_out) for rows X (n, n_in)."""
        return self.networks.mean(lambda network: network.predict(X, lengths=lengths))  # type: ignore[no-any-return]

    def predict_proba(self, X: ArrayLike, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the mean probability of each class, (n, n_classes), as in `NeuralNetwork.predict_proba`."""
        return self.networks.mean(lambda network: network.predict_proba(X, lengths=lengths))  # type: ignore[no-any-return]

    def predict_classes(self, X: ArrayLike, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the class with the largest mean output, as in `NeuralNetwork.predict_classes`."""
        converter, X = self._converter.bind(X, lengths)
        return converter.as_given(X, converter.predicted_classes(self._mean_rows(X)))  # type: ignore[no-any-return]

    def _mean_rows(self, X: Any) -> NDArray[Any]:
        """Return the mean of the predictions as rows (n, n_out), for an array or for Sequences."""
        mean: NDArray[Any] = self.networks.mean(lambda network: network._predict_rows(*network.converter.bind(X)))
        return mean

    def predict_interval(self, X: ArrayLike, level: float = 0.9) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return intervals from the mean and the standard deviation of the networks, assuming a normal distribution.

        The variance is that of the predictions of the networks. For the loss "poisson" the variance of the targets,
        which equals the mean, is added. With other losses, the interval describes only the uncertainty of the mean and
        does not cover a fraction `level` of the targets; intervals from `conformal` do.

        Parameters
        ----------
        X : array (n, n_in)
            Inputs as in `NeuralNetwork.predict`.
        level : float, default 0.9
            Probability of the interval, between 0 and 1.

        Returns
        -------
        low, high : array (n, n_out)
            Bounds, clipped to the range of the outputs, such as 0 to 1 for probabilities.

        Raises
        ------
        ValueError
            The ensemble has a single network, or an argument is invalid.
        """
        if len(self) == 1:
            raise ValueError("predict_interval requires two or more networks, got 1; use the method conformal instead")
        z = NormalDist().inv_cdf((1 + check_level("level", level)) / 2)
        mean, deviation = self._moments(X)
        low, high = -np.inf, np.inf
        if self._converter.scaler_y is None:
            low, high = activations.ROWS[self.networks[0].activations[-1]].output_range
        return np.maximum(mean - z * deviation, low), np.minimum(mean + z * deviation, high)

    def _moments(self, X: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the mean of the predictions and the standard deviation, as described for `predict_interval`."""
        P = self.predict_all(X)
        if isinstance(P, list):
            raise ValueError("X must be an array for intervals of outputs at each step, got a list of sequences")
        mean, variance = P.mean(axis=0), P.var(axis=0, ddof=1) if len(P) > 1 else np.zeros(P.shape[1:], P.dtype)
        target_variance = self._converter.loss.compute_variance
        return mean, np.sqrt(variance if target_variance is None else variance + target_variance(mean))

    def conformal(self, X: ArrayLike, y: Any, level: float = 0.9) -> Any:
        """Calibrate prediction intervals or sets of classes that cover the true target of a fraction `level` of rows.

        Parameters
        ----------
        X, y : arrays
            Held-out rows, as in `NeuralNetwork.score`. They must neither have trained the networks nor have been
            validation rows that selected an epoch (`restore_best`, `patience`) or a network. Otherwise the sets and
            intervals would be too small.
        level : float, default 0.9
            Coverage, between 0 and 1. At least level / (1 - level) rows are required; the coverage is accurate with
            some hundred rows.

        Returns
        -------
        ConformalIntervals or ConformalSets
            For regression, `predict_interval(X)` of the result returns (low, high). The intervals are wider if the
            networks differ more. The nonconformity score of a row is the distance between target and mean prediction,
            divided by the standard deviation of the networks plus the median of this standard deviation over the
            held-out rows. The width depends on the disagreement of the networks, not on the noise of the targets;
            `nnc.tabular.TableRegressor` scales its intervals by a predicted spread instead. For classification,
            `predict_set(X)` of the result returns which classes are in the set.

        Raises
        ------
        ValueError, TypeError
            There are too few rows, an argument is invalid, or the outputs are neither numbers nor the probabilities of
            mutually exclusive classes.
        """
        level = check_level("level", level)
        check("conformal", self.networks[0].model)
        converter, X = self._converter.bind(X)
        data = converter.data(X, y)
        if self._converter.loss.is_classification:
            converter.check_probabilities()
            index = converter.true_class_index(data)
            return ConformalSets(self.predict_proba, X, index, level)
        median_deviation = np.median(self._moments(X)[1], axis=0)
        median_deviation = np.where(median_deviation > 0, median_deviation, 1)

        def predict(rows: Any) -> tuple[NDArray[Any], NDArray[Any]]:
            mean, deviation = self._moments(rows)
            return mean, deviation + median_deviation

        # Convert y again in float64, because the targets in `data` may be rounded to float32.
        targets = as_real_array("y", y).astype(np.float64)
        return ConformalIntervals(predict, X, targets.reshape(len(data.X), -1), level)

    def score(
        self,
        X: ArrayLike,
        y: Any,
        sample_weight: ArrayLike | None = None,
        metric: Any = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Return the score of the predictions: accuracy or R^2 by default, or the given metric.

        Arguments and errors are those of `NeuralNetwork.score`. The score is an estimate for new rows if X was neither
        used to train the networks nor to select an epoch.
        """
        metric = self.networks[0]._metric(metric)
        converter, X = self._converter.bind(X, lengths)
        data, P = converter.data(X, y, sample_weight), self._mean_rows(X)
        if not np.isfinite(P).all():  # raise an error if parameters are NaN; the accuracy would still be finite
            for member in self.networks:
                member.model.check_parameters()
        return converter.measure_unscaled(metric, data, P)

    # ------------------------------------------------------------------------------------------ files

    def save(self, path: Any) -> None:
        """Write all networks to one JSON file (a path, or a text file open for writing).

        As in `NeuralNetwork.save`, the file is replaced atomically, contains the exact bits of the parameters, and the
        same errors are raised.
        """
        from nnc import _serialization

        _serialization.write(path, self.networks.documents())

    @classmethod
    def load(cls, path: Any, loss: Any = None) -> Ensemble:
        """Load an ensemble that was saved with `save`; arguments and errors are those of `NeuralNetwork.load`."""
        from nnc._serialization.models import load_model

        return load_model(path, loss, {"ensemble": cls._from_documents})

    def to_json(self) -> str:
        """Return the JSON object that `save` writes for the ensemble."""
        from nnc import _serialization

        return _serialization.dumps(self.networks.documents())

    @classmethod
    def _from_documents(cls, documents: list[dict[str, Any]], where: str, loss: Any) -> Ensemble:
        from nnc import _serialization

        networks = Members.from_documents(documents, where, loss)
        with _serialization.build_errors(where, "ensemble"):
            return cls(networks)

    def to_onnx(self, path: Any, dtype: DType | None = None) -> None:
        """Write an ONNX model that computes the mean of the networks.

        Parameters
        ----------
        path : str, os.PathLike or binary file
            File to write.
        dtype : {"float64", "float32"}, optional
            Default: float64, unless all networks have float32.

        Raises
        ------
        OSError, ValueError
            The model cannot be written, as in `NeuralNetwork.to_onnx`.
        """
        from nnc._interop.onnx import to_onnx
        from nnc._utils import disk

        disk.replace_file(path, to_onnx(self.networks.export_documents("to_onnx"), self._dtype_name(dtype)), "ensemble")

    def to_c(self, path: Any, name: str | None = None, dtype: DType | None = None) -> None:
        """Write a C header that computes the mean of the networks.

        Parameters
        ----------
        path : str, os.PathLike or text file
            File to write.
        name : str, optional
            Prefix of the names in the header. Default: derived from the path.
        dtype : {"float64", "float32"}, optional
            Type of the numbers, double or float. Default: float64, unless all networks have float32. Quantization to
            integers is not supported.

        Raises
        ------
        OSError, ValueError
            The header cannot be written, as in `NeuralNetwork.to_c`.
        """
        from nnc._interop.c_source import name_from_path, to_c
        from nnc._utils import disk

        name = name_from_path(path) if name is None else name
        documents = self.networks.export_documents("to_c")
        disk.write_text(path, to_c(documents, name, self._dtype_name(dtype), self.predict), "ensemble")

    def to_python(self, path: Any) -> None:
        """Write a module of plain Python that computes the mean prediction; see `NeuralNetwork.to_python`."""
        from nnc._interop.python_source import to_python
        from nnc._utils import disk

        disk.write_text(path, to_python(self.networks.export_documents("to_python"), self.predict), "ensemble")

    def to_js(self, path: Any) -> None:
        """Write a JavaScript module (ES module) that computes the mean prediction; see `NeuralNetwork.to_js`."""
        from nnc._interop.js_source import to_js
        from nnc._utils import disk

        disk.write_text(path, to_js(self.networks.export_documents("to_js"), self.predict), "ensemble")

    def _dtype_name(self, dtype: Any) -> str:
        """Return the name of a dtype; the default is the dtype of the outputs."""
        from nnc._model.cores import check_dtype

        dtype = np.result_type(*(network.dtype for network in self.networks)) if dtype is None else dtype
        return str(check_dtype(dtype).name)


def _common_properties(network: NeuralNetwork) -> dict[str, Any]:
    """Return the properties that all networks of an ensemble must share, under the names used in messages."""
    loss, output = losses.ROWS[network.model.loss], network.activations[-1]
    classes = network.classes
    return {
        "inputs": network.model.input_shape,
        "number of outputs": network.sizes[-1],
        "type of targets": loss.target_type,
        "output range": activations.ROWS[output].output_range if network.converter.scaler_y is None else None,
        "target variance": loss.target_variance,
        "heads": network.heads,
        "classes": None if classes is None else classes.tolist(),
        "feature_names": network.feature_names,
    }
