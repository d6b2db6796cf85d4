"""Losses with several heads: groups of outputs with their own activation and loss.

NeuralNetwork([8, 32, 4], loss=nnc.Heads([nnc.Head(1, "mse"), nnc.Head(3, "cross_entropy", weight=0.5)]))
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from nnc._registry import activations, losses
from nnc._utils.checks import check_bool, check_choice, check_count, check_positive, short_repr
from nnc._utils.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc._registry.choices import ActivationName, LossName


def _loss(name: str, value: Any) -> str | losses.Loss:
    """Return the loss of a head, which must be a name or an object with a single loss."""
    if callable(value):
        raise TypeError(f"{name} of a head must be a name or an object such as nnc.Huber(), got {short_repr(value)}")
    if losses.parse_loss(value)[0] == losses.CUSTOM:
        raise TypeError(f"{name} of a head must be a single loss, got {short_repr(value)}")
    return value  # type: ignore[no-any-return]


def _output(name: str, value: Any) -> str:
    """Return the name of the activation of a head."""
    return check_choice(name, value, activations.NAMES)


class Head(Value):
    """Group of outputs of a network with one activation and one loss.

    Parameters
    ----------
    n : int
        Number of outputs.
    loss : str or object, default "mse"
        A loss of `NeuralNetwork` by name, or an object such as `Huber()`.
    weight : float, default 1
        Positive factor of the loss.
    output : str, optional
        Activation of the outputs. Default: the default output activation of the loss.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid, or the loss requires another activation.
    """

    n: int = field(check=check_count)
    loss: LossName | losses.Loss = field(default="mse", check=_loss)
    weight: float = field(default=1.0, check=check_positive)
    output: ActivationName | None = field(default=None, check=_output)

    def __post_init__(self) -> None:
        vars(self)["output"] = self.activation.name  # set defaults explicitly, so that equal heads compare equal
        if self.parameter == self.row.default_parameter:
            vars(self)["loss"] = self.row.name
        conflict = losses.explain_mismatch([self.activation.name], self.row.name)
        if conflict:
            raise ValueError(conflict)
        if self.n == 1 and not self.activation.elementwise:
            raise ValueError("a softmax output needs two or more neurons, got n=1; for two classes use loss='bce'")

    @property
    def row(self) -> losses.LossRow:
        """Return the formula and the properties of the loss: its row in the table of losses."""
        return losses.ROWS[losses.parse_loss(self.loss)[0]]

    @property
    def parameter(self) -> float:
        """Return the parameter of the loss, or 0 if it has none."""
        return losses.parse_loss(self.loss)[1]

    @property
    def activation(self) -> activations.Activation:
        """Return the formula and the properties of the activation: its row in the table of activations."""
        return activations.ROWS[self.row.output if self.output is None else self.output]

    def __str__(self) -> str:
        weight = "" if self.weight == 1 else f"{self.weight:g} "
        return f"{weight}{self.loss} of {self.n} {self.activation.name}"


def _heads(name: str, value: Any) -> tuple[Head, ...]:
    """Return a list or tuple of heads as a tuple."""
    heads = tuple(value) if isinstance(value, (list, tuple)) else ()
    if not heads or not all(isinstance(head, Head) for head in heads):
        expected = "a list of nnc.Head, such as [nnc.Head(1), nnc.Head(2)]"
        raise TypeError(f"{name} must be {expected}, got {short_repr(value)}")
    return heads


class Heads(losses.Composite):
    """Loss of a network with several heads: the weighted sum of the losses of the heads.

    The outputs of the network are those of the first head, then those of the second head, and so on.

    The targets have one column for each output. A head with the loss "cross_entropy" may have a single column of labels
    from 0 to n - 1 instead. `scale_y` of the network scales the columns of heads with numeric targets and leaves those
    of the other heads unchanged. Predictions are in the units of the targets, and losses are those of the scaled
    targets.

    Parameters
    ----------
    heads : list of Head
        The heads in the order of their outputs.
    missing : bool, default False
        Whether NaN in y marks a missing target, which does not contribute to the loss. In a head with the loss
        "cross_entropy", a NaN makes all targets of the head in this row missing. A loss that is a mean is the mean over
        the targets that are present, or 0 if there are none.
    ordered : bool, default False
        Whether the predictions of the heads are sorted: output k of all heads is sorted for each k. All heads must have
        the same number of outputs, and y may have the columns of a single head, which are the targets of each head. See
        `nnc.Quantile`.

    Examples
    --------
    >>> heads = nnc.Heads([nnc.Head(1, "mse"), nnc.Head(3, "cross_entropy", weight=0.5)], missing=True)
    >>> net = NeuralNetwork([8, 32, 4], loss=heads)
    >>> distance, kind = heads.split(net.predict(X))
    """

    heads: Sequence[Head] = field(check=_heads)
    missing: bool = field(default=False, check=check_bool)
    ordered: bool = field(default=False, check=check_bool)

    def __post_init__(self) -> None:
        if self.ordered and len({head.n for head in self.heads}) > 1:
            raise ValueError(f"heads must all have the same number of outputs if ordered=True, got {self}")

    @classmethod
    def of_quantiles(cls, quantile: losses.Quantile, n_out: int) -> Heads:
        """Return the heads of several quantiles for a network with n_out outputs.

        Raises
        ------
        ValueError
            n_out is not a multiple of the number of quantiles.
        """
        taus = quantile.tau
        assert isinstance(taus, tuple)
        if n_out % len(taus):
            raise ValueError(
                f"layers must end with {len(taus)} outputs for each target with the loss {quantile!r}, got {n_out}"
            )
        return cls([Head(n_out // len(taus), losses.Quantile(tau)) for tau in taus], ordered=True)

    @property
    def n_out(self) -> int:
        """Return the number of outputs of all heads."""
        return sum(head.n for head in self.heads)

    @property
    def slices(self) -> list[slice]:
        """Return a slice for each head, which selects its columns of the outputs."""
        ends = [*accumulate(head.n for head in self.heads)]
        return [slice(end - head.n, end) for head, end in zip(self.heads, ends, strict=True)]

    def split(self, P: NDArray[Any]) -> list[NDArray[Any]]:
        """Return views of the columns of each head in outputs or targets (n, n_out)."""
        if P.shape[-1] != self.n_out:
            raise ValueError(f"P must have {self.n_out} columns, one for each output, got shape {P.shape}")
        return [P[..., columns] for columns in self.slices]

    def __str__(self) -> str:
        return " + ".join(map(str, self.heads))

    def to_dict(self) -> dict[str, Any]:
        """Return the description of the heads for a model file."""
        heads = [
            {
                "n": head.n,
                "loss": head.row.name,
                "loss_parameter": head.parameter if head.row.parameter else None,
                "weight": head.weight,
                "output": head.activation.name,
            }
            for head in self.heads
        ]
        return {"heads": heads, "missing": self.missing, **({"ordered": True} if self.ordered else {})}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Heads:
        """Create the heads from their validated description in a model file."""
        heads = []
        for head in document["heads"]:
            loss: Any = losses.loss_object(head["loss"], head["loss_parameter"])
            heads.append(Head(head["n"], loss, weight=head["weight"], output=head["output"]))
        return cls(heads, missing=document["missing"], ordered=document.get("ordered", False))
