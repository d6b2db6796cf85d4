"""Methods of a network that describe it as text and as drawings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc._data.sequences import Sequences
from nnc._network.prediction import Prediction
from nnc._registry import losses
from nnc._utils.checks import check_positive

if TYPE_CHECKING:
    from typing import IO

    from numpy.typing import ArrayLike

    from nnc._data.converter import DataConverter
    from nnc._drawing.svg import Drawing
    from nnc._inspection.explain import Explanation


class Inspection(Prediction):
    """Summary, drawing and explanation methods."""

    def __repr__(self) -> str:
        model, converter = self.model, self.converter
        arguments = model.stack.constructor_arguments()
        layers, bias = arguments.pop("layers"), arguments.pop("bias", None)
        if converter.has_automatic_loss:
            del arguments["output"]  # with loss="auto", the constructor rejects the argument `output`
        has_default_parameter = self.loss_parameter == losses.ROWS[model.loss].default_parameter
        loss = self.loss_name if has_default_parameter else losses.loss_object(model.loss, model.loss_parameter)
        arguments["loss"] = model.loss_function or loss
        arguments |= {} if bias is None else {"bias": bias}
        arguments |= {"dtype": model.dtype.name, "seed": self.seed}
        scalers = {"scale_X": converter.scaler_X, "scale_y": converter.scaler_y}
        arguments |= {name: scaler for name, scaler in scalers.items() if scaler is not None}
        return f"NeuralNetwork({layers!r}, {', '.join(f'{name}={value!r}' for name, value in arguments.items())})"

    def summary(self) -> str:
        """Describe the network as a table of its layers.

        The table has shapes, activations and numbers of parameters, and for images also multiplications per row. Below
        it are the loss, the scalings, the settings of the last fit, and small curves of the training.

        Returns
        -------
        str
            An interactive prompt shows it as printed text, a notebook as HTML in a fixed-width font.
        """
        from nnc._drawing.html import Text
        from nnc._inspection.text import summary_text

        return Text("\n".join([f"{summary_text(self.model.stack)}, {self._loss_and_scalings()}", *self._curves()]))

    def _loss_and_scalings(self) -> str:
        """Return the dtype, the loss and the scalings as text for the summary of the network."""
        scaled = "".join(f", {what} scaled ({how})" for what, how in describe_scalings(self.converter).items())
        loss = self.model.loss_function or self.loss_name
        return f"{self.dtype.name}, loss {loss}{scaled}"

    def _curves(self) -> list[str]:
        """Return the lines of a summary about the training: number of epochs, settings and curves."""
        from nnc._training.history import settings_lines

        history = self.history
        if history is None or not history.epochs:
            return settings_lines(self._fit_settings)
        trained = f"trained for {history.untracked_epochs + history.epochs:,} epochs"
        return [trained, *settings_lines(history.settings), *history.curves()]

    def draw(self, row: ArrayLike | None = None, *, neurons: int = 10) -> Drawing:
        """Draw the network as SVG, without other packages.

        Neurons are circles. Weights are lines; the color shows the sign, and the thickness the absolute value. Images
        are stacks of channels. Notebooks show the drawing; `net.draw().save("net.svg")` and `to_svg` write a file.

        Parameters
        ----------
        row : array (n_in,), optional
            One row of inputs, for which the drawing also shows the outputs of all layers.
        neurons : int, default 10
            Largest number of neurons shown per layer, at least 2. Only the first and the last neurons of a larger layer
            are shown.

        Returns
        -------
        Drawing
            `str()` returns the SVG text.

        Raises
        ------
        ValueError, TypeError
            An argument is invalid.
        """
        from nnc._drawing.network import draw

        return draw(self, row, neurons)

    def to_svg(self, path: Any = None, row: ArrayLike | None = None, *, neurons: int = 10) -> str:
        """Return the drawing of `draw` as SVG text with colors for light and dark pages.

        Parameters
        ----------
        path : str, os.PathLike or text file, optional
            File to write, atomically as by `save`.
        row, neurons
            As in `draw`.

        Returns
        -------
        str
            The SVG text.

        Raises
        ------
        ValueError, TypeError
            An argument is invalid.
        OSError
            The file cannot be written; the message names the cause and a remedy.
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
        """Print all layers, neurons, weights, biases and scalings.

        Parameters
        ----------
        file : text file, optional
            Default: the standard output.
        """
        from nnc._inspection.text import network_text, scaling_text

        converter = self.converter
        lines = {what: [f"Scaled: {how}"] for what, how in describe_scalings(converter).items()}
        if converter.scaling_X is not None:
            lines["inputs"] += scaling_text("Input", converter.scaling_X)
        if converter.scaling_y is not None:
            lines["targets"] += scaling_text("Output", converter.scaling_y)
        inputs, targets = lines.get("inputs", ()), lines.get("targets", ())
        print(network_text(self.model.stack, self.model.lists(), inputs, targets), file=file)

    def explain_step(self, X: ArrayLike, y: Any, lr: float = 0.5, *, lengths: ArrayLike | None = None) -> Explanation:
        """Print and return one step of gradient descent with all intermediate results.

        The text contains the formula and the value of each number in the forward pass, the loss, the backward pass and
        the update. All layers learn, with the same learning rate. The network does not change.

        Parameters
        ----------
        X, y : arrays
            One row, or a few rows, as in `evaluate_loss`. If the network scales them, the text contains the scaling and
            the scaled numbers.
        lr : float, default 0.5
            Learning rate.
        lengths : int array (n,), optional
            Number of steps of each sequence, as in `evaluate_loss`. All sequences must have the same number of steps.

        Returns
        -------
        Explanation
            The numbers as attributes, and the text. The text is also printed, except in notebooks, which show the value
            of a cell.

        Raises
        ------
        ValueError, TypeError
            An argument is invalid, the loss is a function or has heads, or the network has a BatchNorm, or a recurrent
            layer for sequences of more than 12 steps.
        """
        from nnc._drawing.html import print_result
        from nnc._inspection.explain import explain_step
        from nnc._registry.capabilities import check

        check("explain_step", self.model)
        converter, X = self.converter.bind(X, lengths, trims=True)
        if isinstance(X, Sequences):
            X, y, steps = X.equal_lengths("explain_step", y, converter.model.stack.output_shape)
            converter = converter.at(steps)
        data, lr = converter.data(X, y), check_positive("lr", lr)
        network: Any = self  # NeuralNetwork, which has a method `copy`, too
        explanation = explain_step(
            network._bound_copy(converter),
            data.X,
            data.target,
            lr,
            scaling_X=converter.scaling_X,
            scaling_y=converter.scaling_y,
        )
        print_result(explanation)
        return explanation


def describe_scalings(converter: DataConverter) -> dict[str, str]:
    """Return a dict of scaling names for display; the keys are "inputs" and "targets", if they are scaled."""
    pairs = {"inputs": (converter.scaler_X, converter.scaling_X), "targets": (converter.scaler_y, converter.scaling_y)}
    return {
        data: scaler.name if scaling is not None else f"{scaler.name}, not computed yet"
        for data, (scaler, scaling) in pairs.items()
        if scaler is not None
    }
