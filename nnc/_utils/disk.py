"""Files that are whole whatever happens, and what the system refuses, said so that one can act."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from reprlib import repr as shown
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from typing import Any, BinaryIO

PATH_TYPES = (str, bytes, os.PathLike)  # what names a file; anything else is to be an open one
MAX_FILE_BYTES = 2**30  # bytes of a file that is read, characters of one that is open: some 50 million numbers
CHUNK_BYTES = 2**20  # as many are read at once
_TOO_LARGE = f"it is larger than {MAX_FILE_BYTES >> 30} GiB; check that it is the right file"


class UnexpectedStartError(Exception):
    """What is read begins with something else than it should."""


def describe_source(source: Any) -> str:
    """What messages call a path or an open file."""
    if isinstance(source, PATH_TYPES):
        return repr(os.fsdecode(source))
    name = getattr(source, "name", None)
    return f"the open file {name!r}" if isinstance(name, str) else "the open file"


def check_path(name: str, value: Any) -> str:
    """An argument that names a file, as text."""
    if not isinstance(value, PATH_TYPES):
        raise TypeError(f"{name} must be a path, got {shown(value)}")
    return os.fsdecode(value)


def replace_file(path: Any, content: bytes, what: str) -> None:
    """Save `content` in the file of that path, by way of a temporary one: the old file or the new one is whole there.

    An old file's permissions stay, and its owner and group as far as the system allows; where the group cannot stay,
    the new one gets no permissions. Access lists, extended attributes and further names (hard links) of it do not.

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
    with _explaining("save", path, what), _in_place_of(path) as file:
        file.write(content)


@contextmanager
def atomic_writer(path: str, what: str) -> Iterator[BinaryIO]:
    """A file for bytes that are written one after the other, which at the end of the block is saved as `replace` does
    it; an OSError in the block is taken for the system's, and explained. Any error leaves the old file there."""
    try:
        with _in_place_of(path) as file:
            yield file
    except OSError as error:
        raise explain_error(error, "save", path, what) from None


def check_writable(path: str, what: str) -> None:
    """Raise what `replace` would where the folder is missing, or a folder has that name: for a file that is written
    later."""
    with _explaining("save", path, what):
        _refuse_folder(path)
        os.stat(os.path.join(os.path.dirname(path), "."))


def append_bytes(path: Any, content: bytes, what: str) -> None:
    """Write `content` behind what is in the file of that path; arguments and errors as for `replace`."""
    path = os.fsdecode(path)
    with _explaining("save", path, what):
        _refuse_folder(path)
        with open(path, "ab") as file:
            file.write(content)


def write_text(target: Any, text: str, what: str) -> None:
    """Save a text: on a path as `replace` does, in an open text file straight, which is flushed then."""
    if isinstance(target, PATH_TYPES):
        replace_file(target, text.encode(), what)
    else:
        _write_open_file(target, text, what)


def read_text(source: Any, what: str, begins: str) -> str:
    """Load the text of a path, or what is left of an open text file.

    Parameters
    ----------
    source : str, bytes, os.PathLike or text file
    what : str
        As for `replace`.
    begins : str
        What the text begins with, blanks aside. Of a long one that is looked at before the rest is read, so that a
        device without an end, or a gigabyte of something else, costs next to nothing.

    Raises
    ------
    OSError
        The system refuses, as for `replace`; it is larger than LARGEST; there is not enough memory.
    WrongBeginningError
        It is long, and begins otherwise.
    UnicodeDecodeError
        It is no text.
    """
    if not isinstance(source, PATH_TYPES):
        return _read_open_file(source, what, begins)
    start = begins.encode()
    content = read_bytes(source, what, lambda piece: piece.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(start))
    return content.decode("utf-8")


def read_bytes(path: Any, what: str, begins: Callable[[bytes], bool]) -> bytes:
    """Load the content of a path, which begins as `begins` has it of a long one: see `read`."""
    with open_binary(path, what) as file:
        _refuse_length(os.fstat(file.fileno()).st_size)
        return b"".join(_pieces(file, begins))


@contextmanager
def open_binary(path: Any, what: str) -> Iterator[BufferedReader]:
    """The file of that path, open for reading bytes; an OSError in the block is taken for the system's, and explained.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    what : str
        As for `replace`.

    Raises
    ------
    OSError
        The system refuses, as for `replace`.
    """
    path = os.fsdecode(path)
    with _explaining("load", path, what):
        _refuse_folder(path)
        with open(path, "rb") as file:
            yield file


