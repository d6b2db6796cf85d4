"""How many threads a fit may use where that is left to nnc: the processors that the process may have, divided among the
fits that run at once, and what the user and other libraries say."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from math import ceil
from typing import Any

from nnc._team import ActiveCount
from nnc._utils.checks import check_count

VARIABLES = ("NNC_NUM_THREADS", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
POOLS = ("concurrent.futures.thread", "concurrent.futures.process")  # where the functions of workers are
CGROUPS = "/sys/fs/cgroup"

_said: int | None = None  # by set_num_threads
active_fits = ActiveCount()  # fits that share the processors


def set_num_threads(n: int | None) -> None:
    """Limits the threads of every fit of this process that does not name `n_threads` itself. What a fit computes does
    not depend on their number.

    Parameters
    ----------
    n : int or None
        None takes the limit away.

    Raises
    ------
    TypeError, ValueError
        n is no whole number, 1 or more.
    """
    global _said
    _said = None if n is None else check_count("n", n)


def get_num_threads() -> int:
    """The most threads that a fit takes here and now where `n_threads` is left out. Whether they pay is measured.

    It is the number of processors that the process may use, or less: where a container has a share of them, where
    `set_num_threads`, NNC_NUM_THREADS, OMP_NUM_THREADS, LOKY_MAX_CPU_COUNT or threadpoolctl says so, and 1 in a worker
    of joblib's, of concurrent.futures' or of multiprocessing's pools, whose neighbors have work, too. Fits that run at
    once share them.

    Raises
    ------
    ValueError
        NNC_NUM_THREADS is no whole number, 1 or more.
    """
    return max(1, _allowed() // max(1, len(active_fits)))


def cpu_count() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _allowed() -> int:
    """What one fit alone may use."""
    said = [n for n in (_said, *map(_variable, VARIABLES)) if n is not None]
    workers = _in_pool() or _in_joblib()
    return 1 if workers else min([cpu_count(), _quota(), *said, *_of_libraries()])


def _variable(name: str) -> int | None:
    """What an environment variable says; of OpenMP's, which may be a list, the first number."""
    text = os.environ.get(name, "").split(",")[0].strip()
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if text and name == VARIABLES[0]:
        raise ValueError(f"{name} must be a whole number, 1 or more, got {text!r}")
    return None


@cache
def _quota() -> int:
    """The processors that the control groups of the process give it time of, rounded up; of groups within groups, the
    least."""
    quotas = [float(sys.maxsize)]
    with suppress(OSError, ValueError), open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = CGROUPS if not controllers else os.path.join(CGROUPS, "cpu")
            parts = path.strip("/").split("/")
            for depth in range(len(parts) + 1):  # a container may see its own group as the root
                quotas.append(_of_group(os.path.join(root, *parts[:depth])))
    return max(1, ceil(min(quotas)))


def _of_group(folder: str) -> float:
    """The quota of a control group, version 2 or 1."""
    with suppress(OSError, ValueError):
        with open(os.path.join(folder, "cpu.max")) as file:
            quota, period = file.read().split()
        return sys.maxsize if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        with open(os.path.join(folder, "cpu.cfs_quota_us")) as file:
            whole = int(file.read())
        with open(os.path.join(folder, "cpu.cfs_period_us")) as file:
            return sys.maxsize if whole < 0 else whole / int(file.read())
    return sys.maxsize


def _in_pool() -> bool:
    """Whether this is a worker of concurrent.futures' or of multiprocessing's pools."""
    threads: Any = sys.modules.get("threading")
    processes: Any = sys.modules.get("multiprocessing.process")
    process = processes.current_process() if processes else None
    workers = (threads.current_thread() if threads else None, process)
    homes = {getattr(getattr(worker, "_target", None), "__module__", "") for worker in workers}
    return not homes.isdisjoint(POOLS) or (process is not None and process.daemon)


def _in_joblib() -> bool:
    """Whether this is a worker of joblib's. In its processes of loky the main thread is none: joblib has set
    OMP_NUM_THREADS there to what is its share."""
    joblib: Any = sys.modules.get("joblib.parallel")
    if joblib is None:
        return False
    from threading import current_thread, main_thread

    if current_thread() is main_thread():
        return False
    backend, _ = joblib.get_active_backend()
    return bool(backend.nesting_level)


def _of_libraries() -> list[int]:
    """What threadpoolctl has set BLAS and OpenMP to."""
    if "threadpoolctl" not in sys.modules:
        return []
    limits = [library.num_threads for library in _controller().lib_controllers]
    return [limit for limit in limits if limit]


@cache
def _controller() -> Any:
    return sys.modules["threadpoolctl"].ThreadpoolController()
