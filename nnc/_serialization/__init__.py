"""Model files: `document.py` validates their content, `text.py` handles JSON, `safetensors.py` binary arrays."""

from nnc._serialization.document import ModelFileError
from nnc._serialization.text import (
    build_errors,
    checksum,
    compute_self_test,
    document_to_save,
    dumps,
    loads,
    read,
    self_test_row,
    verify_self_test,
    write,
)

__all__ = [
    "ModelFileError",
    "build_errors",
    "checksum",
    "compute_self_test",
    "document_to_save",
    "dumps",
    "loads",
    "read",
    "self_test_row",
    "verify_self_test",
    "write",
]
