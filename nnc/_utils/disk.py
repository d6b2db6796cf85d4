"""Atomic writing and guarded reading of files, with error messages that name a remedy."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nnc._utils.checks import short_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from typing import Any, BinaryIO

PATH_TYPES = (str, bytes, os.PathLike)  # an argument of another type must be an open file
MAX_FILE_BYTES = 2**30  # longest file that is read, in bytes, or in characters for an open text file
CHUNK_BYTES = 2**20  # number of bytes or characters per read operation
_TOO_LARGE = f"it is larger than {MAX_FILE_BYTES >> 30} GiB; check that it is the right file"


class UnexpectedStartError(Exception):
    """Error for a file of another format. The first chunk shows the format, so the rest is not read."""


def describe_source(source: Any) -> str:
    """Return the name of a path or open file for messages."""
    if isinstance(source, PATH_TYPES):
        return repr(os.fsdecode(source))
    name = getattr(source, "name", None)
    return f"the open file {name!r}" if isinstance(name, str) else "the open file"


def check_path(name: str, value: Any) -> str:
    """Return an argument that is a path as a string; raise TypeError for other types."""
    if not isinstance(value, PATH_TYPES):
        raise TypeError(f"{name} must be a path (str or os.PathLike), got {short_repr(value)}")
    return os.fsdecode(value)


def replace_file(path: Any, content: bytes, noun: str) -> None:
    """Write `content` to a file atomically, by way of a temporary file in the same folder.

    The new file has the permissions of an existing file, and its owner and group if the system allows it. If the group
    cannot be preserved, the group of the new file has no permissions. Access lists, extended attributes and hard links
    are lost.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    content : bytes
    noun : str
        Name of the content in messages: "network", "history".

    Raises
    ------
    OSError
        The file cannot be written. Class, errno and filename are those of the system's error, and the message names a
        remedy. An existing file is unchanged.
    """
    path = check_path("path", path)
    with _explaining("save", path, noun), _replacing(path) as file:
        file.write(content)


@contextmanager
def atomic_writer(path: str, noun: str) -> Iterator[BinaryIO]:
    """Yield a file for bytes, which replaces the file at `path` at the end of the block, as `replace_file` does.

    An OSError in the block is raised again with a remedy in its message. After any error an existing file is unchanged.
    """
    try:
        with _replacing(path) as file:
            yield file
    except OSError as error:
        raise explain_error(error, "save", path, noun) from None


def check_writable(path: str, noun: str) -> None:
    """Raise the OSError that `replace_file` would raise if the folder is missing or the path is a folder."""
    with _explaining("save", path, noun):
        _check_is_file_path(path)
        os.stat(os.path.join(os.path.dirname(path), "."))


def append_bytes(path: Any, content: bytes, noun: str) -> None:
    """Append `content` to a file; arguments and errors are those of `replace_file`."""
    path = check_path("path", path)
    with _explaining("save", path, noun):
        _check_is_file_path(path)
        with open(path, "ab") as file:
            file.write(content)


def write_text(target: Any, text: str, noun: str) -> None:
    """Write a text to a path as `replace_file` does, or to an open text file, which is flushed."""
    if isinstance(target, PATH_TYPES):
        replace_file(target, text.encode(), noun)
    else:
        _write_open_file(target, text, noun)


def read_text(source: Any, noun: str, prefix: str) -> str:
    """Read the text of a path, or the rest of an open text file.

    Parameters
    ----------
    source : str, bytes, os.PathLike or text file
    noun : str
        Name of the content in messages: "network", "history".
    prefix : str
        Expected beginning of the text after white space. It is compared after the first chunk of a long file, so that
        an endless device or a large file of another format is not read to its end.

    Raises
    ------
    OSError
        The file cannot be read, is larger than MAX_FILE_BYTES, or there is not enough memory.
    UnexpectedStartError
        The file is longer than CHUNK_BYTES and does not begin with `prefix`.
    UnicodeDecodeError
        The file is not UTF-8 text.
    """
    if not isinstance(source, PATH_TYPES):
        return _read_open_file(source, noun, prefix)
    start = prefix.encode()
    content = read_bytes(source, noun, lambda chunk: chunk.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(start))
    return content.decode("utf-8")


def read_bytes(path: Any, noun: str, has_prefix: Callable[[bytes], bool]) -> bytes:
    """Read the bytes of a file; `has_prefix` checks the first chunk of a long file (see `read_text`)."""
    with open_binary(path, noun) as file:
        _check_length(os.fstat(file.fileno()).st_size)
        return b"".join(_chunks(file, has_prefix))


@contextmanager
def open_binary(path: Any, noun: str) -> Iterator[BufferedReader]:
    """Open a file for reading bytes; an OSError in the `with` block is raised again with a remedy in its message.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    noun : str
        Name of the content in messages: "network", "history".

    Raises
    ------
    OSError
        The file cannot be read. Class, errno and message are as for `replace_file`.
    """
    path = check_path("path", path)
    with _explaining("load", path, noun):
        _check_is_file_path(path)
        with open(path, "rb") as file:
            yield file


def _chunks(file: Any, has_prefix: Callable[[Any], bool]) -> Iterator[Any]:
    """Yield the remaining content of an open file in chunks; the file may be a pipe, whose size is unknown."""
    length = 0
    while chunk := file.read(CHUNK_BYTES):
        if length == 0 and len(chunk) == CHUNK_BYTES and not has_prefix(chunk):
            raise UnexpectedStartError
        length += len(chunk)
        _check_length(length)
        yield chunk


def _check_length(length: int) -> None:
    """Raise OSError if a file of this length is too large."""
    if length > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def _check_is_file_path(path: str) -> None:
    """Raise OSError if the path is empty or a folder."""
    if not path:  # an empty path means the current folder in some functions of os
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if os.path.isdir(path):  # without this check, Windows reports a PermissionError
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


@contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """Yield a temporary file that replaces the file at `path` at the end of the block."""
    _check_is_file_path(path)
    old: os.stat_result | None = None
    try:
        old = os.stat(path)  # os.stat follows symbolic links, as `open` does
    except FileNotFoundError:
        path = _resolve_new_path(path)
    else:
        if not stat.S_ISREG(old.st_mode):  # a pipe or a device is written to and not replaced
            with open(path, "wb") as device:
                yield device
            return
        path = os.path.realpath(path, strict=True)  # replace the target of a symbolic link, not the link
        with open(path, "ab"):  # check the permission to write, because the rename below does not check it
            pass
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".nnc-{os.urandom(8).hex()}.tmp")

    def opener(name: str, flags: int) -> int:
        # The temporary file does not yet have the owner and group of the file that it replaces. Until then, only its
        # creator gets permissions.
        return os.open(name, flags, 0o666 if old is None else old.st_mode & 0o700)

    try:
        with open(temporary, "xb", opener=opener) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if old is not None:
            mode = old.st_mode & (0o777 if _copy_owner(temporary, old) else 0o707)
            with suppress(OSError):  # some file systems do not support permissions
                os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with suppress(OSError):  # write the folder entry to the disk as well, if the system allows it
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _resolve_new_path(path: str) -> str:
    """Return the path at which `open` would create a missing file: links are followed, and the folder must exist."""
    folder, name = os.path.split(path)
    path = os.path.join(os.path.realpath(folder, strict=True), name)
    if os.path.islink(path):
        return _resolve_new_path(os.path.join(os.path.dirname(path), os.readlink(path)))
    return path


def _copy_owner(path: str, old: os.stat_result) -> bool:
    """Copy owner and group from `old` to the file at `path` if possible; return whether the groups are then equal."""
    if not hasattr(os, "chown"):
        return True
    with suppress(OSError):
        new = os.stat(path)
        if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid):
            return True
        with suppress(OSError):  # only a privileged process may change the owner
            os.chown(path, -1, old.st_gid)
            os.chown(path, old.st_uid, -1)
        return os.stat(path).st_gid == old.st_gid
    return False


def _write_open_file(file: Any, text: str, noun: str) -> None:
    """Write a text to an open text file, and flush it."""
    action = f"save the {noun} to {_describe_open_file(file, 'write')}"
    remedy = "open it with open(path, 'w', encoding='utf-8'), or pass the path"
    _check_not_closed(file, action)
    try:
        file.write(text)
        if hasattr(file, "flush"):
            file.flush()  # report a full disk now and not when the file is closed
    except TypeError:
        raise OSError(f"cannot {action}: the file is open in binary mode; {remedy}") from None
    except ValueError:  # io.UnsupportedOperation, for a file in the wrong mode, is a ValueError
        raise OSError(f"cannot {action}: the file is open for reading only; {remedy}") from None
    except OSError as error:
        raise OSError(error.errno, f"cannot {action}: {error.strerror or error}; the file is incomplete") from None


def _read_open_file(file: Any, noun: str, prefix: str) -> str:
    """Read the remaining text of an open file."""
    action = f"load the {noun} from {_describe_open_file(file, 'read')}"
    remedy = "open it with open(path, encoding='utf-8'), or pass the path"
    _check_not_closed(file, action)
    try:
        is_text = isinstance(file.read(0), str)
        chunks = _chunks(file, lambda chunk: chunk.removeprefix("\ufeff").lstrip().startswith(prefix))
        text = "".join(chunks) if is_text else ""
    except UnicodeDecodeError:  # re-raise this subclass of ValueError, which the next clause would catch
        raise
    except ValueError:  # io.UnsupportedOperation, for a file in the wrong mode, is a ValueError
        raise OSError(f"cannot {action}: the file is open for writing only; {remedy}") from None
    except OSError as error:
        cause = error.strerror or error
        reason = _TOO_LARGE if error.errno == errno.EFBIG else f"{cause}; check the disk and try again"
        raise OSError(error.errno, f"cannot {action}: {reason}") from None
    if not is_text:
        raise OSError(f"cannot {action}: the file is open in binary mode; {remedy}")
    return text


def _describe_open_file(file: Any, method: str) -> str:
    """Return the name of an open file for messages; raise TypeError if it lacks `method`, such as "read"."""
    if not hasattr(file, method):
        raise TypeError(f"the file must be a path (str or os.PathLike) or an open text file, got {type(file).__name__}")
    return describe_source(file)


def _check_not_closed(file: Any, action: str) -> None:
    """Raise OSError if the file is closed."""
    if getattr(file, "closed", False):
        raise OSError(f"cannot {action}: the file is closed; use it inside its `with` block, or pass the path")


@contextmanager
def _explaining(action: str, path: str, noun: str) -> Iterator[None]:
    """Replace an OSError or ValueError in the `with` block by the result of `explain_error`."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise explain_error(error, action, path, noun) from None


