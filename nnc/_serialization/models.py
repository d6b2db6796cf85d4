"""Loading of model files: detection of the kind of model, and construction of the object."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from nnc._serialization import text
from nnc._serialization.document import ModelFileError
from nnc._utils import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

Model = TypeVar("Model")
# Kinds of models whose file is the document of a network, which has "training_images" for an image classifier.
NETWORK_KINDS = {
    "network": "a single network; load it with nnc.load",
    "image classifier": "an image classifier; load it with nnc.load, whose result has the network as network_",
}


def load_model(path: Any, loss: Any, builders: Mapping[str, Callable[[Any, str, Any], Model]]) -> Model:
    """Read a file and build its model; `nnc.load` and the `load` of each class call this function.

    Parameters
    ----------
    path : str, os.PathLike or text file
        File to read. A path ending in ".safetensors" is read in that format if `builders` has the key "network".
    loss : callable or None
        Custom loss function of the network. Files contain only its name.
    builders : dict
        Function for each accepted kind of model, which builds it from the validated content, the name of the file in
        messages, and `loss`. The keys are all kinds of models, or one of them.

    Raises
    ------
    ModelFileError
        The file does not contain a valid model of an accepted kind.
    OSError
        The file cannot be read.
    """
    from nnc._serialization import safetensors

    if safetensors.is_path(path) and NETWORK_KINDS.keys() & builders.keys():
        kind, content = "network", safetensors.read(path)
    elif len(builders) == 1:
        (kind,) = builders
        kind = "network" if kind in NETWORK_KINDS else kind
        content = text.read(path, kind)
    else:
        kind, content = text.read(path, "model")
    return build_model(kind, content, disk.describe_source(path), loss, builders)


def build_model(
    kind: str, content: Any, where: str, loss: Any, builders: Mapping[str, Callable[[Any, str, Any], Model]]
) -> Model:
    """Build the model of a validated document; arguments as in `load_model`.

    Raise ModelFileError if the document of a network belongs to an image classifier and only networks are accepted, or
    the opposite.
    """
    if kind == "network" and content.get("training_images") is not None:
        kind = "image classifier"
    if kind not in builders:
        raise ModelFileError(
            f"cannot load the {next(iter(builders))} from {where}: the content is {NETWORK_KINDS[kind]}"
        )
    return builders[kind](content, where, loss)
