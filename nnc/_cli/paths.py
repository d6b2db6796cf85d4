"""Checks that a command neither overwrites its inputs nor writes two outputs to the same file."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from nnc._cli.arguments import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

INPUTS = {"file": "MODEL", "data": "DATA", "rows": "DATA", "images": "--images", "labels": "--labels"}
OUTPUTS = {"output": "--output", "log": "--log", "report": "--report"}
# Extensions that are appended to the path of the model file for the checkpoint of an unfinished run.
UNFINISHED = ".unfinished"
UNFINISHED_IMAGES = UNFINISHED + ".safetensors"


def check_outputs(arguments: Namespace) -> None:
    """Raise UsageError if a command would overwrite an input, or write two outputs to the same file.

    Images in an input folder are inputs, too. Symbolic links, hard links and different spellings of a path are
    resolved. Several outputs may go to the same device or pipe.
    """
    values = vars(arguments)
    inputs = {name: values[key] for key, name in INPUTS.items() if isinstance(values.get(key), str)}
    outputs = {name: values[key] for key, name in OUTPUTS.items() if isinstance(values.get(key), str)}
    if arguments.command == "train" and arguments.output is not None:
        extension = UNFINISHED if arguments.images is None else UNFINISHED_IMAGES
        outputs["the checkpoint of the run"] = arguments.output + extension
    check_distinct(inputs, outputs)


def check_distinct(inputs: dict[str, str], outputs: dict[str, str]) -> None:
    """Raise UsageError if an output is the same file as an input or another output.

    Parameters
    ----------
    inputs, outputs : dict of str to str
        Paths of the files. The keys are their argument names, for the error message.
    """
    checked: dict[str, str] = dict(inputs)
    for name, path in outputs.items():
        for other_name, other in checked.items():
            if _is_same_file(path, other) or (other_name in inputs and _is_image_in(path, other)):
                description = "standard input" if other == "-" else other
                raise UsageError(f"{name} would overwrite {other_name}, {description}; choose another file")
        if path != "-":
            checked[name] = path


def _is_same_file(path: str, other: str) -> bool:
    if path == "-":
        return False
    try:
        other_status = _status(other)
        status = os.stat(path)
    except (OSError, ValueError):  # without access to both files, only their paths can be compared
        return other != "-" and os.path.normcase(os.path.realpath(path)) == os.path.normcase(os.path.realpath(other))
    return stat.S_ISREG(status.st_mode) and os.path.samestat(status, other_status)


def _status(path: str) -> os.stat_result:
    """Return the `os.stat` result of a file, or of standard input if the path is "-"."""
    return os.fstat(sys.stdin.fileno()) if path == "-" and sys.stdin is not None else os.stat(path)


def _is_image_in(path: str, folder: str) -> bool:
    """Return whether `path` is an existing image in `folder` or one of its subfolders."""
    from nnc.images.reading import IMAGE_EXTENSIONS

    if not (os.path.isdir(folder) and os.path.isfile(path) and path.lower().endswith(IMAGE_EXTENSIONS)):
        return False
    folder = os.path.realpath(folder)
    return os.path.realpath(path).startswith(os.path.join(folder, ""))
