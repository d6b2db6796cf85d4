"""Conversion of a network to and from other libraries and languages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from nnc._network.files import Files
from nnc._utils.checks import flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc._interop.int8 import Quantization
    from nnc._interop.parts import Parts
    from nnc._registry.losses import Loss


class Conversion(Files):
    """Import from scikit-learn, PyTorch, Keras and ONNX; export to these, C, Python and JavaScript."""

    @classmethod
    def from_sklearn(cls, mlp: Any, dtype: Any = None) -> Self:
        """Read a network from a trained MLPClassifier or MLPRegressor of scikit-learn or nnc (extra `[sklearn]`).
        `dtype` is by default that of the weights. Classes that are dates become text, as in `fit`.

        Raises
        ------
        ImportError
            scikit-learn is not installed.
        TypeError
            It is not an MLPClassifier or MLPRegressor, but a subclass or something else.
        ValueError
            It has not been trained, or a network cannot have its classes.
        """
        from nnc._interop.scikit_learn import parts_of

        return cls._from_parts(parts_of(mlp, dtype))

    @classmethod
    def from_torch(
        cls, module: Any, shape: Sequence[int] | None = None, loss: str | Loss | None = None, verify: bool = True
    ) -> Self:
        """Read a network from a PyTorch nn.Sequential; its predictions equal the module's in evaluation mode.

        docs/exchange.md lists the modules that are read; others are refused, and so are subclasses, hooks and other
        attributes. Images are channels last here: `net.predict(x.permute(0, 2, 3, 1))`.

        Parameters
        ----------
        module : torch.nn.Sequential
        shape : (height, width, channels), optional
            Shape of an image; needed if the first layer is one for images.
        loss : str or object, optional
            Default: "cross_entropy" with a softmax at the end, "bce" with a sigmoid, else "mse". PyTorch's losses take
            net inputs: with "cross_entropy" or "bce" here, an output without an activation gets theirs.
        verify : bool, default True
            Compare outputs on 4 random rows; the tolerance is 1e-5 of the largest one in float32, 1e-10 in float64.

        Raises
        ------
        ImportError
            PyTorch is not installed.
        TypeError
            `module` is not an nn.Sequential, or another argument is of a wrong type.
        ValueError
            A module in it is not supported, which the message names, or the outputs differ.
        """
        from nnc._interop.read_torch import read

        return read(cls._from_parts, module, shape, loss, flag("verify", verify))

    @classmethod
    def from_keras(cls, model: Any, loss: str | Loss | None = None, verify: bool = True) -> Self:
        """Read a network from a Sequential model of Keras 3; its predictions equal the model's outside training.

        docs/exchange.md lists the layers that are read; subclasses, other layers and other attributes are refused.

        Parameters
        ----------
        model : keras.Sequential
        loss, verify : optional
            As in `from_torch`.

        Raises
        ------
        TypeError
            `model` is not a Sequential model, or another argument is of a wrong type.
        ValueError
            A layer in it is not supported, which the message names, or the outputs differ.
        """
        from nnc._interop.keras_layers import read

        return read(cls._from_parts, model, loss, flag("verify", verify))

    @classmethod
    def from_onnx(cls, path: Any, loss: str | Loss | None = None, verify: bool = False) -> Self:
        """Read the network of an ONNX model, whose predictions are the same to rounding.

        Models of `to_onnx`, skl2onnx, PyTorch and Keras are read if nnc has their layers. Operators, attributes and
        types that docs/exchange.md does not list are refused. The onnx package is needed only to verify. Images are
        channels last here, however the model has them; names of classes and the scaling of inputs come along.

        Parameters
        ----------
        path : str or os.PathLike
        loss : str or object, optional
            As in `from_torch`; with labels and no probabilities "hinge".
        verify : bool, default False
            Compare outputs and labels with those of onnx's reference evaluator on 4 random rows, to a tolerance of 1e-5
            in float32 and 1e-10 in float64. This runs the model: the file's size does not bound time and memory.

        Raises
        ------
        OSError
            The file cannot be read, as in `load`.
        ModelFileError
            It is no ONNX model, or has a part that is not supported, which the message names; or the comparison fails.
            It is an OSError and a ValueError.
        ImportError
            `verify` is true and onnx is not installed.
        TypeError, ValueError
            `loss` or `verify` is of another type or unknown.
        """
        from nnc._interop.read_onnx import read

        return read(cls._from_parts, path, loss, flag("verify", verify))

    @classmethod
    def _from_parts(cls, parts: Parts) -> Self:
        """The network that is put together from these."""
        network = cls(**parts.arguments)
        network.weights = parts.weights
        if network.bias:
            network.biases.assign(parts.biases)
        network.model.assign_statistics(parts.statistics)
        scalings = {"scale_X": parts.scale_X, "scale_y": parts.scale_y}
        network.intake.take({"classes": None, "feature_names": None, **scalings})
        network.intake.classes = parts.classes
        return network

    def to_onnx(self, path: Any, dtype: Any = None) -> None:
        """Writes the network as an ONNX model, which onnxruntime and many others run: standard operators of opset 17.

        The input is "X" (n, n_in), or (n, height, width, channels), any number of raw rows: scalings are in the graph.
        Where the loss is one of classes, the outputs are "label" (n,), what `predict_classes` answers, and
        "probabilities" (n, n_classes), as `predict_proba` has them ("output" with "hinge", whose outputs are none);
        of other networks "output" (n, n_out), what `predict` gives.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole, as `save` does.
        dtype : "float64" or "float32", optional
            Of the input, the arithmetic and the output. Default: the network's. onnxruntime has most operators in
            float32 alone: convolutions, for one.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`; a ModelFileError where a parameter is NaN or infinite.
        ValueError
            dtype is neither or does not hold a parameter, a kind of layer has no form there, or the model would be
            larger than 2 GiB.
        """
        from nnc._interop.onnx import to_onnx
        from nnc._utils import disk

        disk.replace(path, to_onnx([self._whole()], self._named(dtype)), "network")

    def to_c(
        self, path: Any, name: str | None = None, dtype: Any = None, calibrate: Any = None, validation: Any = None
    ) -> Quantization | None:
        """Writes the network as one header of C99 (or C++11), which needs nothing but math.h: constants, plain loops,
        static memory.

        `name_predict(in, out)` makes of NAME_N_IN raw inputs NAME_N_OUT outputs as `predict` gives them; where the loss
        is one of classes, `name_class(out)` is the number of the class and `name_labels[...]` its name.
        `name_self_test()` is 0 where all of this computes what the network does.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole, as `save` does.
        name : str, optional
            What all names in the header begin with. Default: the file's.
        dtype : "float64", "float32" or "int8", optional
            double or float. Default: the network's. With "int8" the layers compute in whole numbers of 8 bits, with
            sums of 32: weights take a quarter of float's memory, and no unit for floats is needed but for what comes in
            and goes out.
        calibrate : array (n, n_in), optional
            With "int8": rows, some hundred, from which it follows how large numbers get between layers.
        validation : (X, y), optional
            With "int8": rows to compare both on. Default: those of `calibrate`, of which no score is known.

        Returns
        -------
        Quantization, with "int8"
            How much is lost: the largest error of an output, the share of rows that get the same class, both scores.
            The header says so, too.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`; a ModelFileError where a parameter is NaN or infinite.
        ValueError
            name is no identifier of C, dtype is none of these or does not hold a parameter, a kind of layer has no form
            there, a label has a NUL or is no text of UTF-8, or calibrate is missing with "int8" or given without.
        """
        from nnc._interop.c_source import name_of, to_c
        from nnc._utils import disk

        name = name_of(path) if name is None else name
        if isinstance(dtype, str) and dtype == "int8":
            from nnc._interop.c_int8 import to_c_int8

            text, report = to_c_int8(self, name, calibrate, validation)
        elif calibrate is not None or validation is not None:
            raise ValueError("calibrate and validation are for dtype='int8'")
        else:
            text, report = to_c([self._whole()], name, self._named(dtype), self.predict), None
        disk.write(path, text, "network")
        return report

    def to_python(self, path: Any) -> None:
        """Writes the network as one module of plain Python, which needs nothing but the standard library.

        `predict(row)` makes of a list of raw numbers a list of outputs as `predict` gives them; where the loss is one
        of classes, `predict_class(row)` gives one of `CLASSES`. `self_test()` raises where this is not what the network
        computes.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole, as `save` does.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`; a ModelFileError where a parameter is NaN or infinite.
        ValueError
            A kind of layer has no form there.
        """
        from nnc._interop.python_source import to_python
        from nnc._utils import disk

        disk.write(path, to_python([self._whole()], self.predict), "network")

    def to_js(self, path: Any) -> None:
        """Writes the network as one ES module for browsers and Node.js, without dependencies.

        It exports `predict(row)`, which makes of an array of raw numbers an array of outputs as `predict` gives them;
        where the loss is one of classes, `predictClass(row)`, which gives one of `classes`; and `selfTest()`, whether
        this is what the network computes.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole, as `save` does.

        Raises
        ------
        OSError, ValueError
            As in `to_python`.
        """
        from nnc._interop.js_source import to_js
        from nnc._utils import disk

        disk.write(path, to_js([self._whole()], self.predict), "network")

    def to_torch(self) -> Any:
        """The network as an nn.Sequential of PyTorch, in its mode for evaluation, which gives what `predict` does.

        It takes raw rows of the network's dtype; images channels first, as PyTorch has them. What Dropout drops in
        training is not in it.

        Raises
        ------
        ImportError
            PyTorch is not installed.
        ValueError
            A kind of layer has no form there. A ModelFileError where a parameter is NaN or infinite.
        """
        from nnc._interop.torch_modules import to_torch

        return to_torch(self._whole())

    def to_sklearn(self) -> Any:
        """Convert the network to scikit-learn's own MLPClassifier, or MLPRegressor if outputs are no probabilities
        (extra `[sklearn]`): trained, in float64, with scalings merged into the first and the last weights.

        Raises
        ------
        ImportError
            scikit-learn is not installed.
        ValueError
            It has other layers than dense ones, different activations in its hidden layers or others than identity,
            sigmoid, tanh and relu, or an output that scikit-learn's MLP has not.
        """
        from nnc._interop.scikit_learn import to_mlp

        return to_mlp(self._whole(), self.classes)
