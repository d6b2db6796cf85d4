"""Tables and JSON document with the results of the main benchmark."""

from __future__ import annotations

import math
import os
import platform
from statistics import median

import numpy as np

from .runner import THREADS


class Outcome:
    """Results of all candidates for one workload.

    Attributes
    ----------
    workload : Workload
    candidates : list of Candidate
    best, best_single_thread : dict of str to Candidate
        Fastest candidate of each peer, with any number of threads and with one thread.
    start_loss : float or None
        Loss of the initial weights; None if the workload is prediction.
    """

    def __init__(self, workload, candidates):
        self.workload, self.candidates = workload, candidates
        self.best = fastest(candidates)
        self.best_single_thread = fastest(candidate for candidate in candidates if candidate.threads == 1)
        self.start_loss = workload.final_loss(workload.weights) if workload.training else None

    def ratio(self, peer, single_thread=False):
        """Return the time of the peer divided by that of nnc, both in their best variant; None if a time is missing.

        If `single_thread` is True, only variants with one thread are compared.
        """
        best = self.best_single_thread if single_thread else self.best
        if peer not in best or "nnc" not in best:
            return None
        return best[peer].seconds / best["nnc"].seconds

    @property
    def peak_fractions(self):
        """Fraction of the multiply-add peak that nnc reaches, by number of threads.

        The fraction is the median over the rounds. The peak is measured in each round, because it varies.
        """
        workload = self.workload
        rows = workload.rows * workload.epochs if workload.is_fit else 0
        gflop = 2e-9 * workload.multiply_adds * rows / workload.steps
        measured = [candidate for candidate in self.candidates if candidate.peaks and candidate.error is None and gflop]
        return {
            candidate.threads: median(
                gflop / seconds / peak for seconds, peak in zip(candidate.rounds, candidate.peaks, strict=True)
            )
            for candidate in measured
        }

    def agrees(self, peer):
        """Return whether the final loss of a peer is close to the median of all peers.

        In training, the decrease of the loss may differ by a tenth. Predictions may only differ by rounding errors.
        """
        median_loss = median(candidate.loss for candidate in self.best.values())
        tolerance = 1e-4 * median_loss if self.start_loss is None else 0.1 * abs(self.start_loss - median_loss)
        return abs(self.best[peer].loss - median_loss) <= tolerance  # False for a loss of NaN


def fastest(candidates):
    """Return the fastest candidate of each peer, without those that failed."""
    best = {}
    for candidate in candidates:
        previous = best.get(candidate.peer)
        if candidate.error is None and (previous is None or candidate.seconds < previous.seconds):
            best[candidate.peer] = candidate
    return best


