"""Conversion of the forward pass of PyTorch modules to a list of steps.

A step is a supported module of PyTorch or a `Selection`, which is a function in a forward method. An nn.Sequential is
expanded. A module whose class is not from PyTorch is traced by torch.fx: its forward method runs with symbolic values,
so the trace contains each module and function that it calls. The forward method may call supported modules one after
the other, and the functions in `FUNCTIONS`. All other functions raise an error, as does a branch that depends on data.
"""

from __future__ import annotations

import builtins
import operator
from contextlib import suppress
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from nnc._interop.parts import LAYER_ERRORS, check_methods

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Steps = tuple[tuple[str, Any], ...]  # label and module or Selection of each step

RECURRENT = (nn.RNN, nn.GRU, nn.LSTM)
# Functions in forward methods that are modules of PyTorch: name of the function, and the class of the module.
ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
FUNCTIONS = (*ACTIVATIONS, "cat", "flatten", "flip", "getitem", "permute", "squeeze", "transpose")
# Functions whose results may only be the initial states of a recurrent module, or their sizes, dtypes and devices.
STATE_FUNCTIONS = ("getattr", "new_zeros", "size", "to", "zeros")
# Name of each function in a trace, which is a function or the name of a method.
NAMES: dict[Any, str] = {name: name for name in (*FUNCTIONS, *STATE_FUNCTIONS)}
NAMES |= {
    getattr(owner, name): name for owner in (torch, F, operator, builtins) for name in [*NAMES] if hasattr(owner, name)
}
# In-place activations; `_replace_changed_tensors` has already replaced later uses of their input by their result.
NAMES |= {target: name for name in ACTIVATIONS for target in (f"{name}_", getattr(torch, f"{name}_"))}
# Functions and modules whose result never shares memory with their input, and modules that may return their input.
COPYING_FUNCTIONS = (*ACTIVATIONS, "cat", "flip", "new_zeros", "zeros")
SHARING_MODULES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d)
IN_PLACE_OPERATORS = {
    f"__{name}__": getattr(operator, name) for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow")
}


class Selection(NamedTuple):
    """Step that selects or reorders elements of a tensor.

    Attributes
    ----------
    kind : {"all", "states", "last", "flip", "permute"}
        "all": outputs of a recurrent module at all steps. "states": its states after the last step, those of both
        directions side by side. "last": last element along an axis. "flip": reversal of an axis. "permute": permutation
        of axes.
    axes : tuple of int
        Axis of "last" and "flip", or permutation of axes.
    """

    kind: str
    axes: tuple[int, ...] = ()


class Value(NamedTuple):
    """Symbolic value in a forward pass.

    Attributes
    ----------
    steps : tuple of (str, module or Selection)
        Steps that compute the value from the input, with their labels.
    kind : {"rows", "result", "cells", "states", "state", "zeros", "other"}
        "rows": a tensor that modules process. "result": outputs and states of a recurrent module. "cells": states and
        cell states of an LSTM. "states": states of all layers and directions. "state": state of one layer and one
        direction. "zeros": a tensor of zeros. "other": sizes, dtypes and devices.
    position : int
        Index of a "state", counted from the last one, which is -1.
    """

    steps: Steps = ()
    kind: str = "rows"
    position: int = 0

    def __repr__(self) -> str:
        """Return a description of the value for error messages."""
        return {
            "rows": "a tensor",
            "result": "the result of a recurrent module, a tuple",
            "cells": "the states and cell states of an LSTM",
            "states": "the states of all layers and directions",
            "state": "the states of one direction",
            "zeros": "zeros",
            "other": "an attribute, or the result of size() or to()",
        }[self.kind]

    def add(self, label: str, step: Any) -> Value:
        """Return the tensor that `step` computes from this value."""
        return Value((*self.steps, (label, step)))


class Proxy(fx.Proxy):
    """Proxy that records `a += b` as a change of `a`; an fx.Proxy records a new tensor, which other names lack."""


def _record_operator(function: Any) -> Any:
    """Return a method of a Proxy that records an in-place operator."""
    return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})


for method_name, in_place_operator in IN_PLACE_OPERATORS.items():
    setattr(Proxy, method_name, _record_operator(in_place_operator))


class Tracer(fx.Tracer):
    """Tracer that enters only modules whose classes are not from PyTorch, and nn.Sequential."""

    def proxy(self, node: Any) -> Proxy:
        """Return the symbolic value of a node."""
        return Proxy(node, self)

    def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
        """Return whether the trace contains a call of the module instead of the calls in its forward method."""
        return type(m) is not nn.Sequential and not is_custom(m)