def explain_error(error: OSError | ValueError, action: str, path: str, noun: str) -> OSError:
    """Return an error with the class, `errno` and `filename` of a system error, and with a remedy in its message.

    Parameters
    ----------
    error : OSError or ValueError
        Error of the system. A ValueError is raised for paths with a NUL character.
    action : {"save", "load"}
        Operation that failed.
    path : str
        Path of the file.
    noun : str
        Name of the content in messages: "network", "history".
    """
    code = error.errno if isinstance(error, OSError) else errno.EINVAL
    try:
        full = os.path.realpath(path)
    except (OSError, ValueError):  # the current folder does not exist, or the path is not valid
        full = path
    folder = os.path.dirname(full)
    if not path or isinstance(error, ValueError):
        reason = "the path is not valid; pass the name of a file"
    elif isinstance(error, FileNotFoundError) and action == "save":
        # realpath omits a missing folder that is followed by "..".
        folder = os.path.dirname(path) if os.path.exists(folder) else folder
        reason = f"the folder {folder!r} does not exist; create it first, or save somewhere else"
    elif isinstance(error, FileNotFoundError):
        reason = f"there is no file {full!r}; check the name and the folder"
    elif isinstance(error, IsADirectoryError):
        reason = "this is a folder; add the name of a file in it"
    elif isinstance(error, NotADirectoryError):
        reason = "a part of the path that should be a folder is a file; check the path"
    elif isinstance(error, PermissionError) and action == "load":
        reason = "you have no permission to read it; change its permissions, or ask its owner to"
    elif isinstance(error, PermissionError) and error.filename2 is not None:
        # Only an error of os.replace has a second file name.
        reason = (
            "the existing file cannot be replaced, because it may be open in this program or another one; "
            "close it and save again"
        )
    elif isinstance(error, PermissionError):
        task = "write this file" if error.filename == full else f"create files in the folder {folder!r}"
        reason = f"you have no permission to {task}; change its permissions, or save somewhere else"
    elif code == errno.EFBIG and action == "load":
        reason = _TOO_LARGE
    elif code in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk is full (an existing file is unchanged); free some space and save again"
    else:
        reason = f"{error.strerror or error}; check the path and the disk"
    return OSError(code, f"cannot {action} the {noun}: {reason}", path)
