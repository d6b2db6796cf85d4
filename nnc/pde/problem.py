"""`Problem`: a network that is trained on the residuals of differential equations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nnc import _serialization
from nnc._network import NeuralNetwork
from nnc._registry.capabilities import check
from nnc._training.arguments import FitArguments
from nnc._training.dataset import Dataset
from nnc._training.first_order import FirstOrder
from nnc._training.loop import TrainingLoop
from nnc._training.options import RESERVED
from nnc._training.plan import Plan
from nnc._training.preparation import with_options
from nnc._training.second_order import SecondOrder
from nnc._utils import disk
from nnc._utils.arrays import aligned_zeros, to_lists
from nnc._utils.checks import check_real, short_repr
from nnc.pde.objective import CoreTerms, EquationObjective, Equations, PointEvaluation, PointObserver
from nnc.pde.symbols import Points
from nnc.pde.terms import Residual, Setting, Term, Values, call, checked_dict, checked_points

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._registry.optimizers import Optimizer
    from nnc._training.arguments import Callback, Rate
    from nnc._training.history import History
    from nnc._training.minimizer import Minimizer

    Resampler = Callable[[int, Callable[[Any], NDArray[Any]]], Any]


def _checked_names(argument: str, names: Any, n: int) -> list[str]:
    """Return the names as a list; raise ValueError unless they are n different identifiers."""
    checked = list(names) if isinstance(names, Iterable) else []
    if isinstance(names, str) or len(checked) != n or len(set(checked)) != n:
        raise ValueError(f"{argument} must be {n} different names, got {short_repr(names)}")
    for name in checked:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{argument} must be names that are valid Python identifiers, got {name!r}")
    return checked


def _term_names(terms: Sequence[Residual]) -> list[str]:
    """Return the names of the terms, which are columns of the History."""
    names: list[str] = [term.name for term in terms if term.name is not None]
    for name in names:
        if name in RESERVED or names.count(name) > 1:
            raise ValueError(f"names of terms must be different, and none of {', '.join(RESERVED)}, got {name!r}")
    found: list[str] = []
    for term in terms:
        number, name = 1, term.name or ""
        while not name or (term.name is None and name in (*names, *found)):
            name = term.default_name if number == 1 else f"{term.default_name}_{number}"
            number += 1
        found.append(name)
    return found


class Problem:
    """Network whose loss is a weighted sum of mean squares of residuals.

    The loss is the sum over all terms of weight * mean(residual**2).

    Parameters
    ----------
    net : NeuralNetwork
        Network of dense and Scale layers, with activations that have second derivatives, such as "tanh" and "sin". It
        is trained in place. If `scale_X` is given, the points of all terms determine the scaling.
    terms : sequence of Residual and Values, or a single one
        Terms of the loss.
    inputs : sequence of str, optional
        Names of the inputs. Default: "x0", "x1", ...
    coefficients : dict of str to float, optional
        Unknown coefficients of the equations, with their initial values. They are trained with the network.
    transform : callable, optional
        Output transform for hard constraints: transform(p, N) returns the outputs u, given the outputs N of the network
        (a list if there are several). With p["x"] * (1 - p["x"]) * N, u is 0 for x = 0 and x = 1.

    Attributes
    ----------
    net : NeuralNetwork
        The network.
    terms : list of Term
        Terms with their names and points.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid, or a function cannot be traced.

    Examples
    --------
    >>> net = NeuralNetwork([2, 20, 20, 1], activation="tanh", loss="mse", seed=0)
    >>> heat = nnc.pde.Residual(lambda p, u, k: u.d("t") - k * u.d("x", "x"), points)
    >>> problem = nnc.pde.Problem(net, [heat, nnc.pde.Values(seen, y)], inputs=("x", "t"), coefficients={"k": 1.0})
    >>> problem.fit(50, optimizer="levenberg_marquardt")
    >>> problem.coefficients["k"]
    """

    def __init__(
        self,
        net: NeuralNetwork,
        terms: Residual | Sequence[Residual],
        inputs: Sequence[str] | None = None,
        coefficients: Mapping[str, float] | None = None,
        transform: Callable[..., Any] | None = None,
    ) -> None:
        if not isinstance(net, NeuralNetwork):
            raise TypeError(f"net must be a NeuralNetwork, got {type(net).__name__}")
        model = net.model
        check("nnc.pde.Problem", model)
        n_in = model.sizes[0]
        names = _checked_names("inputs", [f"x{i}" for i in range(n_in)] if inputs is None else inputs, n_in)
        named = checked_dict("coefficients", coefficients)
        values = {name: check_real(f"coefficients[{name!r}]", value) for name, value in named.items()}
        if not np.isfinite(list(values.values())).all():
            raise ValueError(f"coefficients must be finite, got {values}")
        _checked_names("coefficients", list(values), len(values))
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be a function (p, N) -> u, got {short_repr(transform)}")
        definitions = [terms] if isinstance(terms, Residual) else list(terms) if isinstance(terms, Iterable) else []
        if not definitions or not all(isinstance(term, Residual) for term in definitions):
            raise TypeError(f"terms must be a list of nnc.pde.Residual and nnc.pde.Values, got {short_repr(terms)}")
        converter = net.converter
        if converter.scaler_X is not None and converter.scaling_X is None:
            rows = np.concatenate([checked_points("points", term.points, n_in) for term in definitions])
            converter = converter.copy_for_fit()
            converter.fit_input_scaling(rows)
        if converter.scaler_y is not None and converter.scaling_y is None:
            raise ValueError(
                "scale_y of the network must be None or define the scaling, as nnc.Standardize(mean, std) does, got "
                f"{converter.scaler_y!r}"
            )
        scalings = [
            None if s is None else tuple(np.broadcast_to(part, n) for part in (s.shift, s.factor))
            for s, n in ((converter.scaling_X, n_in), (converter.scaling_y, model.sizes[-1]))
        ]
        self.setting = Setting(names, tuple(values), model.sizes[-1], transform, *scalings)  # type: ignore[arg-type]
        self.terms = [
            Term(term, name, self.setting, model.dtype, model.core.POINTS)
            for term, name in zip(definitions, _term_names(definitions), strict=True)
        ]
        self.net, net.converter = net, converter
        padded = -(-len(values) // model.core.LANES) * model.core.LANES
        self._padded = aligned_zeros(padded, model.dtype)
        # Current values of the coefficients, without padding.
        self.values = self._padded[: len(values)]
        self.values[:] = list(values.values())
        self.moments = np.zeros((0, padded), model.dtype)  # moments of the optimizer for the coefficients

    @property
    def coefficients(self) -> dict[str, float]:
        """Current values of the coefficients by name."""
        return dict(zip(self.setting.coefficients, self.values.tolist(), strict=True))

    @property
    def history(self) -> History | None:
        """History of all epochs since the optimizer started, as `NeuralNetwork.history`; None before the first fit."""
        return self.net.history

    def __repr__(self) -> str:
        names = ", ".join(term.name for term in self.terms)
        return f"<Problem: {self.net!r}, terms {names}, coefficients {self.coefficients}>"

    # ------------------------------------------------------------------------------------------ training

    def fit(
        self,
        epochs: int | None = None,
        *,
        optimizer: str | Optimizer | None = None,
        resample: Resampler | Mapping[str, Resampler] | None = None,
        validation: ArrayLike | Mapping[str, ArrayLike] | None = None,
        weight_decay: Rate | None = None,
        clip_norm: float | None = None,
        max_norm: float | None = None,
        lr: Rate | None = None,
        reset_optimizer: bool = False,
        target_loss: float | None = None,
        max_seconds: float | None = None,
        callback: Callback | Sequence[Callback] | None = None,
        progress: bool = False,
        verbose: int = 0,
        n_threads: int | None = None,
    ) -> History:
        """Train the network and the coefficients on all points. An epoch is one step, or one iteration.

        Another call continues the training.

        Parameters
        ----------
        epochs : int, optional
            Number of steps or iterations.
        optimizer : str or Optimizer, optional
            For example "adam", "lbfgs" or "levenberg_marquardt". Default: the current optimizer, or "adam" before the
            first fit.
        resample : callable or dict of str to callable, optional
            resample(epoch, residual) returns new points for the Residual term, or None to keep the points;
            residual(points) returns the absolute residual at any points. `resample` is called after each epoch. If it
            has an attribute `every`, it is called only after epochs that are multiples of this number. With several
            Residual terms, pass a dict by the names of terms. `nnc.pde.by_residual` creates such a function.
        validation : array (n, n_in) or dict of str to array, optional
            Points at which the Residual term is evaluated after each epoch, for the column "val_loss".
        weight_decay, clip_norm, max_norm
            As in `NeuralNetwork.fit`. `clip_norm` limits the norm of the gradient with respect to parameters and
            coefficients. The others do not apply to coefficients. Only for optimizers with a learning rate.
        lr, reset_optimizer, target_loss, max_seconds, callback, progress, verbose, n_threads
            As in `NeuralNetwork.fit`.

        Returns
        -------
        History
            Its columns are "loss", the mean squares of each term by its name, "lr", and "val_loss" with `validation`.

        Raises
        ------
        ValueError, TypeError
            An argument is invalid.
        DivergedError
            The loss or a parameter is no longer finite.
        """
        net = self.net
        if optimizer is None and (net.state is None or reset_optimizer):
            optimizer = "adam"
        arguments = FitArguments(
            epochs=epochs,
            optimizer=optimizer,
            lr=lr,
            reset_optimizer=reset_optimizer,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            max_norm=max_norm,
            target_loss=target_loss,
            max_seconds=max_seconds,
            callback=callback,
            progress=progress,
            verbose=verbose,
            n_threads=n_threads,
        )
        resamplers = self._by_term("resample", resample)
        for function in resamplers.values():
            if not callable(function):
                raise TypeError(f"resample must be a function (epoch, residual) -> points, got {short_repr(function)}")
        points = self._by_term("validation", validation)
        with net.model.training_lock:
            plan = with_options(Plan.of(net, arguments)._replace(network=self))
            state = plan.state
            moments = self.moments
            if state.epoch == 0 or len(moments) != len(state.moments):
                moments = np.zeros((len(state.moments), len(self._padded)), net.model.dtype)
                if state.optimizer.stores_step_sizes:
                    moments[-1] = state.rates(0, 1)[0]
            run = self._loop(plan, moments, resamplers, points)
            with net.model.snapshot_lock:
                net.state, net.streams, self.moments = state, state.streams, moments
            return run.run()

    def _loop(
        self,
        plan: Plan,
        moments: NDArray[Any],
        resample: Mapping[str, Resampler],
        validation: Mapping[str, ArrayLike],
    ) -> TrainingLoop:
        """Return the training loop of `fit`; `moments` are those of the coefficients."""
        model, state = plan.model, plan.state
        objective = EquationObjective(self._equations(self.terms), moments)
        options = plan.options._replace(batch_size=objective.n)
        minimizer: Minimizer
        if state.optimizer.first_order:
            minimizer = FirstOrder(model, None, options, state, objective=objective)
        else:
            minimizer = SecondOrder(model, objective, options, state)
        observer = PointObserver(objective, resample, self.magnitude, state.epoch)
        points = [self.term(name).at(X) for name, X in validation.items()]
        evaluation = PointEvaluation(CoreTerms(self._equations(points))) if points else None
        dataset = Dataset(plan.converter, None)
        return TrainingLoop(model, dataset, options, state, minimizer, (observer,), evaluation=evaluation)

    def _equations(self, terms: Sequence[Term]) -> Equations:
        """Return terms with the network and the coefficients of the problem."""
        return Equations(self.net.model, self.setting, terms, self._padded)

    def _by_term(self, name: str, argument: Any) -> dict[str, Any]:
        """Return an argument of `fit` as a dict by the names of terms; one value belongs to the only Residual term."""
        if argument is None:
            return {}
        names = [term.name for term in self.terms if not isinstance(term.definition, Values)]
        if not isinstance(argument, dict):
            if len(names) != 1:
                raise ValueError(f"{name} must be a dict by the names of terms ({', '.join(names)}), got one value")
            return {names[0]: argument}
        for key in argument:
            if key not in names:
                raise ValueError(
                    f"{name} must have the names of Residual terms ({', '.join(names)}) as keys, got {key!r}"
                )
        return dict(argument)

    def term(self, name: str | None = None) -> Term:
        """Return the term with this name; default: the only Residual term."""
        if name is None:
            name = next(iter(self._by_term("name", True)))
        for term in self.terms:
            if term.name == name:
                return term
        raise ValueError(f"name must be one of {', '.join(term.name for term in self.terms)}, got {name!r}")

    # ------------------------------------------------------------------------------------------ results

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the outputs u (n, n_out) for points X (n, n_in), after the output transform."""
        if self.setting.transform is None:
            return self.net.predict(X)
        points = checked_points("X", X, len(self.setting.inputs))
        P = self.net.predict(points)
        named = Points(self.setting.inputs, dict(zip(self.setting.inputs, points.T, strict=True)))
        u = call(self.setting.transform, "transform", named, list(P.T), self.coefficients)
        columns = u if isinstance(u, (tuple, list)) else [u]
        return np.stack([np.broadcast_to(column, len(points)) for column in columns], 1).astype(P.dtype)

    def residual(self, X: ArrayLike, name: str | None = None) -> NDArray[Any]:
        """Return the residual of a term at any points.

        Parameters
        ----------
        X : array (n, n_in)
            Points.
        name : str, optional
            Name of the term. Default: the only Residual term.

        Returns
        -------
        array (n,), or (n, m) for a term with m residuals
        """
        term = self.term(name).at(X)
        core = CoreTerms(self._equations([term]))
        core.refresh()
        r = term.from_blocks(core.residuals(0), len(term.program.results))
        return r[0].copy() if len(r) == 1 else r.T.copy()

    def magnitude(self, points: ArrayLike, name: str) -> NDArray[np.float64]:
        """Return the absolute residual of a term at points, or the Euclidean norm of several residuals."""
        r = self.residual(points, name).astype(np.float64)
        return np.abs(r) if r.ndim == 1 else np.sqrt((r * r).sum(1))

    # ------------------------------------------------------------------------------------------ files

    def save(self, path: Any, checkpoint: bool = False) -> None:
        """Save the network and the coefficients to a JSON file.

        The file is a model file of the network with the additional member "problem". `nnc.load` returns only the
        network.

        Parameters
        ----------
        path : str, os.PathLike or text file
            As in `NeuralNetwork.save`.
        checkpoint : bool, default False
            Whether the file also contains the training state and the points that `resample` has chosen, from which the
            training continues exactly.

        Raises
        ------
        OSError, ModelFileError
            As in `NeuralNetwork.save`.
        """
        with self.net.model.snapshot_lock:
            document = self.net._document(checkpoint)
            document["problem"] = {
                "coefficients": self.coefficients,
                "moments": self.moments[:, : len(self.values)].tolist() if checkpoint else [],
                "points": {t.name: to_lists(t.points) for t in self.terms if t.is_resampled} if checkpoint else {},
            }
        _serialization.write(path, document)

    @classmethod
    def load(
        cls,
        path: Any,
        terms: Residual | Sequence[Residual],
        inputs: Sequence[str] | None = None,
        transform: Callable[..., Any] | None = None,
    ) -> Self:
        """Load a problem from a file that `save` has written.

        Parameters
        ----------
        path : str, os.PathLike or text file
            As in `NeuralNetwork.load`.
        terms, inputs, transform
            As in the constructor; files do not contain functions.

        Returns
        -------
        Problem

        Raises
        ------
        OSError, ModelFileError
            As in `NeuralNetwork.load`, or the file does not contain a problem.
        ValueError, TypeError
            `terms`, `inputs` or `transform` is invalid, or does not fit the file.
        """
        document, where = _serialization.read(path), disk.describe_source(path)
        net, stored = NeuralNetwork._from_document(document, where, None), document.get("problem")
        if stored is None:
            raise _serialization.ModelFileError(f"{where} contains a network without equations; load it with nnc.load")
        with _serialization.build_errors(where):
            check("nnc.pde.Problem", net.model)
            _checked_names("coefficients", stored["coefficients"], len(stored["coefficients"]))
        problem = cls(net, terms, inputs, stored["coefficients"], transform)
        problem.moments = np.zeros((len(stored["moments"]), len(problem._padded)), net.model.dtype)
        for row, numbers in zip(problem.moments, stored["moments"], strict=True):
            row[: len(problem.values)] = numbers
        names = [term.name for term in problem.terms]
        for name, points in stored["points"].items():
            if name not in names:
                raise ValueError(
                    f"terms must contain a term with the name {name!r}, whose points are in {where}, got the names "
                    f"{', '.join(names)}; pass the terms of the saved problem"
                )
            problem.term(name).replace_points(points)
        return problem
