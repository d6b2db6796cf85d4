"""Files that are whole whatever happens, and what the system refuses, said so that one can act."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

PATH = (str, bytes, os.PathLike)  # what names a file; anything else is to be an open one


def place(source: Any) -> str:
    """What messages call a path or an open file."""
    if isinstance(source, PATH):
        return repr(os.fsdecode(source))
    name = getattr(source, "name", None)
    return f"the open file {name!r}" if isinstance(name, str) else "the open file"


def replace(path: Any, content: bytes, what: str) -> None:
    """Save `content` in the file of that path, by way of a temporary one: the old file or the new one is whole there.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    content : bytes
    what : str
        What messages call that which is saved: "network", "history".

    Raises
    ------
    OSError
        The system refuses: FileNotFoundError, PermissionError and so on, with errno and filename, and a message that
        says what to do. The old file is untouched.
    """
    path = os.fsdecode(path)
    try:
        _put(path, content)
    except (OSError, ValueError) as error:
        raise explained(error, "save", path, what) from None


def write(target: Any, text: str, what: str) -> None:
    """Save a text: on a path as `replace` does, in an open text file straight, which is flushed then."""
    if isinstance(target, PATH):
        replace(target, text.encode(), what)
    else:
        _write_open_file(target, text, what)


def read(source: Any, what: str) -> str:
    """Load the text of a path, or what is left of an open text file.

    Raises
    ------
    OSError
        The system refuses, as for `replace`.
    UnicodeDecodeError
        It is no text.
    """
    if not isinstance(source, PATH):
        return _read_open_file(source, what)
    path = os.fsdecode(source)
    try:
        _refuse_folder(path)
        with open(path, "rb") as file:
            content = file.read()
    except (OSError, ValueError) as error:
        raise explained(error, "load", path, what) from None
    return content.decode("utf-8")


def _refuse_folder(path: str) -> None:
    if not path:  # which stands for the current folder in some functions
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if os.path.isdir(path):  # of a folder, Windows says only that permission is denied
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _put(path: str, content: bytes) -> None:
    _refuse_folder(path)
    path = os.path.realpath(path)
    try:
        mode = os.stat(path).st_mode & 0o777
    except FileNotFoundError:
        mode = None
    else:
        if not os.path.isfile(path):  # a pipe or a device is written to, never replaced
            with open(path, "wb") as device:
                device.write(content)
            return
        with open(path, "ab"):  # may it be written? The rename below would not ask
            pass
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".nnc-{os.urandom(8).hex()}.tmp")

    def opener(name: str, flags: int) -> int:
        # At no moment can more people read it than the file that it replaces.
        return os.open(name, flags, 0o666 if mode is None else mode)

    try:
        with open(temporary, "xb", opener=opener) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            with suppress(OSError):  # some file systems have no permissions
                os.chmod(temporary, mode)  # gives back what the umask took
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with suppress(OSError):  # the new name to the disk as well, where system and folder allow it
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_open_file(file: Any, text: str, what: str) -> None:
    to = f"save the {what} to {_open_file(file, 'write')}"
    how = "open it with open(path, 'w', encoding='utf-8'), or pass the path"
    _refuse_closed(file, to)
    try:
        file.write(text)
        if hasattr(file, "flush"):
            file.flush()  # a full disk shows here, not when the file is closed
    except TypeError:
        raise OSError(f"cannot {to}: the file is open in binary mode; {how}") from None
    except ValueError:  # io.UnsupportedOperation is one
        raise OSError(f"cannot {to}: the file is open for reading only; {how}") from None
    except OSError as error:
        raise OSError(error.errno, f"cannot {to}: {error.strerror}; what was written so far is not whole") from None


def _read_open_file(file: Any, what: str) -> str:
    to = f"load the {what} from {_open_file(file, 'read')}"
    how = "open it with open(path, encoding='utf-8'), or pass the path"
    _refuse_closed(file, to)
    try:
        text = file.read()
    except UnicodeDecodeError:  # which is for who knows what should be in it
        raise
    except ValueError:  # io.UnsupportedOperation is one
        raise OSError(f"cannot {to}: the file is open for writing only; {how}") from None
    except OSError as error:
        raise OSError(error.errno, f"cannot {to}: {error.strerror}; check the disk and try again") from None
    if not isinstance(text, str):
        raise OSError(f"cannot {to}: the file is open in binary mode; {how}")
    return text


def _open_file(file: Any, method: str) -> str:
    """What messages call an open file, after a look whether it is one."""
    if not hasattr(file, method):
        raise TypeError(f"expected a path (str or os.PathLike) or an open text file, got {type(file).__name__}")
    return place(file)


def _refuse_closed(file: Any, to: str) -> None:
    if getattr(file, "closed", False):
        raise OSError(f"cannot {to}: the file is closed; do it inside the `with` block, or pass the path")


def explained(error: OSError | ValueError, action: str, path: str, what: str) -> OSError:
    """The error of the system, same class, `errno` and `filename`, with a message that says what to do."""
    code = error.errno if isinstance(error, OSError) else errno.EINVAL
    try:
        full = os.path.realpath(path)
    except (OSError, ValueError):  # no current folder, no possible path
        full = path
    folder = os.path.dirname(full)
    if not path or isinstance(error, ValueError):
        why = "this is no possible path; pass the name of a file"
    elif isinstance(error, FileNotFoundError) and action == "save":
        why = f"the folder {folder!r} does not exist; make it first, or save somewhere else"
    elif isinstance(error, FileNotFoundError):
        why = f"there is no file {full!r}; check the name and the folder"
    elif isinstance(error, IsADirectoryError):
        why = "this is a folder; add the name of a file in it"
    elif isinstance(error, NotADirectoryError):
        why = "a part of the path that should be a folder is a file; check the path"
    elif isinstance(error, PermissionError) and action == "load":
        why = "you have no permission to read it; change its permissions, or ask its owner to"
    elif isinstance(error, PermissionError) and error.filename2 is not None:  # from the rename
        why = (
            "the old file cannot be replaced; it may still be open, in this program (was it closed after "
            "reading or writing?) or in another one: close it and save again"
        )
    elif isinstance(error, PermissionError):
        to = "write this file" if error.filename == full else f"make files in the folder {folder!r}"
        why = f"you have no permission to {to}; change its permissions, or save somewhere else"
    elif code in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full (an old file is still whole); make room and save again"
    else:
        why = f"{error.strerror}; check the path and the disk"
    return OSError(code, f"cannot {action} the {what}: {why}", path)
