"""Cases that are compared: their data, the bytes of their results, and the texts of their errors and warnings."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

# Parts of messages that differ between two processes: addresses, and names of temporary folders and files.
VARYING = re.compile(r"\b0x[0-9a-f]+|/tmp/[\w/-]+")


class Case(NamedTuple):
    """Computation of which two builds must return the same bits and the same messages.

    `run` yields pairs of the name and the value of a result. An exception ends the case; its text is a result.
    """

    name: str
    run: Callable[[], Iterable[tuple[str, Any]]]


class RoundedSums(list[float]):
    """Sums whose last bits depend on the order of summation; `--loss-tolerance` applies to them."""


# ---------------------------------------------------------------------------------------------- data


@cache
def integers(n: int, key: int, bound: int = 1 << 53) -> np.ndarray:
    """Return n pseudorandom integers from 0 to bound - 1 by splitmix64, which are equal for every version of NumPy."""
    z = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(key << 32)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.int64) % bound


def fractions(shape: tuple[int, ...], key: int) -> np.ndarray:
    """Return pseudorandom multiples of 2**-53 from 0 to 1."""
    return integers(int(np.prod(shape)), key).reshape(shape) * 2.0**-53


def centered(shape: tuple[int, ...], key: int) -> np.ndarray:
    """Return pseudorandom numbers from -1 to 1."""
    return 2 * fractions(shape, key) - 1


# ---------------------------------------------------------------------------------------------- results


def result_bytes(value: Any) -> Iterator[bytes]:
    """Yield the bytes of a result: an array, a number, a text, a History without times, or a sequence of these."""
    if isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes() if value.dtype != object else repr(value.tolist()).encode()
    elif hasattr(value, "stop_reason"):
        columns = sorted(set(value) - {"epoch_seconds"})
        yield from result_bytes([*columns, *(value[name] for name in columns), value.stop_reason, value.best_epoch])
    elif isinstance(value, dict):
        yield from result_bytes([part for item in value.items() for part in item])
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from result_bytes(part)
    else:
        yield repr(value).encode()


def digest(value: Any) -> str | list[float]:
    """Return the SHA-256 of a result, or the numbers of sums that may be compared with a tolerance."""
    if isinstance(value, RoundedSums):
        return [float(number) for number in value]
    return sha256(b"|".join(result_bytes(value))).hexdigest()


def stable_text(message: str) -> str:
    """Return a message without the parts that differ between two processes, and with sorted elements of sets."""
    text = VARYING.sub("...", message)
    return re.sub(r"\{([^{}:]*)\}", lambda match: f"{{{', '.join(sorted(match[1].split(', ')))}}}", text)


def error_text(error: BaseException) -> str:
    """Return the class and the message of an exception."""
    return f"error: {type(error).__name__}: {stable_text(str(error))}"


def is_error(result: Any) -> bool:
    """Return whether a result is the text of an exception or of warnings instead of a digest."""
    return isinstance(result, str) and ": " in result


def digests(computations: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return the digest of the result of each computation, or the text of the exception that it raises."""
    results = {}
    for part, compute in computations.items():
        try:
            results[part] = digest(compute())
        except Exception as error:
            results[part] = error_text(error)
    return results


def case_results(case: Case) -> dict[str, Any]:
    """Run a case; return the digests of its results and the texts of its exception and of its warnings."""
    results: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for part, value in case.run():
                results[part] = digest(value)
        except Exception as error:
            results["error"] = error_text(error)
    texts = sorted({f"{warning.category.__name__}: {stable_text(str(warning.message))}" for warning in caught})
    if texts:
        results["warnings"] = " | ".join(texts)
    return results
