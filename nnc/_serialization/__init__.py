"""Networks as files: document.py says what is in them, text.py writes and reads JSON, safetensors.py arrays."""

from nnc._serialization.document import ModelFileError
from nnc._serialization.text import (
    checksum,
    dumps,
    loads,
    read,
    refusing,
    self_test,
    self_test_row,
    verify_self_test,
    whole,
    write,
)

__all__ = [
    "ModelFileError",
    "checksum",
    "dumps",
    "loads",
    "read",
    "refusing",
    "self_test",
    "self_test_row",
    "verify_self_test",
    "whole",
    "write",
]
