"""Files, copies and pickles of a network."""

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

    from nnc._model.custom import Function as LossFunction


class Files(Prediction):
    """Saving, loading and copying."""

    def save(self, path: Any, checkpoint: bool = False) -> None:
        """Writes the network to a JSON file: a path, or a text file open for writing. A path that ends with
        ".safetensors" becomes a file of that format, which holds numbers as bytes: for large networks, 30 times faster.

        With checkpoint=True the file holds all that training goes on from as well: what the optimizer keeps, the
        learning rate or its schedule (a function excepted: give it again), the epoch, and the history.

        A path is written to a temporary file beside it, which then takes its place: whatever happens, the old file or
        the new one is there, whole. Every number reads back to the same bits. Permissions of an old file stay, and its
        owner and group where the system lets you give them.

        Raises
        ------
        OSError
            The file cannot be written; the message says why and what to do. A missing folder is a FileNotFoundError, no
            permission a PermissionError, a folder in place of a file an IsADirectoryError.
        ModelFileError
            A parameter is NaN or infinite. Nothing was written.
        """
        from nnc import _serialization
        from nnc._serialization import safetensors

        if safetensors.is_path(path):
            safetensors.write(path, self._document(checkpoint, np.array))
        else:
            _serialization.write(path, self._document(checkpoint))

    @classmethod
    def load(cls, path: Any, loss: LossFunction | None = None) -> Self:
        """Read a network from a JSON file: a path, or a text file open for reading; from a safetensors file where a
        path ends with ".safetensors". `nnc.load` reads models of all classes.

        Parameters
        ----------
        path : path or file
        loss : callable, optional
            The function that is the network's loss, of which the file has only the name; for others it is not used.

        Raises
        ------
        TypeError
            The loss of the network is a function, and it is not given.
        OSError
            The file cannot be read; the message says why and what to do. A missing file is a FileNotFoundError, no
            permission a PermissionError, a folder in place of a file an IsADirectoryError. More than 1 GiB are refused;
            a lack of memory is an OSError, too.
        ModelFileError
            The file does not hold a network that this version can use; an OSError and a ValueError.
        """
        from nnc._serialization.models import load_model

        return load_model(path, loss, {"network": cls._from_document})

    def to_json(self, checkpoint: bool = False) -> str:
        """The network as the text that `save` writes; raises ModelFileError where a parameter is NaN or infinite."""
        from nnc import _serialization

        return _serialization.dumps(self._document(checkpoint))

    def _document(self, checkpoint: bool, numbers: Callable[[NDArray[Any]], Any] = to_lists) -> dict[str, Any]:
        from nnc import _serialization
        from nnc._training.options import settings_to_dict

        with self.model.snapshot_lock:
            self._catch_up()
            state = self.state if checkpoint else None
            training = None if state is None else state.to_dict(self.model, numbers)
            settings = self._fit_settings if self.state is None else self.state.settings or self._fit_settings
            data = self.converter.to_dict()
            return {
                **self.model.to_dict(() if state is None else state.missed, numbers),
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
        from nnc import _serialization
        from nnc._training.options import settings_from_dict
        from nnc._training.state import TrainingState

        named = document["loss_function"]
        if document["heads"] is not None:
            from nnc._registry.heads import Heads

            loss = Heads.from_dict(document["heads"])
        elif named is None:
            loss = losses.loss_object(document["loss"], document["loss_parameter"])
        elif not callable(loss):
            raise TypeError(
                f"loss must be the function {named!r}, which is the loss of the network in {where} and in no file: "
                f"load(path, loss={named}); got {loss!r}"
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
                network.state.missed = frozen_steps(document["learning"])
            if document["settings"] is not None:
                network._fit_settings = settings_from_dict(document["settings"], network.converter)
                if network.state is not None:
                    network.state.histories[-1].settings = network._fit_settings
            if document["self_test"] is not None:
                P = network.predict([document["self_test"]["X"]])[0]
                _serialization.verify_self_test(document, P.tolist(), where)
        return network

    def astype(self, dtype: Any) -> Self:
        """An independent copy in another precision, "float64" or "float32", without an optimizer.

        Raises
        ------
        ValueError, TypeError
            dtype is none of these, or a parameter is not finite or beyond its range.
        """
        name = self._named(dtype)
        self.model.check_parameters(dtype=name)
        document = {**self._document(checkpoint=False, numbers=np.array), "dtype": name, "self_test": None}
        return self._from_document(document, "astype", getattr(self.model.custom, "function", None))

    def copy(self) -> Self:
        """An independent copy of all that there is: parameters, optimizer, positions in the streams of random
        numbers."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._steps = None
        with self.model.snapshot_lock:
            self._catch_up()
            other.model, other.streams = self.model.copy(), self.streams.copy()
            other.converter = self.converter.copy(other.model)
            if self.state is not None:
                other.state = self.state.packed(self.model)
                other.state.unpack(other.model, other.streams)
        return other

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        still = self.copy()
        if still.state is not None:
            still.state = still.state.packed(still.model)
            still.state.leave_function()
        return dict(vars(still))

    def __setstate__(self, state: dict[str, Any]) -> None:
        with getattr(self, "model", state["model"]).training_lock:  # a stepper notices that somebody has had it
            vars(self).update(state)
        if self.state is not None:
            self.state.unpack(self.model, self.streams)

    def _export_document(self) -> dict[str, Any]:
        """The document, for other formats."""
        from nnc import _serialization

        return _serialization.document_to_save(self._document(checkpoint=False))

    def _named(self, dtype: Any) -> str:
        """The name of a dtype, by default the network's."""
        return str((self.dtype if dtype is None else check_dtype(dtype)).name)
