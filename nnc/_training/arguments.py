"""Unchecked arguments of `fit` and `fit_batches`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self, TypeAlias

    from numpy.typing import ArrayLike

    from nnc._data.metrics import Metric
    from nnc._data.splits import LastRows
    from nnc._registry.optimizers import Optimizer
    from nnc._training.callbacks import Record
    from nnc._training.schedules import Schedule

    Rate: TypeAlias = float | Schedule | Callable[[int], float]
    Measure: TypeAlias = str | Metric | Callable[..., float]
    Callback: TypeAlias = Callable[[Record], Any]


class FitArguments:
    """Unchecked arguments of `NeuralNetwork.fit`, except X and y, with the defaults of that method."""

    def __init__(
        self,
        *,
        epochs: int | None = None,
        lr: Rate | None = None,
        optimizer: str | Optimizer | None = None,
        preset: str | None = None,
        reset_optimizer: bool = False,
        batch_size: int | None = None,
        truncate: int | None = None,
        warm_up: int = 0,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        dY: ArrayLike | None = None,
        dY_weight: float = 1.0,
        validation: float | str | LastRows | Sequence[ArrayLike] | None = None,
        metrics: Measure | Sequence[Measure] = (),
        l1: float = 0.0,
        l2: float = 0.0,
        weight_decay: Rate | None = None,
        dropout: Rate | Sequence[Rate] = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        regularize_bias: bool = False,
        patience: int | None = None,
        min_delta: float | None = None,
        monitor: str | None = None,
        restore_best: bool | str | None = None,
        target_loss: float | None = None,
        max_seconds: float | None = None,
        callback: Callback | Sequence[Callback] | None = None,
        progress: bool | str = False,
        verbose: int = 0,
        n_threads: int | None = None,
    ) -> None:
        self.epochs = epochs
        self.lr = lr
        self.optimizer = optimizer
        self.preset = preset
        self.reset_optimizer = reset_optimizer
        self.batch_size = batch_size
        self.truncate = truncate
        self.warm_up = warm_up
        self.shuffle = shuffle
        self.sample_weight = sample_weight
        self.class_weight = class_weight
        self.dY: ArrayLike | None = dY
        self.dY_weight: float = dY_weight
        self.validation = validation
        self.metrics = metrics
        self.l1 = l1
        self.l2 = l2
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.max_norm = max_norm
        self.regularize_bias = regularize_bias
        self.patience = patience
        self.min_delta = min_delta
        self.monitor = monitor
        self.restore_best = restore_best
        self.target_loss = target_loss
        self.max_seconds = max_seconds
        self.callback = callback
        self.progress = progress
        self.verbose = verbose
        self.n_threads = n_threads

    @property
    def sets_rate(self) -> bool:
        """Return whether the caller sets the learning rate or the optimizer."""
        return self.lr is not None or self.optimizer is not None

    def replaced(self, **changes: Any) -> Self:
        """Return a copy of the arguments in which those named in `changes` have new values."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), **changes)
        return other

    def given(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults, by name."""
        changed = {}
        for name, default in DEFAULTS.items():
            value = getattr(self, name)
            if type(value) is not type(default) or value != default:
                changed[name] = value
        return changed


# Default value of each argument, in the order of the signature.
DEFAULTS: Mapping[str, Any] = FitArguments.__init__.__kwdefaults__ or {}
# arguments of `fit` that `fit_batches` does not accept
ONLY_FOR_ARRAYS = frozenset({"batch_size", "truncate", "warm_up", "shuffle", "sample_weight", "class_weight"})
ONLY_FOR_ARRAYS |= {"dY", "dY_weight"}
