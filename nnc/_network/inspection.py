"""Texts and drawings of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc._network.prediction import Prediction
from nnc._registry import losses
from nnc._utils.checks import check_positive

if TYPE_CHECKING:
    from typing import IO

    from numpy.typing import ArrayLike

    from nnc._drawing.svg import Drawing
    from nnc._inspection.explain import Explanation


class Inspection(Prediction):
    """Summaries, drawings and worked examples."""

    def __repr__(self) -> str:
        model, converter = self.model, self.converter
        arguments = model.stack.constructor_arguments()
        layers, bias = arguments.pop("layers"), arguments.pop("bias", None)
        if self._has_automatic_loss:
            del arguments["output"]  # which the constructor refuses
        plain = self.loss_parameter == losses.ROWS[model.loss].default_parameter
        named = self.loss_name if plain else losses.loss_object(model.loss, model.loss_parameter)
        arguments["loss"] = model.loss_function or named
        arguments |= {} if bias is None else {"bias": bias}
        arguments |= {"dtype": model.dtype.name, "seed": self.seed}
        scalers = {"scale_X": converter.scaler_X, "scale_y": converter.scaler_y}
        arguments |= {name: scaler for name, scaler in scalers.items() if scaler is not None}
        return f"NeuralNetwork({layers!r}, {', '.join(f'{name}={value!r}' for name, value in arguments.items())})"

    def summary(self) -> str:
        """Describe the network as a table of its layers: shapes, activation, number of parameters, for images also
        multiplications per row. Below it are the loss, scalings, and small curves of the training.

        Returns
        -------
        str
            Prompts show it as printed, notebooks as HTML with columns of one width.
        """
        from nnc._drawing.html import Text
        from nnc._inspection.text import summary_text

        return Text("\n".join([f"{summary_text(self.model.stack)}, {self._loss_and_scalings()}", *self._curves()]))

    def _loss_and_scalings(self) -> str:
        """Return precision, loss and scalings for the last line of a summary."""
        scaled = "".join(f", {what} scaled ({how})" for what, how in self.converter.describe_scalings().items())
        loss = self.model.loss_function or self.loss_name
        return f"{self.dtype.name}, loss {loss}{scaled}"

    def _curves(self) -> list[str]:
        from nnc._training.history import settings_lines

        history = self.history
        if history is None or not history.epochs:
            return settings_lines(self._fit_settings)
        trained = f"trained for {history.untracked_epochs + history.epochs:,} epochs"
        return [trained, *settings_lines(history.settings), *history.curves()]

    def draw(self, row: ArrayLike | None = None, *, neurons: int = 10) -> Drawing:
        """Draw the network as SVG, without another package.

        Neurons are circles; weights are lines whose colour is their sign and whose thickness is their size; images are
        stacks of their channels. Notebooks show the drawing; `net.draw().save("net.svg")` and `to_svg` write it to a
        file.

        Parameters
        ----------
        row : array (n_in,), optional
            One row of inputs, for which the outputs of every layer are drawn, too.
        neurons : int, default 10
            Largest number of neurons shown in a layer, 2 or more. Of larger layers the first and the last are shown.

        Returns
        -------
        Drawing
            `str()` of it is SVG.

        Raises
        ------
        ValueError, TypeError
            An argument is not one of these.
        """
        from nnc._drawing.network import draw

        return draw(self, row, neurons)

    def to_svg(self, path: Any = None, row: ArrayLike | None = None, *, neurons: int = 10) -> str:
        """Return the drawing of `draw` as SVG, which follows whether the page is light or dark.

        Parameters
        ----------
        path : str, os.PathLike or text file, optional
            Where to write it. Until the new file is complete, an old one stays.
        row, neurons
            As in `draw`.

        Returns
        -------
        str
            The text of the file.

        Raises
        ------
        ValueError, TypeError
            An argument is not one of these.
        OSError
            The file cannot be written; the message says why and what to do.
        """
        drawing = self.draw(row, neurons=neurons)
        if path is not None:
            drawing.save(path)
        return str(drawing)

    def _repr_html_(self) -> str:
        from nnc._drawing.html import paragraph, table
        from nnc._inspection.text import summary_table

        (head, *rows), sums = summary_table(self.model.stack)
        summary = paragraph(f"{sums}, {self._loss_and_scalings()}")
        trained = "" if self.history is None else self.history._repr_html_()
        return table(head, rows, "NeuralNetwork") + summary + self.draw()._repr_html_() + trained

    def inspect(self, file: IO[str] | None = None) -> None:
        """Prints all layers, neurons, weights, biases and scalings, to `file` or to the standard output."""
        from nnc._inspection.text import network_text, scaling_text

        converter = self.converter
        lines = {what: [f"Scaled: {how}"] for what, how in converter.describe_scalings().items()}
        if converter.scaling_X is not None:
            lines["inputs"] += scaling_text("Input", converter.scaling_X)
        if converter.scaling_y is not None:
            lines["targets"] += scaling_text("Output", converter.scaling_y)
        inputs, targets = lines.get("inputs", ()), lines.get("targets", ())
        print(network_text(self.model.stack, self.model.lists(), inputs, targets), file=file)

    def explain_step(self, X: ArrayLike, y: Any, lr: float = 0.5) -> Explanation:
        """A step of gradient descent by hand: every number of the forward pass, the loss, the chain rule and the
        update, with its formula, as if every layer learned at this rate. The network is not changed.

        Parameters
        ----------
        X, y : arrays
            One row, or a few; as in `evaluate_loss`. Where the network scales them, the text says how and contains the
            scaled numbers.
        lr : float, default 0.5
            Learning rate.

        Returns
        -------
        Explanation
            Its text is printed, too, except in notebooks, which show the value of a cell; its attributes hold the
            numbers.

        Raises
        ------
        ValueError, TypeError
            An argument does not fit.
        """
        from nnc._drawing.html import print_result
        from nnc._inspection.explain import explain_step

        converter = self.converter
        if self.model.loss_function is not None:
            raise ValueError(
                f"explain_step knows single losses that have a name, got the loss {self.model.loss_function}"
            )
        data, lr = converter.data(X, y), check_positive("lr", lr)
        explanation = explain_step(
            self, data.X, data.target, lr, scaling_X=converter.scaling_X, scaling_y=converter.scaling_y
        )
        print_result(explanation)
        return explanation