def is_custom(module: Any) -> bool:
    """Return whether a module is traced: its class is not from PyTorch, and no subclass of a module of PyTorch."""
    bases = [base for base in type(module).__mro__ if base.__module__.partition(".")[0] == "torch"]
    return bases == [nn.Module]


def label_of(name: str, module: Any) -> str:
    """Return the name and the type of a module as text for messages."""
    return f"module {name} ({type(module).__name__})" if name else "module"


class Forward:
    """Reader of forward passes.

    Parameters
    ----------
    supported : sequence of type
        Classes of modules that may be steps.
    """

    def __init__(self, supported: Sequence[type]) -> None:
        self.supported = supported

    def steps(self, module: Any) -> list[tuple[str, Any]]:
        """Return the label and the module or Selection of each step from the input of a module to its output."""
        value = self.apply(module, Value(), "")
        if value.kind != "rows":
            raise ValueError(f"module must return a tensor, got {value!r}")
        return [*value.steps]

    def apply(self, module: Any, value: Value, name: str) -> Value:
        """Return the result of a module for an input value; `name` is its path in the outermost module."""
        label = label_of(name, module)
        self.check(module, label)
        if type(module) is nn.Sequential:
            # Do not use `named_children`, which omits the second occurrence of a module.
            for key, part in module._modules.items():
                value = self.apply(part, value, f"{name}.{key}" if name else key)
            return value
        if is_custom(module) and type(module) not in self.supported:
            return self.trace(module, value, name)
        if value.kind != "rows":
            raise ValueError(
                f"{label} must have a tensor as input, got {value!r}; a module before it may select a tensor, "
                "such as the outputs after the last step, result[0][:, -1]"
            )
        value = value.add(label, module)
        return value._replace(kind="result") if type(module) in RECURRENT else value

    def check(self, module: Any, label: str) -> None:
        """Raise ValueError if the type of a module is not supported, or the module has hooks or replaced methods."""
        if type(module) not in self.supported and not is_custom(module):
            base = next((base_class for base_class in type(module).__mro__ if base_class in self.supported), None)
            if base is None:
                names = ", ".join(supported.__name__ for supported in self.supported)
                raise ValueError(f"{label} must have a supported type, one of {names}, got {type(module).__name__}")
            if parametrize.is_parametrized(module):
                raise ValueError(
                    f"{label} must not be parametrized; call torch.nn.utils.parametrize.remove_parametrizations first"
                )
            raise ValueError(
                f"{label} must be a {base.__name__}, got a subclass, which may compute something else; "
                f"if the subclass computes the same, replace it by a {base.__name__} with its parameters"
            )
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(
                f"{label} must have no forward hooks, which may change what it computes; remove them first "
                "(weight_norm, spectral_norm and pruning add some)"
            )
        check_methods(module, label)

    def trace(self, module: Any, value: Value, name: str) -> Value:
        """Return the result of a module whose forward method is traced, for an input value."""
        label, prefix = label_of(name, module), f"{name}." if name else ""
        for key, part in module.named_modules():
            if is_custom(part) or type(part) is nn.Sequential:
                self.check(part, label_of(prefix + key, part) if key else label)
        parameters = signature(type(module).forward).parameters.values()
        defaults = {part.name: part.default for part in parameters if part.default is not part.empty}
        attributes = {*vars(module)}
        try:
            graph = Tracer().trace(module, concrete_args=defaults)
        except (*LAYER_ERRORS, fx.proxy.TraceError) as error:
            problem = f"{label} must have a forward method that torch.fx can trace, got the error: {error}"
            raise ValueError(problem) from None
        finally:
            for name_of_constant in vars(module).keys() - attributes:  # torch.fx stores constants in the module
                delattr(module, name_of_constant)
        _replace_changed_tensors(graph, module, label)
        values: dict[Any, Any] = {}
        for node in _needed_nodes(graph):
            positional, keywords = fx.map_arg((node.args, node.kwargs), values.__getitem__)
            if "end_dim" in keywords and len(positional) == 1:
                keywords = {"start_dim": 0, **keywords}  # the default of torch.flatten is start_dim=0
            inputs = [*positional, *keywords.values()]
            if node.op == "placeholder":
                if values:
                    raise ValueError(f"{label} must have a forward method with one argument, got {node.target!r}")
                values[node] = value
            elif node.op == "output":
                values[node] = self.require_value(inputs[0], f"the result of {label}")
            elif node.op == "call_module":
                values[node] = self.call_module(module, node, inputs, prefix)
            elif node.op == "get_attr":
                raise ValueError(
                    f"the forward method of {label} must use no tensors except its argument, got {node.target}, which "
                    "is a parameter, a buffer or a tensor of a fixed shape; omit initial states of zeros, or create "
                    "them for each number of rows n: torch.zeros(layers, n, units) with n = x.size(0)"
                )
            else:
                values[node] = self.call(node, inputs, f"{node.name} in the forward method of {label}")
        result: Value = values[node]
        return result

    def require_value(self, value: Any, name: str) -> Value:
        """Return a value that depends on the input; raise ValueError for another object, such as a tuple."""
        if not isinstance(value, Value) or value.kind in ("zeros", "other"):
            raise ValueError(f"{name} must be a tensor or the result of a module, got {value!r}")
        return value

    def call_module(self, module: Any, node: Any, inputs: list[Any], prefix: str) -> Value:
        """Return the result of a module that a traced forward method calls."""
        part, name = module.get_submodule(node.target), prefix + node.target
        value, *others = inputs
        are_zero = all(state is None or getattr(state, "kind", "") == "zeros" for state in _leaves(others))
        if others and not (type(part) in RECURRENT and are_zero):
            raise ValueError(
                f"{label_of(name, part)} must have one argument, or zeros as initial states of a recurrent module, got "
                f"{len(inputs)} arguments"
            )
        return self.apply(part, self.require_value(value, f"the input of {label_of(name, part)}"), name)

    def call(self, node: Any, inputs: list[Any], label: str) -> Value:
        """Return the result of a function or method that a traced forward method calls."""
        function = NAMES.get(node.target) if node.op in ("call_function", "call_method") else None
        first, *others = inputs or [None]
        result = None
        if function in STATE_FUNCTIONS or (
            isinstance(first, Value) and first.kind == "other" and function == "getitem"
        ):
            is_zeros = function in ("zeros", "new_zeros") or (function == "to" and first.kind == "zeros")
            result = Value(kind="zeros" if is_zeros else "other")
        elif function == "cat":
            result = _concatenated_states(first, others, label)
        elif function is not None and isinstance(first, Value) and first.kind in SELECTIONS:
            result = SELECTIONS[first.kind](first, function, others, label)
        if result is None:
            name = function or getattr(node.target, "__name__", node.target)
            raise ValueError(
                f"{label} must be a supported function, one of {', '.join(FUNCTIONS)}, with supported arguments, got "
                f"{name} of {first!r} with {others}"
            )
        return result


