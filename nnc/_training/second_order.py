"""A run with one of the optimizers of curvature.py, which take all rows at once."""

from __future__ import annotations

import math
from contextlib import nullcontext
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry import losses
from nnc._registry.optimizers import LBFGS, LevenbergMarquardt
from nnc._team import Interrupt, Team
from nnc._training.curvature import lbfgs, levenberg_marquardt
from nnc._training.divergence import unscaled
from nnc._training.loop import TrainingLoop
from nnc._training.threads import ThreadTuner
from nnc._utils import processors
from nnc._utils.checks import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nnc._model.model import Model
    from nnc._training.curvature import Pair, Vector
    from nnc._training.dataset import Dataset
    from nnc._training.history import History
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState


class SecondOrderLoop(TrainingLoop):
    """One call of `fit` with one of these optimizers."""

    def __init__(self, model: Model, dataset: Dataset, options: TrainingOptions, state: TrainingState) -> None:
        data, settings = dataset.rows, options.settings
        loss = losses.ROWS[model.loss]
        for name in ("dropout", "clip_norm", "clip_value", "max_norm", "l1"):
            if settings.get(name):
                raise ValueError(f"{name} does not go with the optimizer {state.optimizer.name!r}")
        if options.batch_size is not None and options.batch_size < data.n:
            raise ValueError(f"{state.optimizer.name!r} takes all rows at once, got batch_size={options.batch_size}")
        if model.stack.has_batch_norm:
            raise ValueError(
                f"{state.optimizer.name!r} tries points that it does not take, and a BatchNorm gathers its running "
                "statistics from steps that are taken: use another optimizer"
            )
        if isinstance(state.optimizer, LevenbergMarquardt) and model.has_image_input:
            raise ValueError("'levenberg_marquardt' knows dense layers only, and this network is one of images")
        if isinstance(state.optimizer, LevenbergMarquardt) and not loss.squared_error_factor:
            known = ", ".join(row.name for row in losses.ROWS.values() if row.squared_error_factor)
            raise ValueError(
                f"'levenberg_marquardt' is for squared losses ({known}), got {model.loss_function or model.loss!r}"
            )
        for layer in model.stack.parametric_layers:
            if not layer.kind.frozen and (layer.kind.lr_factor, layer.kind.bias_lr_factor) != (1, 1):
                raise ValueError(
                    f"{layer.name} has an lr_factor, which is for optimizers that have a learning rate: "
                    f"{state.optimizer.name!r} has none"
                )
        super().__init__(model, dataset, options, state)
        self.is_plain, self.every = False, 1
        self.complete = 0
        self.reason = ""
        self.before = math.nan  # the loss before the epoch
        self.memory: Any = None  # what the optimizer goes on from: the damping, or the pairs
        self.scale = loss.squared_error_factor / loss.divisor(data.total_weight, model.sizes[-1])  # of squared errors
        self.l2 = settings.get("l2", 0.0)
        self.free: Any = slice(None)  # which parameters learn
        if model.frozen:
            self.free = np.concatenate(
                [
                    np.full(layer.kind.n_params(layer.input_shape), not layer.kind.frozen)
                    for layer in model.stack.parametric_layers
                ]
            )
        self.penalized = np.concatenate(
            [
                np.full(part.size, (name == "W" and not layer.kind.columnwise) or "biases_too" in settings)
                for layer, *parts in zip(model.stack.parametric_layers, model.W, model.b, strict=True)
                for name, part in zip("Wb", parts, strict=True)
                if part is not None
            ]
        )[self.free]

    @property
    def epoch(self) -> int:
        return self.complete

    def run(self, interrupt: Interrupt | None = None) -> History:
        model, optimizer = self.model, self.state.optimizer
        epochs = MAX_COUNT if self.options.epochs is None else self.options.epochs
        self.start = model.params.astype(np.float64)
        start = self.start[self.free]
        settings: dict[str, Any] = {"epochs": epochs, "dtype": model.dtype, "keep_going": self.keep_going}
        noting = Interrupt() if interrupt is None else nullcontext(interrupt)
        with noting as self.interrupt, processors.active_fits, Team(1) as self.team:
            self.tuner = ThreadTuner([1])
            self.open(1)
            try:
                if isinstance(optimizer, LevenbergMarquardt):
                    self.memory = optimizer.damping
                    self.before = self.loss_of(start)
                    result = levenberg_marquardt(
                        self.least_squares, self.loss_of, start, damping=optimizer.damping, **settings
                    )
                else:
                    assert isinstance(optimizer, LBFGS)
                    self.memory = self.stored_pairs()
                    self.before = self.objective(start)[0]
                    result = lbfgs(
                        self.objective, start, history_size=optimizer.history_size, pairs=self.memory, **settings
                    )
                    self.memory = result.pairs
                model.params = self.whole(result.params)
                if result.reason == "diverged":
                    self.diverged()
                return self.finish(self.reason or result.reason)
            except BaseException as error:
                self.fail(error)
                raise

    def cause(self) -> str:
        return f"Probably {unscaled(self.dataset.converter.max_abs_input)}."

    def loss_of(self, params: Vector) -> float:
        self.model.params = self.whole(params)
        return self.model.compute_loss(self.data) + self.penalty(params)

    def whole(self, params: Vector, frozen: float | None = None) -> Vector:
        """Those of all layers, of those that learn: the others stay as they are, or are a number."""
        if isinstance(self.free, slice):
            return params
        whole = self.start.copy() if frozen is None else np.full(len(self.start), frozen)
        whole[self.free] = params
        return whole

    def penalty(self, params: Vector) -> float:
        return 0.5 * self.l2 * float(params[self.penalized] @ params[self.penalized]) if self.l2 else 0.0

    def objective(self, params: Vector) -> tuple[float, Vector]:
        """The loss and its gradient."""
        self.model.params = self.whole(params)
        loss, gradient = self.model.loss_and_gradient(self.data)
        return loss + self.penalty(params), gradient[self.free] + self.l2 * self.penalized * params

    def least_squares(self, params: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Residuals and their derivatives, some rows at a time."""
        model, (X, Y, _, weights) = self.model, self.data
        assert Y is not None
        model.params = self.whole(params)
        n_out = Y.shape[1]
        rows = max(1, int(1e6 / (n_out * len(params))))
        for start in range(0, len(X), rows):
            part = slice(start, start + rows)
            P, J = model.jacobian(X[part])
            r = (P - Y[part]).astype(np.float64)
            J64 = J.astype(np.float64)
            if weights is not None:
                root = np.sqrt(weights[part].astype(np.float64))
                r, J64 = r * root[:, None], J64 * root[:, None, None]
            yield r.ravel(), J64.reshape(-1, J64.shape[-1])[:, self.free]
        if self.l2:  # the penalty as further residuals
            root_l2 = math.sqrt(self.l2 / (2 * self.scale))
            yield root_l2 * params[self.penalized], root_l2 * np.eye(len(params))[self.penalized]

    def keep_going(self, epoch: int, loss: float, params: Vector, memory: float | list[Pair]) -> bool:
        records = self.records
        records.plan(self.complete, epoch)
        with self.model.snapshot_lock:
            records.losses[epoch - 1], self.before = self.before, loss
            self.complete, self.memory = epoch, memory
            self.model.params = self.whole(params)
            records.marks.append((epoch, perf_counter() - records.began))
        self.reason = self.look()
        return not self.reason

    def sync(self) -> None:
        with self.model.snapshot_lock:
            super().sync()
            if self.memory is None:  # it ended before it began
                return
            if isinstance(self.state.optimizer, LevenbergMarquardt):
                self.state.optimizer = LevenbergMarquardt(damping=self.memory)
                return
            self.state.moments[...] = 0
            for rows, vectors in zip(np.split(self.state.moments, 2), zip(*self.memory, strict=True), strict=False):
                for row, vector in zip(rows, vectors, strict=False):
                    self.model.unpack(self.whole(vector, frozen=0.0), row)

    def stored_pairs(self) -> list[Pair]:
        """L-BFGS's pairs as `sync` wrote them. The rows beyond, which are zero, make pairs that it does not take."""
        flat = [self.model.pack(row)[self.free].astype(np.float64) for row in self.state.moments]
        return list(zip(flat[: len(flat) // 2], flat[len(flat) // 2 :], strict=True))
