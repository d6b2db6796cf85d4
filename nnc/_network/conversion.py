"""Methods that convert a network to other formats, libraries and languages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from nnc._network.files import Files

if TYPE_CHECKING:
    from nnc._interop.int8 import Quantization
    from nnc._interop.parts import Parts
    from nnc._registry.choices import DType, Int8


class Conversion(Files):
    """Export methods for ONNX, C, Python, JavaScript, PyTorch and scikit-learn."""

    @classmethod
    def _from_parts(cls, parts: Parts) -> Self:
        """Return a network with the arguments, parameters and scalings that were read from another format."""
        network = cls(**parts.arguments)
        network.weights = parts.weights
        if network.model.stack.bias:
            network.biases.assign(parts.biases)
        network.model.assign_statistics(parts.statistics)
        scalings = {"scale_X": parts.scale_X, "scale_y": parts.scale_y}
        network.converter.restore({"classes": None, "feature_names": None, **scalings})
        network.converter.classes = parts.classes
        return network

    def to_onnx(self, path: Any, dtype: DType | None = None) -> None:
        """Write the network as an ONNX model, which onnxruntime and other programs can run.

        The model has standard operators of opset 17. Its input "X" (n, n_in), (n, height, width, channels) for images,
        or (n, steps, features) for sequences, has any number of raw rows, because the scalings are a part of the graph.
        The outputs of a classifier are "label" (n,), the result of `predict_classes`, and "probabilities" (n,
        n_classes), the result of `predict_proba`; with the loss "hinge" the second output is "output", the result of
        `predict`. Other networks have only "output" (n, n_out).

        Parameters
        ----------
        path : str or os.PathLike
            The file, which is written atomically as by `save`.
        dtype : {"float64", "float32"}, optional
            Dtype of the input, the computation and the output. Default: that of the network. onnxruntime supports some
            operators only in float32, such as convolutions.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`.
        ModelFileError
            A parameter is NaN or infinite.
        ValueError
            `dtype` is invalid, a parameter is outside its range, ONNX does not support a layer, or the model would be
            larger than 2 GiB.
        """
        from nnc._interop.onnx import to_onnx
        from nnc._utils import disk

        disk.replace_file(path, to_onnx([self._export_document("to_onnx")], self._dtype_name(dtype)), "network")

    def to_c(
        self,
        path: Any,
        name: str | None = None,
        dtype: DType | Int8 | None = None,
        calibrate: Any = None,
        validation: Any = None,
    ) -> Quantization | Any:  # Any: type checkers require no check for None if dtype is int8
        """Write the network as a C99 or C++11 header, which needs only math.h and static memory.

        `name_predict(in, out)` computes the NAME_N_OUT outputs of `predict` from NAME_N_IN raw inputs. For
        classification, `name_class(out)` returns the index of the class, and `name_labels[index]` is its name.
        `name_self_test()` returns 0 if the compiled code reproduces the outputs of the network.

        If `stream` supports the network, `name_reset(&state)` sets the states of the layers to 0, `name_step(&state,
        in, out)` processes one step, and `name_run(&state, in, steps, out)` several steps. If there are classes at each
        step, `name_class` reads the outputs of one step. For a network with `Input(steps=None)`, which must be
        supported by `stream`, the function for whole sequences is `name_predict(in, steps, out)`.

        Parameters
        ----------
        path : str or os.PathLike
            The file, which is written atomically as by `save`.
        name : str, optional
            Prefix of all names in the header. Default: the name of the file.
        dtype : {"float64", "float32", "int8"}, optional
            Type of the numbers: double, float, or 8-bit integers. Default: that of the network. With "int8" the layers
            compute with 8-bit integers and 32-bit sums. Weights take a quarter of the memory of floats, and only inputs
            and outputs need floating-point arithmetic. `name_classify(in)` returns the class without computing the
            outputs. If all rows of `calibrate` are whole numbers, `name_predict_int` and `name_classify_int` accept
            integers. Inputs are rounded to 8 bits too: a network whose outputs change much within 1/255 of the range
            of its inputs, such as a sine network of high frequency, needs floats. "int8" does not support recurrent
            layers.
        calibrate : array (n, n_in), optional
            Some hundred rows of inputs, which determine the ranges of all values; required with "int8".
        validation : (X, y), optional
            Rows on which the quantized network is compared with the original; only with "int8". Default: the rows of
            `calibrate`, without scores.

        Returns
        -------
        Quantization or None
            With "int8" the comparison: the largest error of an output, the fraction of rows with the same class, and
            the scores of both networks. The header contains it as a comment.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`.
        ModelFileError
            A parameter is NaN or infinite.
        ValueError
            `name` is not a C identifier. `dtype` is invalid, or a parameter is outside its range. C headers do not
            support a layer, or `stream` does not support a network with `Input(steps=None)`. A label contains NUL or
            is not valid text. `calibrate` is missing with "int8", or `calibrate` or `validation` is given without
            "int8".
        """
        from nnc._interop.c_source import name_from_path, to_c
        from nnc._registry.capabilities import PAIRS, check_arguments
        from nnc._utils import disk

        name = name_from_path(path) if name is None else name
        if isinstance(dtype, str) and dtype == "int8":
            from nnc._interop.c_int8 import to_c_int8

            text, report = to_c_int8(self, name, calibrate, validation)
        else:
            check_arguments(PAIRS["to_c"], {"calibrate": calibrate, "validation": validation}, {})
            text, report = to_c([self._export_document("to_c")], name, self._dtype_name(dtype), self.predict), None
        disk.write_text(path, text, "network")
        return report

    def to_python(self, path: Any) -> None:
        """Write the network as a Python module, which needs only the standard library.

        `predict(row)` of the module returns the outputs of `predict` as a list, for a list of raw inputs. For
        classification, `predict_class(row)` returns one of `CLASSES`. `self_test()` raises AssertionError unless the
        module reproduces the outputs of the network. If `stream` supports the network, the class `Stream` has the
        methods `step(features)` and `reset()`.

        Parameters
        ----------
        path : str or os.PathLike
            The file, which is written atomically as by `save`.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`.
        ModelFileError
            A parameter is NaN or infinite.
        ValueError
            The format does not support a layer.
        """
        from nnc._interop.python_source import to_python
        from nnc._utils import disk

        disk.write_text(path, to_python([self._export_document("to_python")], self.predict), "network")

    def to_js(self, path: Any) -> None:
        """Write the network as a JavaScript module (ES module) for browsers and Node.js, without dependencies.

        `predict(row)` of the module returns the outputs of `predict` as an array, for an array of raw inputs. For
        classification, `predictClass(row)` returns one of `classes`. `selfTest()` returns whether the module reproduces
        the outputs of the network. If `stream` supports the network, the class `Stream` has the methods
        `step(features)` and `reset()`.

        Parameters
        ----------
        path : str or os.PathLike
            The file, which is written atomically as by `save`.

        Raises
        ------
        OSError, ModelFileError, ValueError
            As in `to_python`.
        """
        from nnc._interop.js_source import to_js
        from nnc._utils import disk

        disk.write_text(path, to_js([self._export_document("to_js")], self.predict), "network")

    def to_torch(self) -> Any:
        """Convert the network to a PyTorch nn.Sequential in evaluation mode, which returns the outputs of `predict`.

        The module takes raw rows of the network's dtype. Images have channels first, as usual in PyTorch. Sequences
        have features first, (n, features, steps), if the first layer is a convolution or pool. If it is a recurrent
        layer or a Dense for each step, they have features last, (n, steps, features). Dropout layers are omitted.

        Returns
        -------
        torch.nn.Sequential

        Raises
        ------
        ImportError
            PyTorch is not installed.
        ModelFileError
            A parameter is NaN or infinite.
        ValueError
            The format does not support a layer.
        """
        from nnc._interop.torch_modules import to_torch

        return to_torch(self._export_document("to_torch"))

    def to_sklearn(self) -> Any:
        """Convert the network to a fitted MLPClassifier or MLPRegressor of scikit-learn (extra `[sklearn]`).

        It is an MLPClassifier if the outputs are probabilities. Its parameters are float64, and scalings are merged
        into the weights of the first and the last layer.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor

        Raises
        ------
        ImportError
            scikit-learn is not installed.
        ValueError
            The estimator does not support the network: it has other layers than dense ones, different activations in
            its hidden layers, a hidden activation other than identity, sigmoid, tanh and relu, or another output.
        """
        from nnc._interop.scikit_learn import to_mlp

        return to_mlp(self._export_document("to_sklearn"), self.classes)
