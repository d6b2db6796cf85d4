"""Several losses in one network, each of some outputs with an activation of their own.

NeuralNetwork([8, 32, 4], loss=nnc.Heads([nnc.Head(1, "mse"), nnc.Head(3, "cross_entropy", weight=0.5)]))
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from nnc._registry import activations, losses
from nnc._utils.checks import check_bool, check_choice, check_count, check_positive
from nnc._utils.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def _loss(name: str, value: Any) -> str | losses.Loss:
    if callable(value):
        raise TypeError(f"{name} of a head must be a name or an object such as nnc.Huber(), got {value!r}")
    if losses.parse_loss(value)[0] == losses.CUSTOM:
        raise TypeError(f"{name} of a head must be a single loss, got {value!r}")
    return value  # type: ignore[no-any-return]


def _output(name: str, value: Any) -> str:
    return check_choice(name, value, activations.NAMES)


class Head(Value):
    """Some of the outputs of a network, and their loss.

    Parameters
    ----------
    n : int
        How many outputs.
    loss : str or object, default "mse"
        One of those that `NeuralNetwork` knows by name.
    weight : float, default 1
        What the loss is multiplied by, above 0.
    output : str, optional
        The activation. Default: the partner of the loss.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these, or the output does not go with the loss.
    """

    n: int = field(check=check_count)
    loss: str | losses.Loss = field(default="mse", check=_loss)
    weight: float = field(default=1.0, check=check_positive)
    output: str | None = field(default=None, check=_output)

    def __post_init__(self) -> None:
        vars(self)["output"] = self.activation.name  # so that what means the same is the same
        if self.parameter == self.row.default_parameter:
            vars(self)["loss"] = self.row.name
        conflict = losses.explain_mismatch([self.activation.name], self.row.name)
        if conflict:
            raise ValueError(conflict)
        if self.n == 1 and not self.activation.elementwise:
            raise ValueError("a softmax output needs two or more neurons, got n=1; for two classes use loss='bce'")

    @property
    def row(self) -> losses.LossRow:
        """The row of the loss."""
        return losses.ROWS[losses.parse_loss(self.loss)[0]]

    @property
    def parameter(self) -> float:
        """That of the loss, 0 where it has none."""
        return losses.parse_loss(self.loss)[1]

    @property
    def activation(self) -> activations.Activation:
        """The row of the output."""
        return activations.ROWS[self.row.output if self.output is None else self.output]

    def __str__(self) -> str:
        weight = "" if self.weight == 1 else f"{self.weight:g} "
        return f"{weight}{self.loss} of {self.n} {self.activation.name}"


def _heads(name: str, value: Any) -> tuple[Head, ...]:
    heads = tuple(value) if isinstance(value, (list, tuple)) else ()
    if not heads or not all(isinstance(head, Head) for head in heads):
        raise TypeError(f"{name} must be a list of nnc.Head, such as [nnc.Head(1), nnc.Head(2)], got {value!r}")
    return heads


class Heads(losses.Composite):
    """The loss of a network with several heads: the sum of theirs, each times its weight. The outputs of the network
    are those of the first head, then those of the second, and so on.

    Targets are one column for each output. Or where heads have "cross_entropy", one of labels from 0 to n - 1 for each
    of these heads, and those of the others as before. `scale_y` of the network scales the targets of losses of numbers,
    each column by itself, and leaves those of the other heads unchanged; predictions are in the units of the targets,
    and losses in scaled ones.

    Parameters
    ----------
    heads : list of Head
    missing : bool, default False
        Whether NaN in y means that there is no target: that term is left out, of "cross_entropy" the row of that head.
        A mean is one of the terms that there are, and 0 where there is none.
    ordered : bool, default False
        Whether predictions of the heads, which have the same number of outputs, are sorted: the first output of all
        heads, the second of all, and so on. y may have the columns of one head then, which are the targets of all. See
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
            raise ValueError(f"heads must have the same number of outputs with ordered=True, got {self}")

    @classmethod
    def of_quantiles(cls, quantile: losses.Quantile, n_out: int) -> Heads:
        """Return the heads of several quantiles for a network with n_out outputs.

        Raises
        ------
        ValueError
            n_out is no multiple of the number of quantiles.
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
        """Outputs of all heads."""
        return sum(head.n for head in self.heads)

    @property
    def slices(self) -> list[slice]:
        """The columns of each head."""
        ends = [*accumulate(head.n for head in self.heads)]
        return [slice(end - head.n, end) for head, end in zip(self.heads, ends, strict=True)]

    def split(self, P: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs (n, n_out) of the network, or targets like them, as those of each head, views of them."""
        if P.shape[-1] != self.n_out:
            raise ValueError(f"P must have {self.n_out} columns, one for each output, got shape {P.shape}")
        return [P[..., columns] for columns in self.slices]

    def __str__(self) -> str:
        return " + ".join(map(str, self.heads))

    def to_dict(self) -> dict[str, Any]:
        """What a document has of it."""
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
    def from_dict(cls, d: dict[str, Any]) -> Heads:
        """The heads in a checked document."""
        heads = []
        for head in d["heads"]:
            loss = losses.loss_object(head["loss"], head["loss_parameter"])
            heads.append(Head(head["n"], loss, weight=head["weight"], output=head["output"]))
        return cls(heads, missing=d["missing"], ordered=d.get("ordered", False))