def _replace_changed_tensors(graph: Any, module: Any, label: str) -> None:
    """Replace each use of a tensor after an in-place change by the result of this change.

    The trace then computes the same without in-place changes, also if a forward method ignores their results.

    Raises
    ------
    ValueError
        A tensor that shares memory with the changed tensor is used later, or a parameter is changed.
    """
    positions = {node: i for i, node in enumerate(graph.nodes)}
    memory: dict[Any, set[Any]] = {}  # nodes that may share memory with each node
    for node in graph.nodes:
        changed = _changed_node(node, module)
        copies = changed is None and _copies(node, module)
        memory[node] = {node}.union(*(memory[other] for other in node.all_input_nodes if not copies))
        for other in memory[node]:
            memory[other] = memory[node]
        if changed is None:
            continue
        later = [user for user in graph.nodes if positions[user] > positions[node]]
        for other in memory[changed] - {node}:
            is_used = other is not changed and not other.users.keys().isdisjoint(later)
            if is_used or other.op == "get_attr":
                raise ValueError(
                    f"{node.name} in the forward method of {label} must not change a tensor in place that shares "
                    f"memory with a parameter or with a tensor that is used later, got {other.name}; use a function "
                    "that returns a new tensor"
                )
        changed.replace_all_uses_with(node, later.__contains__)


def _changed_node(node: Any, module: Any) -> Any:
    """Return the node whose tensor a node of a trace changes in place, or None."""
    arguments = dict(node.kwargs)
    name = ""
    if node.op == "call_module":
        arguments["inplace"] = getattr(module.get_submodule(node.target), "inplace", False)
    elif node.op in ("call_function", "call_method"):
        name = getattr(node.target, "__name__", node.target)
        with suppress(TypeError, ValueError):  # functions in C have no signature, and no argument `inplace`
            arguments |= signature(node.target).bind(*node.args, **node.kwargs).arguments
    if isinstance(arguments.get("out"), fx.Node):
        return arguments["out"]
    is_method = name.endswith("_") and not name.endswith("__")
    in_place = is_method or arguments.get("inplace") or node.target in IN_PLACE_OPERATORS.values()
    return next(iter(node.all_input_nodes), None) if in_place else None


