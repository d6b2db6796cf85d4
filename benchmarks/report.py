"""The tables that are printed and the JSON that is written."""

from __future__ import annotations

import math
import os
import platform
from statistics import median

import numpy as np

from .runner import THREADS


class Outcome:
    """One work's candidates, the best of each peer, the best of those on one thread, and what follows from them."""

    def __init__(self, work, candidates):
        self.work, self.candidates = work, candidates
        self.best = fastest(candidates)
        self.alone = fastest(candidate for candidate in candidates if candidate.threads == 1)
        self.start_loss = work.judge(work.weights) if work.training else None

    def ratio(self, peer, alone=False):
        """The peer's time divided by nnc's, each in its best way; None where one is missing."""
        among = self.alone if alone else self.best
        if peer not in among or "nnc" not in among:
            return None
        return among[peer].seconds / among["nnc"].seconds

    @property
    def shares(self):
        """Of the processor's multiply-add peak, what nnc's steps reach on each number of threads: the median of the
        rounds, each with its own peak, since that moves."""
        work = self.work
        done = 2e-9 * work.multiply_adds * work.rows * work.epochs / work.steps if work.fits else 0
        ours = [candidate for candidate in self.candidates if candidate.peaks and candidate.error is None and done]
        return {
            candidate.threads: median(done / a / b for a, b in zip(candidate.rounds, candidate.peaks, strict=True))
            for candidate in ours
        }

    def agrees(self, peer):
        """Whether the loss fell as far as the others', to a tenth; predictions must be equal to rounding."""
        middle = median(candidate.loss for candidate in self.best.values())
        allowed = 1e-4 * middle if self.start_loss is None else 0.1 * abs(self.start_loss - middle)
        return abs(self.best[peer].loss - middle) <= allowed  # False for NaN


def fastest(candidates):
    """The best candidate of each peer."""
    best = {}
    for candidate in candidates:
        other = best.get(candidate.peer)
        if candidate.error is None and (other is None or candidate.seconds < other.seconds):
            best[candidate.peer] = candidate
    return best


def number(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def against(value, goal, text):
    """A cell of what has a goal, perhaps."""
    if value is None or goal is None:
        return None if value is None else text(value)
    return f"{text(value)} ({goal:.2g}){'<' if value < goal else ''}"


def ratio_cell(outcome, peer):
    return against(outcome.ratio(peer), outcome.work.goals.get(peer), number)


def ratio_alone_cell(outcome, peer):
    return against(outcome.ratio(peer, alone=True), outcome.work.goals_alone.get(peer), number)


def share_cell(outcome, threads):
    goals = dict(zip(THREADS, outcome.work.shares, strict=False))
    return against(outcome.shares.get(threads), goals.get(threads), "{:.2f}".format)


def time_cell(outcome, peer):
    best = outcome.best[peer]
    return f"{number(best.seconds * 1e6)} ({best.way}, {best.threads})"


def time_alone_cell(outcome, peer):
    best = outcome.alone[peer]
    return f"{number(best.seconds * 1e6)} ({best.way})"


def loss_cell(outcome, peer):
    return f"{outcome.best[peer].loss:.4g}" + ("" if outcome.agrees(peer) else " !")


def first_run_cell(outcome, peer):
    return f"{outcome.best[peer].first_run:.1f}"


def table(title, cell, outcomes, columns):
    """Print one table: a row for each work, `cell(outcome, column)` in the column of each peer or number of threads."""
    rows = [["", *map(str, columns)]]
    for outcome in outcomes:
        known = {*outcome.best, *outcome.shares}
        cells = [cell(outcome, column) if column in known else None for column in columns]
        rows.append([outcome.work.name, *(text or "-" for text in cells)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"\n{title}\n")
    for name, *cells in rows:
        print("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]))


def show(outcomes, versions, missing):
    """Print everything."""
    host = machine()
    print(f"\n{host['processor']}, {host['cores']} cores, Python {host['python']}")
    print(", ".join(versions.values()))
    for peer, reason in missing.items():
        print(f"missing: {peer} ({reason})")
    print()
    for outcome in outcomes:
        print(outcome.work.title)

    peers = list(versions)
    others = [peer for peer in peers if peer != "nnc"]
    if "nnc" in peers:
        table("Time of the peer / time of nnc (goal; < is below it)", ratio_cell, outcomes, others)
        table("The same, both on one thread", ratio_alone_cell, outcomes, others)
        trained = [outcome for outcome in outcomes if outcome.work.fits]
        table("nnc's share of the multiply-add peak, by threads (goal)", share_cell, trained, THREADS)
    table("Microseconds a step or call (best way, threads)", time_cell, outcomes, peers)
    table("The same on one thread", time_alone_cell, outcomes, peers)
    table("Loss at the end (! differs from the others')", loss_cell, outcomes, peers)
    table("Seconds until a first run was done, compiling included", first_run_cell, outcomes, peers)
    print()
    for outcome in outcomes:
        for c in outcome.candidates:
            if c.error is not None:
                print(f"failed: {outcome.work.key} {c.peer} ({c.way}, {c.threads}): {c.error}")


def machine():
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
    """Everything as a dictionary for JSON, every round of every candidate included."""

    def candidate(c):
        return {
            "peer": c.peer, "way": c.way, "threads": c.threads, "first_run_seconds": c.first_run,
            "seconds_a_step": c.seconds if c.rounds else None, "rounds": c.rounds, "peaks_gflops": c.peaks,
            "loss": c.loss if math.isfinite(c.loss) else None, "error": c.error,
        }  # fmt: skip

    def work(outcome):
        return {
            "work": outcome.work.key, "title": outcome.work.title, "steps": outcome.work.steps,
            "start_loss": outcome.start_loss, "goals": outcome.work.goals, "goals_alone": outcome.work.goals_alone,
            "ratios": {peer: outcome.ratio(peer) for peer in outcome.best},
            "ratios_alone": {peer: outcome.ratio(peer, alone=True) for peer in outcome.alone},
            "shares": outcome.shares, "goals_of_shares": outcome.work.shares,
            "losses_differ": [peer for peer in outcome.best if not outcome.agrees(peer)],
            "candidates": [candidate(c) for c in outcome.candidates],
        }  # fmt: skip

    return {"machine": machine(), "peers": versions, "missing": missing, "works": list(map(work, outcomes))}