def format_number(value):
    """Return a number with three significant digits, or without decimals if it is 1000 or more."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def cell_with_goal(value, goal, format_value):
    """Return a cell with a value and its goal, if there is one; "<" marks a value below the goal."""
    if value is None or goal is None:
        return None if value is None else format_value(value)
    return f"{format_value(value)} ({goal:.2g}){'<' if value < goal else ''}"


def ratio_cell(outcome, peer):
    """Return the ratio of the times of a peer and nnc."""
    return cell_with_goal(outcome.ratio(peer), outcome.workload.goals.get(peer), format_number)


def single_thread_ratio_cell(outcome, peer):
    """Return the ratio of the times of a peer and nnc, both with one thread."""
    goal = outcome.workload.single_thread_goals.get(peer)
    return cell_with_goal(outcome.ratio(peer, single_thread=True), goal, format_number)


def peak_fraction_cell(outcome, threads):
    """Return the fraction of the multiply-add peak that nnc reaches with a number of threads."""
    goals = dict(zip(THREADS, outcome.workload.peak_goals, strict=False))
    return cell_with_goal(outcome.peak_fractions.get(threads), goals.get(threads), "{:.2f}".format)


def time_cell(outcome, peer):
    """Return the microseconds of a step with the best variant and its number of threads."""
    best = outcome.best[peer]
    return f"{format_number(best.seconds * 1e6)} ({best.variant}, {best.threads})"


def single_thread_time_cell(outcome, peer):
    """Return the microseconds of a step with the best variant for one thread."""
    best = outcome.best_single_thread[peer]
    return f"{format_number(best.seconds * 1e6)} ({best.variant})"


def loss_cell(outcome, peer):
    """Return the final loss, marked if it differs from the losses of the other peers."""
    return f"{outcome.best[peer].loss:.4g}" + ("" if outcome.agrees(peer) else " !")


def first_run_cell(outcome, peer):
    """Return the seconds of the first run, including compilation."""
    return f"{outcome.best[peer].first_run:.1f}"


def table(title, cell, outcomes, columns):
    """Print a table with a row for each workload.

    The columns are peers or numbers of threads. `cell(outcome, column)` returns the text of a cell, or None.
    """
    rows = [["", *map(str, columns)]]
    for outcome in outcomes:
        available = {*outcome.best, *outcome.peak_fractions}
        cells = [cell(outcome, column) if column in available else None for column in columns]
        rows.append([outcome.workload.name, *(text or "-" for text in cells)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"\n{title}\n")
    for name, *cells in rows:
        print("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]))


def show(outcomes, versions, missing):
    """Print the machine, the versions, the workloads and all tables."""
    host = describe_machine()
    print(f"\n{host['processor']}, {host['cores']} cores, Python {host['python']}")
    print(", ".join(versions.values()))
    for peer, reason in missing.items():
        print(f"missing: {peer} ({reason})")
    print()
    for outcome in outcomes:
        print(outcome.workload.title)

    peers = list(versions)
    others = [peer for peer in peers if peer != "nnc"]
    if "nnc" in peers:
        table("Time of the peer / time of nnc (goal; < means below the goal)", ratio_cell, outcomes, others)
        table("Time of the peer / time of nnc, both with one thread", single_thread_ratio_cell, outcomes, others)
        fits = [outcome for outcome in outcomes if outcome.workload.is_fit]
        thread_counts = sorted({threads for outcome in fits for threads in outcome.peak_fractions})
        table("Fraction of the multiply-add peak of nnc, by threads (goal)", peak_fraction_cell, fits, thread_counts)
    table("Microseconds of a step or call (best variant, threads)", time_cell, outcomes, peers)
    table("Microseconds of a step or call with one thread (best variant)", single_thread_time_cell, outcomes, peers)
    table("Final loss (! means different from the other peers)", loss_cell, outcomes, peers)
    table("Seconds of the first run, including compilation", first_run_cell, outcomes, peers)
    print()
    for outcome in outcomes:
        for c in outcome.candidates:
            if c.error is not None:
                print(f"failed: {outcome.workload.key} {c.peer} ({c.variant}, {c.threads}): {c.error}")


def describe_machine():
    """Return processor, cores, operating system and versions."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return {
        "processor": processor, "cores": os.cpu_count(), "system": platform.platform(),
        "python": platform.python_version(), "numpy": np.__version__,
    }  # fmt: skip


def document(outcomes, versions, missing):
    """Return all results as a dictionary for JSON, with every round of every candidate."""

    def candidate(c):
        return {
            "peer": c.peer, "way": c.variant, "threads": c.threads, "first_run_seconds": c.first_run,
            "seconds_a_step": c.seconds if c.rounds else None, "rounds": c.rounds, "peaks_gflops": c.peaks,
            "loss": c.loss if math.isfinite(c.loss) else None, "error": c.error,
        }  # fmt: skip

    def workload(outcome):
        return {
            "workload": outcome.workload.key, "title": outcome.workload.title, "steps": outcome.workload.steps,
            "start_loss": outcome.start_loss, "goals": outcome.workload.goals,
            "goals_alone": outcome.workload.single_thread_goals,
            "ratios": {peer: outcome.ratio(peer) for peer in outcome.best},
            "ratios_alone": {peer: outcome.ratio(peer, single_thread=True) for peer in outcome.best_single_thread},
            "shares": outcome.peak_fractions, "goals_of_shares": outcome.workload.peak_goals,
            "losses_differ": [peer for peer in outcome.best if not outcome.agrees(peer)],
            "candidates": [candidate(c) for c in outcome.candidates],
        }  # fmt: skip

    workloads = list(map(workload, outcomes))
    return {"machine": describe_machine(), "peers": versions, "missing": missing, "workloads": workloads}
