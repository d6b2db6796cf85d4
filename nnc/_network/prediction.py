"""Methods of a network that compute outputs, losses, scores and derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.sequences import Sequences
from nnc._model.data import Data
from nnc._network.parameters import Parameters
from nnc._registry import losses

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nnc._data.converter import DataConverter
    from nnc._data.metrics import Metric
    from nnc._network.streaming import Stream


class Prediction(Parameters):
    """Prediction and evaluation methods, which do not change the network."""

    def predict(
        self, X: ArrayLike, out: NDArray[Any] | None = None, *, lengths: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Compute the outputs of the network.

        Parameters
        ----------
        X : array (n, n_in)
            Rows of inputs. A vector is one row; if the network has one input, it is one column. Images have the shape
            (n, height, width, channels), or (n, height, width) if there is one channel; a single image has no n.
            Sequences have the shape (n, steps, features), or are a list of arrays (steps, features), whose numbers of
            steps may differ.
        out : array, optional
            C-contiguous array of the shape and dtype of the result, which is written and returned instead of a new
            array.
        lengths : int array (n,), optional
            Number of steps of each sequence in an array (n, steps, features). Numbers beyond the lengths are ignored;
            they may be NaN. Default: all steps.

        Returns
        -------
        array (n, n_out)
            Outputs in the dtype of the network, in the units of the targets. The shape is (n_out,) if X is a vector
            that is one row. If the last layer is applied to each step of sequences, the shape is (n, steps, k), with
            zeros beyond the lengths; for a list of sequences, the result is a list of arrays (steps, k). Outputs are
            NaN if parameters are NaN, which this method does not check.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or contains NaN or infinity, or `out` is not such an array.
        """
        converter, model, is_single = self.converter, self.model, False
        is_direct = converter.is_direct and model.heads is None and (out is None or type(out) is np.ndarray)
        if is_direct and type(X) is np.ndarray and lengths is None:
            P: NDArray[Any] | None = model.engine.predict_as_is(model.theta_view, X, out)
            if P is not None:
                return P
        converter, X = converter.bind(X, lengths)
        model = converter.model
        if isinstance(X, Sequences):
            if out is not None:
                raise ValueError("out must be None for lengths and lists of sequences, got an array")
            P = converter.unscale(model.predict(converter.input_data(X)))
            return converter.as_given(X, P.reshape(-1, *model.stack.output_shape))  # type: ignore[no-any-return]
        rows = converter.rows_as_is(X)
        if rows is None:
            array = converter.array(X)
            rows, is_single = converter.inputs(array), converter.is_single(array)
        if out is not None:
            return converter.predict_into(out, rows, is_single)
        P = model.predict(Data(rows))
        if converter.scaler_y is not None:
            P = converter.unscale(P)
        if len(model.stack.output_shape) == 2:
            P = P.reshape(-1, *model.stack.output_shape)
        outputs: NDArray[Any] = P[0] if is_single else P
        return outputs

    def stream(self) -> Stream:
        """Return a stream, which evaluates one sequence step by step and keeps the states of the layers.

        The network must have recurrent layers or convolutions. Bidirectional layers, layers with `go_backwards`, pools
        and Flatten are not supported. Each Conv1D must have padding="causal" and stride=1.

        Returns
        -------
        nnc.Stream
            `step(x)` returns the outputs after one more step, `reset()` begins a new sequence, and `state` contains the
            states.

        Raises
        ------
        ValueError
            The network has no recurrent layer and no convolution, or a layer needs later steps, such as a
            Bidirectional.

        Examples
        --------
        >>> stream = net.stream()
        >>> outputs = [stream.step(x) for x in samples]
        """
        from nnc._network.streaming import Stream

        return Stream(self.model, self.converter)

    def predict_classes(self, X: ArrayLike, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Predict the class of each row.

        Parameters
        ----------
        X : array (n, n_in)
            Rows as in `predict`. The result for a single row has n = 1.
        lengths : int array (n,), optional
            Number of steps of each sequence, as in `predict`.

        Returns
        -------
        array (n,)
            With several outputs, the class of the largest output. With one output, the second class if the output is at
            least 0.5 (at least 0 with the loss "hinge"), otherwise the first one. Classes are those in `classes`, or
            indices 0, 1, ... if `classes` is None. With "bce" and several outputs, the result is 0 or 1 for each output
            separately, with the shape (n, n_out), or (n, steps, k) for outputs at each step of sequences. With
            "cross_entropy" at each step, the result has the shape (n, steps).

        Raises
        ------
        ValueError
            The network has one output that is not a sigmoid, or X does not fit the network.
        TypeError
            X is not an array of real numbers.
        """
        converter, X = self.converter.bind(X, lengths)
        P = self._predict_rows(converter, X)
        self._check_outputs(P)
        return converter.as_given(X, converter.predicted_classes(P))  # type: ignore[no-any-return]

    def predict_proba(self, X: ArrayLike, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array (n, n_in)
            Rows as in `predict`. The result for a single row has n = 1.
        lengths : int array (n,), optional
            Number of steps of each sequence, as in `predict`.

        Returns
        -------
        array (n, n_classes)
            Probabilities in the order of `classes`. With one sigmoid output there are two columns. With "bce" and
            several outputs, the result is the probability that each label applies, with the shape (n, n_out). The shape
            is (n, steps, k) for outputs at each step of sequences.

        Raises
        ------
        ValueError, TypeError
            The outputs are not probabilities, as with "hinge" and regression losses, or X does not fit the network.
        """
        self.converter.check_probabilities()
        converter, X = self.converter.bind(X, lengths)
        P = self._predict_rows(converter, X)
        if P.shape[1] == 1 and len(converter.model.stack.output_shape) == 1:
            return np.concatenate([1 - P, P], axis=1)
        return converter.as_given(X, P.reshape(-1, *converter.model.stack.output_shape))  # type: ignore[no-any-return]

    def _predict_rows(self, converter: DataConverter, X: Any) -> NDArray[Any]:
        """Return the outputs for X, an array or Sequences for this converter, as rows (n, n_out)."""
        if isinstance(X, Sequences):
            return converter.unscale(converter.model.predict(converter.input_data(X)))
        return self.predict(X).reshape(-1, converter.model.sizes[-1])

    def score(
        self,
        X: ArrayLike,
        y: Any,
        sample_weight: ArrayLike | None = None,
        metric: Any = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Compute a metric of the predictions for given rows.

        Parameters
        ----------
        X : array (n, n_in)
            Rows as in `predict`.
        y : array (n, n_out) or (n,)
            Targets as in `evaluate_loss`.
        sample_weight : array (n,), optional
            Weight of each row.
        metric : str, function or nnc.Metric, optional
            Metric as in `fit`. Default: "accuracy" for classification, otherwise "r2".
        lengths : int array (n,), optional
            Number of steps of each sequence, as in `predict`.

        Returns
        -------
        float
            The value of the metric. The accuracy is the fraction of rows whose class is predicted correctly; with "bce"
            and several outputs, all classes of a row must be correct. R^2 is 1 - (sum of squared errors) / (sum of
            squared deviations from the mean), averaged over the outputs. For an output with constant targets it is 1 if
            all predictions are exact, else 0. If the last layer is applied to each step of sequences, each step counts
            as one row.

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        converter, X = self.converter.bind(X, lengths)
        metric, data = self._metric(metric), converter.data(X, y, sample_weight)
        P = converter.model.predict(data)
        self._check_outputs(P)
        return converter.measure(metric, data, P)

    def _metric(self, metric: Any) -> Metric:
        """Return the metric that `score` computes; raise ValueError if the network has heads."""
        from nnc._data.metrics import as_metric
        from nnc._registry.capabilities import check

        check("score", self.model)
        row = losses.ROWS[self.model.loss]
        return as_metric("metric", ("accuracy" if row.is_classification else "r2") if metric is None else metric, row)

    def _check_outputs(self, P: NDArray[Any]) -> None:
        """Raise ValueError if outputs are not finite because of the parameters.

        Without this check, a network whose outputs are NaN would predict classes and have a score.
        """
        if self.model.core.find_not_finite(P)[0] >= 0:
            self.model.check_parameters()

    def evaluate_loss(
        self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None, *, lengths: ArrayLike | None = None
    ) -> float:
        """Compute the loss of given rows, as defined by the argument `loss` of the constructor.

        Parameters
        ----------
        X : array (n, n_in)
            Rows as in `predict`.
        y : array (n, n_out) or (n,)
            Targets; a vector is one column. "cross_entropy" takes labels (n,) from 0 to n_out - 1, or probabilities (n,
            n_out) whose rows sum to 1, such as one-hot vectors. "bce" takes numbers from 0 to 1, "poisson" numbers of
            at least 0, "hinge" -1 and 1. After a fit on other labels, such as text, y has labels of that kind. For
            outputs at each step of sequences, y has the shape (n, steps, k), and labels have the shape (n, steps).
        sample_weight : array (n,), optional
            Weight of each row: finite, at least 0, and not all 0. Of the custom losses, only nnc.LeastSquares supports
            it.
        lengths : int array (n,), optional
            Number of steps of each sequence, as in `predict`. Targets at each step may then be an array (n, steps, k),
            whose numbers beyond the lengths are ignored, or a list of arrays (steps, k). The loss is a mean over all
            steps of all sequences: each step counts the same.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network, or contains NaN or infinity.
        """
        converter, X = self.converter.bind(X, lengths)
        model = converter.model
        if sample_weight is None and converter.is_unconverted(X, y):
            loss_as_is: float | None = model.engine.loss_as_is(model.theta_view, X, y)
            if loss_as_is is not None:
                return loss_as_is
        if model.custom is not None:
            return model.compute_loss(converter.data(X, y, sample_weight))
        data = converter.data_as_is(X, y, sample_weight) or converter.data(X, y, sample_weight)
        loss: float = model.engine.loss(model.theta_view, data)
        if not loss < np.inf:
            converter.data(X, y, sample_weight)  # raise an error if X or y is not finite
            model.check_parameters()
        return loss

    def gradients(
        self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None, *, lengths: ArrayLike | None = None
    ) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        """Compute the gradient of the loss of given rows by backpropagation.

        BatchNorm layers use the mean and variance of these rows, as in a training step.

        Parameters
        ----------
        X, y, sample_weight, lengths : arrays
            Rows as in `evaluate_loss`.

        Returns
        -------
        list of (dW, db)
            One pair for each parametric layer: dW (n_in, n_out), and db (n_out,) or None if the layer has no biases.

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        converter, X = self.converter.bind(X, lengths, trims=True)
        model = converter.model
        flat = np.empty(model.n_params, model.dtype)
        as_is = sample_weight is None and converter.is_unconverted(X, y) and len(X) >= model.min_batch_rows  # type: ignore[arg-type]
        if as_is and model.engine.gradients_as_is(model.theta_view, X, y, flat) is not None:
            return model.split(flat)
        if model.custom is not None:
            _, data = model.with_output_gradients(converter.data(X, y, sample_weight))
        else:
            data = converter.data_as_is(X, y, sample_weight) or converter.data(X, y, sample_weight)
        if data.n < model.min_batch_rows:
            model.check_batch_rows(data.n)
        loss: float = model.engine.gradients(model.theta_view, data, flat)
        if not loss < np.inf:
            if model.custom is None:
                converter.data(X, y, sample_weight)  # raise an error if X or y is not finite
            model.check_parameters()
        return model.split(flat)

    def forward(self, X: ArrayLike, *, lengths: ArrayLike | None = None) -> list[NDArray[Any]]:
        """Compute the outputs of all parametric layers.

        Parameters
        ----------
        X : array (n, n_in)
            Rows as in `predict`.
        lengths : int array (n,), optional
            Number of steps of each sequence, as in `predict`.

        Returns
        -------
        list of arrays (n, *output shape)
            One array for each parametric layer, with zeros beyond the lengths of sequences. The last one is the result
            of `predict` in the units of scaled targets.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or contains NaN or infinity.
        """
        converter, X = self.converter.bind(X, lengths)
        core_lengths = X.core_lengths if isinstance(X, Sequences) else None
        return converter.model.forward(Data(converter.checked_inputs(X), lengths=core_lengths))

    def vjp(
        self, X: ArrayLike, dP: ArrayLike, *, lengths: ArrayLike | None = None
    ) -> tuple[list[tuple[NDArray[Any], NDArray[Any] | None]], NDArray[Any]]:
        """Compute a vector-Jacobian product: the gradient of any loss from its derivative with respect to the outputs.

        Parameters
        ----------
        X : array (n, n_in)
            Rows as in `predict`.
        dP : array (n, n_out)
            d loss / d P, where P is the result of `predict` for X: probabilities if the output is softmax or sigmoid,
            and numbers in the units of the targets if `scale_y` is used.
        lengths : int array (n,), optional
            Number of steps of each sequence, as in `predict`. X and dP may be lists of arrays instead.

        Returns
        -------
        gradients : list of (dW, db)
            Derivatives of the loss with respect to the parameters, as `gradients` returns them.
        dX : array of the shape of X
            d loss / d X for raw inputs.

        Raises
        ------
        ValueError, TypeError
            X or dP does not fit the network, or contains NaN or infinity.

        Examples
        --------
        >>> P = net.predict(X)
        >>> gradients, dX = net.vjp(X, 2 * (P - Y) / P.size)  # gradient of the mean squared error
        """
        from nnc._data import derivatives

        return derivatives.vjp(self.converter, X, dP, lengths)

    def jacobian(self, X: ArrayLike, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Compute the derivatives of the outputs with respect to the inputs, d P / d X.

        Parameters
        ----------
        X : array (n, n_in)
            Rows as in `predict`.
        lengths : int array (n,), optional
            Number of steps of each sequence, as in `predict`.

        Returns
        -------
        array (n, n_out, n_in), for images (n, n_out, height, width, channels)
            Derivatives of the result of `predict` with respect to the raw inputs; without n if X is a vector that is
            one row. For sequences, the shape is (n, n_out, steps, features), or (n, steps, k, steps, features) for
            outputs at each step, with zeros beyond the lengths. A list of arrays without n if X is a list of sequences.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or contains NaN or infinity.
        """
        from nnc._data import derivatives

        return derivatives.jacobian(self.converter, X, lengths)

    def derivatives(self, X: ArrayLike, *, order: int = 2) -> tuple[NDArray[Any], ...]:
        """Compute the outputs and their first and second derivatives with respect to the inputs.

        Parameters
        ----------
        X : array (n, n_in)
            Rows as in `predict`.
        order : {1, 2}, default 2
            Highest order of the derivatives.

        Returns
        -------
        u : array (n, n_out)
            Outputs, as `predict` returns them. The last bits may differ.
        du : array (n, n_out, n_in)
            First derivatives with respect to the raw inputs, as `jacobian` returns them.
        d2u : array (n, n_out, n_in, n_in)
            Second derivatives; only with `order=2`. If X is a vector that is one row, all arrays have no axis n.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or contains NaN or infinity. The network has layers other than `Dense` and
            `Scale`, or activations other than tanh, sigmoid, softplus, silu, gelu, sin and
            identity.
        """
        from nnc._data import derivatives

        return derivatives.derivatives(self.converter, X, order)

    def parameter_jacobian(self, X: ArrayLike) -> NDArray[Any]:
        """Compute the derivatives of the outputs with respect to the parameters, d P / d params.

        Parameters
        ----------
        X : array (n, n_in)
            Rows as in `predict`.

        Returns
        -------
        array (n, n_out, n_params)
            Derivatives of the result of `predict` with respect to `params`, in the same order; without n if X is a
            vector that is one row.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or contains NaN or infinity, or the network has layers other than `Dense` and
            `Scale`.

        Examples
        --------
        >>> J = net.parameter_jacobian(X)[:, 0]
        >>> covariance = residual_variance * np.linalg.pinv(J.T @ J)  # of the parameters of a least-squares fit
        """
        from nnc._data import derivatives

        return derivatives.parameter_jacobian(self.converter, X)