def _copies(node: Any, module: Any) -> bool:
    """Return whether the result of a node of a trace shares memory with none of its inputs."""
    if node.op == "call_module":
        return not isinstance(module.get_submodule(node.target), SHARING_MODULES)
    return NAMES.get(node.target) in COPYING_FUNCTIONS


def _needed_nodes(graph: Any) -> list[Any]:
    """Return the nodes of a trace on which its output depends, in the order of execution."""
    needed = {node for node in graph.nodes if node.op == "output"}
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed]


def _leaves(arguments: Any) -> Iterator[Any]:
    """Yield the elements of nested tuples and lists; a Value is one element."""
    for argument in arguments:
        is_nested = isinstance(argument, (tuple, list)) and not isinstance(argument, Value)
        yield from _leaves(argument) if is_nested else [argument]


def _recurrent_module(value: Value) -> Any:
    """Return the recurrent module that computes the states in `value`."""
    return value.steps[-1][1]


def _select_rows(value: Value, function: str, arguments: list[Any], label: str) -> Value | None:
    """Return the value after one more function, such as an activation or a selection; None if it is not supported."""
    if function in ACTIVATIONS and all(isinstance(argument, bool) for argument in arguments):  # inplace=True or False
        return value.add(label, ACTIVATIONS[function]())
    if function == "getitem":
        index = arguments[0] if isinstance(arguments[0], tuple) else (arguments[0],)
        axis = index.index(-1) if -1 in index else 2
        supported = axis < 2 and all(other == slice(None) for other in index[:axis] + index[axis + 1 :])
        return value.add(label, Selection("last", (axis,))) if supported else None
    axes = tuple(_leaves(arguments))
    if not all(type(axis) is int for axis in axes):
        return None
    if function == "flatten" and axes in ((1,), (1, -1)):
        return value.add(label, nn.Flatten())
    if function == "flip" and len(axes) == 1:
        return value.add(label, Selection("flip", (axes[0] % 3,)))
    if function == "transpose" and sorted(axis % 3 for axis in axes) in ([0, 1], [0, 2], [1, 2]):
        permutation = [0, 1, 2]
        a, b = axes
        permutation[a], permutation[b] = permutation[b], permutation[a]
        return value.add(label, Selection("permute", tuple(permutation)))
    if function == "permute" and sorted(axis % 3 for axis in axes) == [0, 1, 2]:
        return value.add(label, Selection("permute", tuple(axis % 3 for axis in axes)))
    return None


def _select_result(value: Value, function: str, arguments: list[Any], label: str) -> Value | None:
    """Return element 0, 1 or -1 of the result of a recurrent module; None if `function` is not "getitem"."""
    if function == "getitem" and arguments == [0]:
        return value.add(label, Selection("all"))
    if function == "getitem" and arguments in ([1], [-1]):
        return value._replace(kind="cells" if type(_recurrent_module(value)) is nn.LSTM else "states")
    return None


def _select_cells(value: Value, function: str, arguments: list[Any], label: str) -> Value | None:
    """Return the states h, which are element 0 of the pair (h, c) of an LSTM; None for other operations."""
    return value._replace(kind="states") if function == "getitem" and arguments == [0] else None


def _select_states(value: Value, function: str, arguments: list[Any], label: str) -> Value | None:
    """Return the state of one layer and direction, or None for another function or index."""
    module = _recurrent_module(value)
    n, index = module.num_layers * (1 + module.bidirectional), arguments[0] if arguments else None
    if isinstance(index, tuple) and all(part == slice(None) for part in index[1:]):
        index = index[0]
    if function == "squeeze" and n == 1 and index == 0:
        return value.add(label, Selection("states"))
    if function != "getitem" or not isinstance(index, int) or not -n <= index < n:
        return None
    index = index % n - n
    if not module.bidirectional and index == -1:
        return value.add(label, Selection("states"))
    return value._replace(kind="state", position=index) if module.bidirectional else None


def _concatenated_states(values: Any, arguments: list[Any], label: str) -> Value | None:
    """Return the states of both directions, or None if `values` are other tensors."""
    are_states = all(isinstance(value, Value) and value.kind == "state" for value in values)
    if not are_states or arguments not in ([1], [-1]) or [value.position for value in values] != [-2, -1]:
        return None
    same = values[0].steps == values[1].steps
    return values[0].add(label, Selection("states")) if same else None


SELECTIONS = {
    "rows": _select_rows,
    "result": _select_result,
    "cells": _select_cells,
    "states": _select_states,
}
