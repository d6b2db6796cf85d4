"""Outputs, losses, scores and derivatives of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data import derivatives
from nnc._network.parameters import Parameters
from nnc._registry import losses

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nnc._data.metrics import Metric


class Prediction(Parameters):
    """Computations that do not change the network."""

    def predict(self, X: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The outputs of the network.

        Parameters
        ----------
        X : array (n, n_in)
            Rows of inputs. A vector is one row, or where the network has one input, one column. Images, here and
            elsewhere: (n, height, width, channels), (n, height, width) of one channel, or one of these without n.
        out : array, optional
            Written into and returned, in place of a new array: of the shape and dtype below, C-contiguous.

        Returns
        -------
        array (n, n_out)
            In the network's dtype; (n_out,) where X was a vector that is one row. NaN where weights are NaN, which
            `fit`, `save`, `predict_classes`, `score` and `evaluate_loss` refuse: this call has no time to look.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or holds NaN or infinity, or out is no such array.
        """
        converter, model, single = self.converter, self.model, False
        direct = converter.is_direct and model.heads is None and (out is None or type(out) is np.ndarray)
        if direct and type(X) is np.ndarray:
            P = model.engine.predict_as_is(model.theta_view, X, out)
            if P is not None:
                return P  # type: ignore[no-any-return]
        rows = converter.rows_as_is(X)
        if rows is None:
            array = converter.array(X)
            rows, single = converter.inputs(array), converter.is_single(array)
        if out is not None:
            return converter.predict_into(out, rows, single)
        P = model.predict(rows)
        if converter.scaler_y is not None:
            P = converter.unscale(P)
        return P[0] if single else P

    def predict_classes(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of every row.

        Parameters
        ----------
        X : array (n, n_in)
            As in `predict`; a vector that is one row counts as n = 1.

        Returns
        -------
        array (n,)
            With two or more outputs the index of the largest one; with one output 1 where a sigmoid is at least 0.5, or
            with "hinge" where it is at least 0, else 0. Where labels were of another kind, the class of that index.
            With "bce" and several outputs (n, n_out), each 0 or 1 for itself.

        Raises
        ------
        ValueError
            The network has one output and it is no sigmoid, or X does not fit the network.
        TypeError
            X is not an array of real numbers.
        """
        P = np.atleast_2d(self.predict(X))
        self._check_outputs(P)
        index = self.converter.class_index(P)
        classes = self.converter.classes
        return index if classes is None or index.ndim == 2 else classes[index]

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """The probability of every class.

        Parameters
        ----------
        X : array (n, n_in)
            As in `predict`; a vector that is one row counts as n = 1.

        Returns
        -------
        array (n, n_classes)
            In the order of `classes`; with one sigmoid output the columns of no and yes. With "bce" and several outputs
            (n, n_out), the probability of yes of each for itself.

        Raises
        ------
        ValueError, TypeError
            The outputs are no probabilities, as with "hinge" and with losses of numbers; or X does not fit the network.
        """
        self.converter.check_probabilities()
        P = np.atleast_2d(self.predict(X))
        return np.concatenate([1 - P, P], axis=1) if P.shape[1] == 1 else P

    def score(self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None, metric: Any = None) -> float:
        """How good the predictions are.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
            As in `evaluate_loss`.
        sample_weight : array (n,), optional
            How much each row counts.
        metric : str, function or nnc.Metric, optional
            As in `fit`.

        Returns
        -------
        float
            That of the metric. Without one, with "bce", "cross_entropy" and "hinge" the accuracy: the share of rows
            whose classes are all predicted. Else R^2, 1 - (sum of squared errors) / (sum of squared differences from
            the mean), averaged over the outputs; for an output whose targets are all the same 1 if they are predicted
            exactly, else 0.

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        metric, data = self._metric(metric), self.converter.data(X, y, sample_weight)
        P = self.model.predict(data.X)
        self._check_outputs(P)
        return self.converter.measure(metric, data, P)

    def _metric(self, metric: Any) -> Metric:
        """What `score` measures."""
        from nnc._data.metrics import as_metric

        if self.heads is not None:
            raise ValueError("score is of one loss, and there are several heads: split what predict returns")
        row = losses.ROWS[self.model.loss]
        return as_metric("metric", ("accuracy" if row.is_classification else "r2") if metric is None else metric, row)

    def _check_outputs(self, P: NDArray[Any]) -> None:
        """Raises where outputs are not finite because weights are not: NaN has a class and a score like any number."""
        if self.model.core.find_not_finite(P)[0] >= 0:
            self.model.check_parameters()

    def evaluate_loss(self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Compute the network's loss on these rows, as defined for the constructor's argument `loss`.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
            Targets; a vector is a column. For "cross_entropy" labels (n,) from 0 to n_out - 1, or rows of
            probabilities (n, n_out) that sum to 1, such as one-hot ones; for "bce" numbers from 0 to 1; for "poisson"
            numbers from 0; for "hinge" -1 and 1. Where `fit` has met classes of another kind, such as strings, those.
        sample_weight : array (n,), optional
            How much each row counts: finite, 0 or more, not all 0.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network, or holds NaN or infinity.
        """
        model, converter = self.model, self.converter
        if sample_weight is None and converter.is_unconverted(X, y):
            found: float | None = model.engine.loss_as_is(model.theta_view, X, y)
            if found is not None:
                return found
        if model.custom is not None:
            return model.compute_loss(converter.data(X, y, sample_weight))
        data = converter.data_as_is(X, y, sample_weight) or converter.data(X, y, sample_weight)
        loss: float = model.engine.loss(model.theta_view, *data)
        if not loss < np.inf:
            converter.data(X, y, sample_weight)  # raises where they are not finite
            model.check_parameters()
        return loss

    def gradients(
        self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None
    ) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        """The gradient of the loss on these rows by backpropagation. Where there is a BatchNorm it is that of a step of
        training, which takes mean and variance of these rows.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
        sample_weight : array (n,), optional
            As in `evaluate_loss`.

        Returns
        -------
        list of (dW, db), one for each layer
            dW (n_in, n_out) and db (n_out,), None of a layer without biases.

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        model, converter = self.model, self.converter
        flat = np.empty(model.n_params, model.dtype)
        as_is = sample_weight is None and converter.is_unconverted(X, y) and len(X) >= model.min_batch_rows  # type: ignore[arg-type]
        if as_is and model.engine.gradients_as_is(model.theta_view, X, y, flat) is not None:
            return model.split(flat)
        data: Any = None if model.custom is not None else converter.data_as_is(X, y, sample_weight)
        if data is None:
            data = converter.data(X, y, sample_weight)
            if model.custom is not None:
                _, data = model.with_output_gradients(data)
        rows, Y, labels, weights = data
        if rows.shape[0] < model.min_batch_rows:
            model.check_batch_rows(len(rows))
        loss: float = model.engine.gradients(model.theta_view, rows, Y, labels, weights, flat)
        if not loss < np.inf:
            converter.data(X, y, sample_weight)
            model.check_parameters()
        return model.split(flat)

    def forward(self, X: ArrayLike) -> list[NDArray[Any]]:
        """The outputs of every layer.

        Parameters
        ----------
        X : array (n, n_in)

        Returns
        -------
        list of arrays (n, *shape_out of the layer)
            The last one is what `predict` returns, before a scaling of the targets is undone.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or holds NaN or infinity.
        """
        return self.model.forward(self.converter.checked_inputs(X))

    def vjp(self, X: ArrayLike, dP: ArrayLike) -> tuple[list[tuple[NDArray[Any], NDArray[Any] | None]], NDArray[Any]]:
        """The gradient of a loss of your own, by backpropagation of its derivative by the outputs: the vector-Jacobian
        product.

        Parameters
        ----------
        X : array (n, n_in)
        dP : array (n, n_out)
            d loss / d P, where P is what `predict` returns for X: probabilities where the output is softmax or sigmoid,
            whose own derivatives are taken here, and raw numbers where `scale_y` scales targets.

        Returns
        -------
        gradients : list of (dW, db), one for each layer
            As `gradients` has them.
        dX : array of the shape of X
            d loss / d X, by the raw X where `scale_X` scales it.

        Raises
        ------
        ValueError, TypeError
            X or dP does not fit the network, or holds NaN or infinity.

        Examples
        --------
        >>> P = net.predict(X)
        >>> gradients, dX = net.vjp(X, 2 * (P - Y) / P.size)  # of the mean squared error
        """
        return derivatives.vjp(self.converter, X, dP)

    def jacobian(self, X: ArrayLike) -> NDArray[Any]:
        """How the outputs change with the inputs, d P / d X.

        Parameters
        ----------
        X : array (n, n_in)

        Returns
        -------
        array (n, n_out, n_in), of images (n, n_out, height, width, channels)
            Of what `predict` returns by the raw X; without n where X was a vector that is one row.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or holds NaN or infinity.
        """
        return derivatives.jacobian(self.converter, X)
