"""The tables that are printed and the JSON that is written."""

from __future__ import annotations

import math
import os
import platform
from statistics import median

import numpy as np


class Outcome:
    """One work's candidates, the best of each peer, and what follows from them."""

    def __init__(self, work, candidates):
        self.work, self.candidates = work, candidates
        self.best = {}
        for candidate in candidates:
            other = self.best.get(candidate.peer)
            if candidate.error is None and (other is None or candidate.seconds < other.seconds):
                self.best[candidate.peer] = candidate
        self.start_loss = work.judge(work.weights) if work.training else None

    def ratio(self, peer):
        """The peer's time divided by nnc's, each in its best way; None where one is missing."""
        if peer not in self.best or "nnc" not in self.best:
            return None
        return self.best[peer].seconds / self.best["nnc"].seconds

    def agrees(self, peer):
        """Whether the loss fell as far as the others', to a tenth; predictions must be equal to rounding."""
        middle = median(candidate.loss for candidate in self.best.values())
        allowed = 1e-4 * middle if self.start_loss is None else 0.1 * abs(self.start_loss - middle)
        return abs(self.best[peer].loss - middle) <= allowed  # False for NaN


def number(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def ratio_cell(outcome, peer):
    ratio, goal = outcome.ratio(peer), outcome.work.goals.get(peer)
    if ratio is None or goal is None:
        return number(ratio) if ratio else None
    return f"{number(ratio)} ({goal:g}){'<' if ratio < goal else ''}"


def time_cell(outcome, peer):
    best = outcome.best[peer]
    return f"{number(best.seconds * 1e6)} ({best.way}, {best.threads})"


def loss_cell(outcome, peer):
    return f"{outcome.best[peer].loss:.4g}" + ("" if outcome.agrees(peer) else " !")


def first_run_cell(outcome, peer):
    return f"{outcome.best[peer].first_run:.1f}"


def table(title, cell, outcomes, peers):
    """Print one table: a row for each work, a column for each peer, `cell(outcome, peer)` in it."""
    rows = [["", *peers]]
    for outcome in outcomes:
        cells = [cell(outcome, peer) if peer in outcome.best else None for peer in peers]
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
    table("Microseconds a step or call (best way, threads)", time_cell, outcomes, peers)
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
            "seconds_a_step": c.seconds if c.rounds else None, "rounds": c.rounds,
            "loss": c.loss if math.isfinite(c.loss) else None, "error": c.error,
        }  # fmt: skip

    def work(outcome):
        return {
            "work": outcome.work.key, "title": outcome.work.title, "steps": outcome.work.steps,
            "start_loss": outcome.start_loss, "goals": outcome.work.goals,
            "ratios": {peer: outcome.ratio(peer) for peer in outcome.best},
            "losses_differ": [peer for peer in outcome.best if not outcome.agrees(peer)],
            "candidates": [candidate(c) for c in outcome.candidates],
        }  # fmt: skip

    return {"machine": machine(), "peers": versions, "missing": missing, "works": list(map(work, outcomes))}
