"""Conversion of a network to and from other libraries and languages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from nnc._network.files import Files

if TYPE_CHECKING:
    from nnc._interop.int8 import Quantization
    from nnc._interop.parts import Parts


class Conversion(Files):
    """Export to scikit-learn, PyTorch, ONNX, C, Python and JavaScript."""

    @classmethod
    def _from_parts(cls, parts: Parts) -> Self:
        """The network that is put together from these."""
        network = cls(**parts.arguments)
        network.weights = parts.weights
        if network.model.stack.bias:
            network.biases.assign(parts.biases)
        network.model.assign_statistics(parts.statistics)
        scalings = {"scale_X": parts.scale_X, "scale_y": parts.scale_y}
        network.converter.restore({"classes": None, "feature_names": None, **scalings})
        network.converter.classes = parts.classes
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

        disk.replace_file(path, to_onnx([self._export_document()], self._named(dtype)), "network")

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
        from nnc._interop.c_source import name_from_path, to_c
        from nnc._utils import disk

        name = name_from_path(path) if name is None else name
        if isinstance(dtype, str) and dtype == "int8":
            from nnc._interop.c_int8 import to_c_int8

            text, report = to_c_int8(self, name, calibrate, validation)
        elif calibrate is not None or validation is not None:
            raise ValueError("calibrate and validation are for dtype='int8'")
        else:
            text, report = to_c([self._export_document()], name, self._named(dtype), self.predict), None
        disk.write_text(path, text, "network")
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

        disk.write_text(path, to_python([self._export_document()], self.predict), "network")

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

        disk.write_text(path, to_js([self._export_document()], self.predict), "network")

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

        return to_torch(self._export_document())

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

        return to_mlp(self._export_document(), self.classes)
