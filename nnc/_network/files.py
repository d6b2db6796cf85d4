"""Methods of a network for files, copies and pickles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nnc._model.cores import check_dtype
from nnc._network.prediction import Prediction
from nnc._registry import losses
from nnc._utils.arrays import to_lists
from nnc.layers.stack import frozen_steps, layers_from_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nnc._data.converter import DataConverter
    from nnc._model.custom import Function as LossFunction
    from nnc._registry.choices import DType


class Files(Prediction):
    """Save, load and copy methods."""

    def save(self, path: Any, checkpoint: bool = False) -> None:
        """Save the network to a JSON or safetensors file.

        Every number is read back to the same bits. The file is written atomically: to a temporary file in the same
        folder, which then replaces an existing file. An existing file keeps its permissions, and its owner and group if
        the system allows that.

        Parameters
        ----------
        path : str, os.PathLike or text file
            The path of the file, or a text file that is open for writing. A path ending in ".safetensors" is written in
            that binary format, which is 30 times faster for large networks.
        checkpoint : bool, default False
            Whether the file also contains the training state: the moments of the optimizer, the learning rate or its
            schedule, the epoch and the history. A learning rate that is a function is not saved.

        Raises
        ------
        OSError
            The file cannot be written; the message names the cause and a remedy. A missing folder raises
            FileNotFoundError, missing permission PermissionError, and the path of a folder IsADirectoryError.
        ModelFileError
            A parameter is NaN or infinite. Nothing was written.
        ValueError
            `path` has the extension of another format; the message names the function that writes it.
        """
        from nnc import _serialization
        from nnc._serialization import safetensors

        if safetensors.is_path(path):
            safetensors.write(path, self._document(checkpoint, np.array))
        else:
            _serialization.write(path, self._document(checkpoint))

    @classmethod
    def load(cls, path: Any, loss: LossFunction | None = None) -> Self:
        """Load a network from a JSON or safetensors file.

        `nnc.load` opens files of all classes.

        Parameters
        ----------
        path : str, os.PathLike or text file
            The path of the file, or a text file that is open for reading. A path ending in ".safetensors" is read in
            that format.
        loss : callable, optional
            Custom loss function of the network. Files contain only its name. It is not used for other losses.

        Returns
        -------
        NeuralNetwork
            A network with the same predictions to the last bit on the same kind of processor.

        Raises
        ------
        TypeError
            The network has a custom loss function, and `loss` is not given.
        OSError
            The file cannot be read, or it is larger than 1 GiB, or there is not enough memory; the message names the
            cause and a remedy. A missing file raises FileNotFoundError, missing permission PermissionError, and the
            path of a folder IsADirectoryError.
        ModelFileError
            The file does not contain a network that this version of nnc can read. It is an OSError and a ValueError.
        """
        from nnc._serialization.models import load_model

        return load_model(path, loss, {"network": cls._from_document})

    def to_json(self, checkpoint: bool = False) -> str:
        """Return the JSON text that `save` writes.

        Parameters
        ----------
        checkpoint : bool, default False
            As in `save`.

        Returns
        -------
        str

        Raises
        ------
        ModelFileError
            A parameter is NaN or infinite.
        """
        from nnc import _serialization

        return _serialization.dumps(self._document(checkpoint))

    def _document(self, checkpoint: bool, numbers: Callable[[NDArray[Any]], Any] = to_lists) -> dict[str, Any]:
        """Return the JSON object that describes the network in files, see nnc/_serialization/document.py.

        `numbers` converts each array; by default arrays become lists.
        """
        from nnc import _serialization
        from nnc._training.options import settings_to_dict

        with self.model.snapshot_lock:
            self._update_counters()
            state = self.state if checkpoint else None
            training = None if state is None else state.to_dict(self.model, numbers)
            settings = self._fit_settings if self.state is None else self.state.settings or self._fit_settings
            data = self.converter.to_dict()
            return {
                **self.model.to_dict(() if state is None else state.frozen_steps, numbers),
                **data,
                "seed": self.seed,
                "shuffle_position": self.streams.shuffle_position,
                "dropout_position": self.streams.dropout_position,
                "settings": None if settings is None else settings_to_dict(settings),
                "self_test": _serialization.compute_self_test(self.predict, self.sizes[0], data["scale_X"]),
                "training": training,
            }

    @classmethod
    def _from_document(cls, document: dict[str, Any], where: str, loss: Any) -> Self:
        """Return the network of a validated document.

        Parameters
        ----------
        document : dict
            JSON object of the model file.
        where : str
            Name of the file in error messages.
        loss : callable or None
            Custom loss function, if the network was saved with one.
        """
        from nnc import _serialization
        from nnc._training.options import settings_from_dict
        from nnc._training.state import TrainingState

        function_name = document["loss_function"]
        if document["heads"] is not None:
            from nnc._registry.heads import Heads

            loss = Heads.from_dict(document["heads"])
        elif function_name is None:
            loss = losses.loss_object(document["loss"], document["loss_parameter"])
        elif not callable(loss):
            raise TypeError(
                f"loss must be the custom loss {function_name!r} with which {where} was saved, got {loss!r}; files do "
                f"not contain functions, so pass it as load(path, loss={function_name})"
            )
        layers = [layer for layer in document["layers"] if "W" in layer]
        with _serialization.build_errors(where):
            network = cls(
                layers_from_document(document["layers"], document["dropout"], document["learning"]),
                loss=loss,
                init="zeros",
                dtype=document["dtype"],
                seed=document["seed"],
                scale_X=document["scale_X"] and document["scale_X"]["type"],
                scale_y=document["scale_y"] and document["scale_y"]["type"],
            )
            streams = network.streams
            streams.shuffle_position, streams.dropout_position = (
                document["shuffle_position"],
                document["dropout_position"],
            )
            network.weights = [layer["W"] for layer in layers]
            if network.model.stack.bias:
                network.biases = [layer["b"] for layer in layers]
            network.model.assign_statistics(
                [[layer[key] for key in ("running_mean", "running_var") if key in layer] for layer in layers]
            )
            network.converter.restore(document)
            if document["training"] is not None:
                network.state = TrainingState.from_dict(document["training"], network.model, streams)
                network.state.frozen_steps = frozen_steps(document["learning"])
            if document["settings"] is not None:
                network._fit_settings = settings_from_dict(document["settings"], network.converter)
                if network.state is not None:
                    network.state.histories[-1].settings = network._fit_settings
            if document["self_test"] is not None:
                P = network.predict([document["self_test"]["X"]])[0]
                _serialization.verify_self_test(document, P.ravel().tolist(), where)
        return network

    def astype(self, dtype: DType) -> Self:
        """Return an independent copy in another precision, without training state.

        Parameters
        ----------
        dtype : {"float64", "float32"} or NumPy dtype

        Returns
        -------
        NeuralNetwork

        Raises
        ------
        ValueError, TypeError
            `dtype` is invalid, or a parameter is not finite or outside the range of `dtype`.
        """
        name = self._dtype_name(dtype)
        self.model.check_parameters(dtype=name)
        document = {**self._document(checkpoint=False, numbers=np.array), "dtype": name, "self_test": None}
        return self._from_document(document, "astype", getattr(self.model.custom, "function", None))

    def copy(self) -> Self:
        """Return an independent copy, which includes the optimizer and the positions of the random streams."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._stepper = None
        with self.model.snapshot_lock:
            self._update_counters()
            other.model, other.streams = self.model.copy(), self.streams.copy()
            other.converter = self.converter.copy(other.model)
            if self.state is not None:
                other.state = self.state.packed(self.model)
                other.state.unpack(other.model, other.streams)
        return other

    def _bound_copy(self, converter: DataConverter) -> Self:
        """Return the network, or a copy for the number of steps to which the converter is bound."""
        if converter.model is self.model:
            return self
        copy = self.copy()
        copy.model, copy.converter = converter.model, converter
        return copy

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        snapshot = self.copy()
        if snapshot.state is not None:
            snapshot.state = snapshot.state.packed(snapshot.model)
            snapshot.state.replace_function()
        return dict(vars(snapshot))

    def __setstate__(self, state: dict[str, Any]) -> None:
        # After the training lock has been acquired, a stepper prepares its next step again, with the new parameters.
        with getattr(self, "model", state["model"]).training_lock:
            vars(self).update(state)
        if self.state is not None:
            self.state.unpack(self.model, self.streams)

    def _export_document(self, export: str = "an export") -> dict[str, Any]:
        """Return the JSON object of the model file, validated, from which exporters write other formats.

        Raise ValueError if an export, a key of `capabilities.EXPORTS`, does not support the network.
        """
        from nnc import _serialization
        from nnc._registry.capabilities import check

        check(export, self.model)
        return _serialization.document_to_save(self._document(checkpoint=False))

    def _dtype_name(self, dtype: Any) -> str:
        """Return the name of a dtype; None is the dtype of the network."""
        return str((self.dtype if dtype is None else check_dtype(dtype)).name)
