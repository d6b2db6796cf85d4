"""Default for the largest number of threads of a fit.

It is the number of processors that the process may use, or a smaller limit of the user or of other libraries, divided
by the number of fits that run at the same time.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from math import ceil
from typing import Any

from nnc._team import ActiveCount
from nnc._utils.checks import check_count

# Environment variables that limit the number of threads.
VARIABLES = ("NNC_NUM_THREADS", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
# A thread or process is a pool worker if its target function is defined in one of these modules.
POOL_MODULES = ("concurrent.futures.thread", "concurrent.futures.process")
CGROUP_FOLDER = "/sys/fs/cgroup"  # file system of the control groups of Linux

if sys.platform == "linux":
    from resource import RUSAGE_SELF, getrusage

_limit: int | None = None  # thread count that set_num_threads has set
active_fits = ActiveCount()  # number of fits that run now and share the processors


def set_num_threads(n: int | None) -> None:
    """Limit the number of threads of each fit in this process that is called without `n_threads`.

    The results of a fit do not depend on the number of threads.

    Parameters
    ----------
    n : int or None
        Largest number of threads; None removes the limit.

    Raises
    ------
    TypeError, ValueError
        n is not a whole number of at least 1.
    """
    global _limit
    _limit = None if n is None else check_count("n", n)


def get_num_threads() -> int:
    """Return the largest number of threads of a fit that is called now without `n_threads`.

    The fit measures how many of these threads are fastest. The limit is the number of processors that the process may
    use, or less:

    - A container may have a smaller quota of processor time.
    - `set_num_threads`, NNC_NUM_THREADS, OMP_NUM_THREADS, LOKY_MAX_CPU_COUNT and threadpoolctl may set a lower limit.
    - The limit is 1 in a worker of joblib, concurrent.futures or a pool of multiprocessing, because the other workers
      use the other processors.
    - Fits that run at the same time share the limit.

    Raises
    ------
    ValueError
        NNC_NUM_THREADS is not a whole number of at least 1.
    """
    return max(1, _allowed() // max(1, len(active_fits)))


def cpu_count() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_involuntary_switches() -> int:
    """Return how often Linux has interrupted a thread of this process to run another one; 0 on other systems.

    Switches from a thread that sleeps or waits are voluntary, and not counted.
    """
    return getrusage(RUSAGE_SELF).ru_nivcsw if sys.platform == "linux" else 0


def _allowed() -> int:
    """Return the largest number of threads that a fit may use if no other fit runs at the same time."""
    limits = [n for n in (_limit, *map(_variable, VARIABLES)) if n is not None]
    is_worker = _in_pool() or _in_joblib()
    return 1 if is_worker else min([cpu_count(), _quota(), *limits, *_library_limits()])


def _variable(name: str) -> int | None:
    """Return the thread count in an environment variable, or None if there is none.

    OMP_NUM_THREADS may be a list with one count per nesting level; its first count is returned.
    """
    text = os.environ.get(name, "").split(",")[0].strip()
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if text and name == VARIABLES[0]:
        raise ValueError(f"{name} must be a whole number, 1 or more, got {text!r}")
    return None


@cache
def _quota() -> int:
    """Return the smallest processor quota of the control groups of this process, rounded up to whole processors."""
    quotas = [float(sys.maxsize)]
    with suppress(OSError, ValueError), open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = CGROUP_FOLDER if not controllers else os.path.join(CGROUP_FOLDER, "cpu")
            parts = path.strip("/").split("/")
            for depth in range(len(parts) + 1):  # the quota of each parent control group applies as well
                quotas.append(_group_quota(os.path.join(root, *parts[:depth])))
    return max(1, ceil(min(quotas)))


def _group_quota(folder: str) -> float:
    """Return the processor quota of a control group of version 2 or 1; sys.maxsize if it has none."""
    with suppress(OSError, ValueError):
        with open(os.path.join(folder, "cpu.max")) as file:
            quota, period = file.read().split()
        return sys.maxsize if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        with open(os.path.join(folder, "cpu.cfs_quota_us")) as file:
            quota_us = int(file.read())
        with open(os.path.join(folder, "cpu.cfs_period_us")) as file:
            return sys.maxsize if quota_us < 0 else quota_us / int(file.read())
    return sys.maxsize


def _in_pool() -> bool:
    """Return whether this thread or process is a worker of concurrent.futures or of a pool of multiprocessing."""
    threads: Any = sys.modules.get("threading")
    processes: Any = sys.modules.get("multiprocessing.process")
    process = processes.current_process() if processes else None
    workers = (threads.current_thread() if threads else None, process)
    modules = {getattr(getattr(worker, "_target", None), "__module__", "") for worker in workers}
    return not modules.isdisjoint(POOL_MODULES) or (process is not None and process.daemon)


def _in_joblib() -> bool:
    """Return whether this thread is a worker thread of joblib.

    The main thread of a worker process of loky does not count, because joblib sets OMP_NUM_THREADS in that process.
    """
    joblib: Any = sys.modules.get("joblib.parallel")
    if joblib is None:
        return False
    from threading import current_thread, main_thread

    if current_thread() is main_thread():
        return False
    backend, _ = joblib.get_active_backend()
    return bool(backend.nesting_level)


def _library_limits() -> list[int]:
    """Return the thread counts that threadpoolctl has set for BLAS and OpenMP libraries."""
    if "threadpoolctl" not in sys.modules:
        return []
    limits = [library.num_threads for library in _controller().lib_controllers]
    return [limit for limit in limits if limit]


@cache
def _controller() -> Any:
    """Return a cached controller of threadpoolctl, because its search for libraries is slow."""
    return sys.modules["threadpoolctl"].ThreadpoolController()
