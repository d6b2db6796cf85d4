"""Files that a command reads and writes: each output must be a file of its own, before anything is written."""

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
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
UNFINISHED = ".unfinished"  # behind the name of the model: what a run that was ended goes on from
UNFINISHED_IMAGES = UNFINISHED + ".safetensors"


def check_outputs(arguments: Namespace) -> None:
    """Raise UsageError if an output is an input, an image in a folder of inputs, or another output.

    Links, hard links and different spellings of a path are seen. Devices and pipes may be written to several times.
    """
    given = vars(arguments)
    inputs = {name: given[key] for key, name in INPUTS.items() if isinstance(given.get(key), str)}
    outputs = {name: given[key] for key, name in OUTPUTS.items() if isinstance(given.get(key), str)}
    if arguments.command == "train" and arguments.output is not None:
        ending = UNFINISHED if arguments.images is None else UNFINISHED_IMAGES
        outputs["the file of an unfinished run"] = arguments.output + ending
    check_distinct(inputs, outputs)


def check_distinct(inputs: dict[str, str], outputs: dict[str, str]) -> None:
    """Raise UsageError if two paths are one file, by the names of the options."""
    seen: dict[str, str] = dict(inputs)
    for name, path in outputs.items():
        for other, there in seen.items():
            if _is_same(path, there) or (other in inputs and _is_inside(path, there)):
                what = "standard input" if there == "-" else there
                raise UsageError(f"{name} would overwrite {other}, {what}; name another file")
        if path != "-":
            seen[name] = path


def _is_same(path: str, other: str) -> bool:
    if path == "-":
        return False
    try:
        there = _status(other)
        found = os.stat(path)
    except (OSError, ValueError):  # one of them does not exist, or cannot be looked at
        return other != "-" and os.path.normcase(os.path.realpath(path)) == os.path.normcase(os.path.realpath(other))
    return stat.S_ISREG(found.st_mode) and os.path.samestat(found, there)


def _status(path: str) -> os.stat_result:
    return os.fstat(sys.stdin.fileno()) if path == "-" and sys.stdin is not None else os.stat(path)


def _is_inside(path: str, folder: str) -> bool:
    """Return whether it is an image that is already in a folder of images."""
    if not (os.path.isdir(folder) and os.path.isfile(path) and path.lower().endswith(IMAGE_ENDINGS)):
        return False
    folder = os.path.realpath(folder)
    return os.path.realpath(path).startswith(os.path.join(folder, ""))
