"""Size of the memory that this process can use."""

from __future__ import annotations

import os
from contextlib import suppress

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def total_bytes() -> int | None:
    """Return the size of the physical memory or the limit of the container; None if the system does not provide it."""
    sizes = []
    with suppress(AttributeError, OSError, ValueError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError), open(path) as file:
            sizes.append(int(file.read()))
    return min((size for size in sizes if size > 0), default=None)


def check_memory(required: int, purpose: str, remedy: str) -> None:
    """Raise MemoryError if `required` bytes for `purpose` exceed the memory of the machine."""
    total = total_bytes()
    if total is not None and required > total:
        raise MemoryError(
            f"{purpose} requires {required / 2**30:.1f} GiB of memory, and this machine has {total / 2**30:.1f} GiB; "
            f"{remedy}"
        )