def _pieces(file: Any, begins: Callable[[Any], bool]) -> Iterator[Any]:
    """What is left of an open file, whatever its size says."""
    length = 0
    while piece := file.read(CHUNK_BYTES):
        if length == 0 and len(piece) == CHUNK_BYTES and not begins(piece):
            raise UnexpectedStartError
        length += len(piece)
        _refuse_length(length)
        yield piece


def _refuse_length(length: int) -> None:
    if length > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def _refuse_folder(path: str) -> None:
    if not path:  # which stands for the current folder in some functions
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if os.path.isdir(path):  # of a folder, Windows says only that permission is denied
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


@contextmanager
def _in_place_of(path: str) -> Iterator[BinaryIO]:
    """A file to be written, which at the end of the block takes the place of that path."""
    _refuse_folder(path)
    old: os.stat_result | None = None
    try:
        old = os.stat(path)  # finds it as open does
    except FileNotFoundError:
        path = _target(path)
    else:
        if not stat.S_ISREG(old.st_mode):  # a pipe or a device is written to, never replaced
            with open(path, "wb") as device:
                yield device
            return
        path = os.path.realpath(path, strict=True)  # or an error on the way would have the link replaced
        with open(path, "ab"):  # may it be written? The rename below would not ask
            pass
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".nnc-{os.urandom(8).hex()}.tmp")

    def opener(name: str, flags: int) -> int:
        # At no moment can more people read it than the file that it replaces, and it is not yet of that one's group.
        return os.open(name, flags, 0o666 if old is None else old.st_mode & 0o700)

    try:
        with open(temporary, "xb", opener=opener) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if old is not None:
            mode = old.st_mode & (0o777 if _give(temporary, old) else 0o707)
            with suppress(OSError):  # some file systems have no permissions
                os.chmod(temporary, mode)
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


def _target(path: str) -> str:
    """Where the system would make the file of a path that is not there: behind links, and in a folder that is there."""
    folder, name = os.path.split(path)
    path = os.path.join(os.path.realpath(folder, strict=True), name)
    return _target(os.path.join(os.path.dirname(path), os.readlink(path))) if os.path.islink(path) else path


def _give(path: str, old: os.stat_result) -> bool:
    """Give a file the owner and the group of another one as far as the system allows: whether it has that group now."""
    if not hasattr(os, "chown"):
        return True
    with suppress(OSError):
        new = os.stat(path)
        if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid):
            return True
        with suppress(OSError):  # of a file that belongs to someone else, only the group, and that not always
            os.chown(path, -1, old.st_gid)
            os.chown(path, old.st_uid, -1)
        return os.stat(path).st_gid == old.st_gid
    return False


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


def _read_open_file(file: Any, what: str, begins: str) -> str:
    to = f"load the {what} from {_open_file(file, 'read')}"
    how = "open it with open(path, encoding='utf-8'), or pass the path"
    _refuse_closed(file, to)
    try:
        is_text = isinstance(file.read(0), str)
        pieces = _pieces(file, lambda piece: piece.removeprefix("\ufeff").lstrip().startswith(begins))
        text = "".join(pieces) if is_text else ""
    except UnicodeDecodeError:  # which is for who knows what should be in it
        raise
    except ValueError:  # io.UnsupportedOperation is one
        raise OSError(f"cannot {to}: the file is open for writing only; {how}") from None
    except OSError as error:
        why = _TOO_LARGE if error.errno == errno.EFBIG else f"{error.strerror}; check the disk and try again"
        raise OSError(error.errno, f"cannot {to}: {why}") from None
    if not is_text:
        raise OSError(f"cannot {to}: the file is open in binary mode; {how}")
    return text


def _open_file(file: Any, method: str) -> str:
    """What messages call an open file, after a look whether it is one."""
    if not hasattr(file, method):
        raise TypeError(f"expected a path (str or os.PathLike) or an open text file, got {type(file).__name__}")
    return describe_source(file)


def _refuse_closed(file: Any, to: str) -> None:
    if getattr(file, "closed", False):
        raise OSError(f"cannot {to}: the file is closed; do it inside the `with` block, or pass the path")


@contextmanager
def _explaining(action: str, path: str, what: str) -> Iterator[None]:
    """Raise errors of the system as `explained` returns them."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise explain_error(error, action, path, what) from None


def explain_error(error: OSError | ValueError, action: str, path: str, what: str) -> OSError:
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
        folder = os.path.dirname(path) if os.path.exists(folder) else folder  # as it stands, where ".." hides it
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
    elif code == errno.EFBIG and action == "load":
        why = _TOO_LARGE
    elif code in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full (an old file is still whole); make room and save again"
    else:
        why = f"{error.strerror}; check the path and the disk"
    return OSError(code, f"cannot {action} the {what}: {why}", path)
