"""Tests of the structure of nnc/: sizes of classes and functions, types in nnc/_training, calls from `fit`."""

import ast
import io
import re
import tokenize
from bisect import bisect_left, bisect_right
from collections import deque
from functools import cache
from pathlib import Path

import pytest
from syntax import parsed, statements

HOME = Path(__file__).parent.parent
MAX_METHODS = 40  # largest number of methods in a class statement
MAX_CLASS_LINES = 300  # largest number of lines of code in a class, without docstrings
MAX_FUNCTION_LINES = 70  # largest number of lines of code in a function, without docstrings
MAX_UNTYPED = 19  # largest number of parameters without a type in nnc/_training
MAX_PATCHES = 40  # largest number of calls of `monkeypatch.setattr` in tests/, each with its reason in a comment
MAX_CALLS = 4  # largest depth of calls from NeuralNetwork.fit to the training loop
MAX_CORE_CALLS = 8  # largest depth of calls from NeuralNetwork.fit to a slice of the core
MAX_WHOLE_SIZE = 60, 500  # largest numbers of methods and of lines of code in a class with its bases in the package
MAX_NETWORK_SIZE = 75, 750  # the same for NeuralNetwork, whose methods are the public functions of a network
MAX_ATTRIBUTES = 25  # largest number of attributes of a class in COUNTED_MODULES, with those of its bases
COUNTED_MODULES = (
    *("nnc._training.loop", "nnc._training.minimizer", "nnc._training.first_order", "nnc._training.second_order"),
    *("nnc._training.sources", "nnc._training.custom", "nnc._training.stopping", "nnc._training.evaluation"),
    *("nnc._training.dataset", "nnc._training.records", "nnc._model.data", "nnc.sklearn.runs", "nnc.pde.objective"),
)
FINAL_CLASSES = {"TrainingLoop", "FirstOrder", "SecondOrder"}  # composed of parts, not extended
CONTAINERS = {
    *("dict", "list", "tuple", "set", "frozenset", "deque", "type"),
    *("Mapping", "Sequence", "Iterable", "Iterator", "Callable", "Collection"),
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

pytestmark = pytest.mark.skipif(not (HOME / "src").is_dir(), reason="needs the checkout")


def name_of(path):
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {name_of(path): path for path in sorted((HOME / "nnc").rglob("*.py"))}
SOURCES = {module: path.read_text(encoding="utf-8") for module, path in PATHS.items()}


def tree(module):
    """Return the syntax tree of a module; a tree without statements if it is not in nnc/."""
    return parsed(PATHS[module]) if module in PATHS else ast.Module([], [])


@cache
def nodes(module):
    """Return all statements of a module."""
    return [*statements(tree(module))]


def docstring_lines(module):
    """Yield the line numbers of the docstrings of all classes and functions of a module."""
    for part in nodes(module):
        if isinstance(part, (ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(part, clean=False) is not None:
            yield from range(part.body[0].lineno, part.body[0].end_lineno + 1)


@cache
def code_line_numbers(module):
    """Return the numbers of all lines of a module except blank lines, comments and docstrings, in increasing order."""
    skipped = set(docstring_lines(module))
    lines = enumerate(SOURCES[module].splitlines(), 1)
    return [i for i, line in lines if line.strip() and not line.strip().startswith("#") and i not in skipped]


def code_lines(node, module):
    """Return the number of lines of a class or function, without blank lines, comments and docstrings."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    numbers = code_line_numbers(module)
    return bisect_right(numbers, node.end_lineno) - bisect_left(numbers, first)


def lists_only_parameters(function):
    """Return whether a function is a constructor that only stores its parameters."""
    stored = all(
        isinstance(part, ast.Assign)
        and isinstance(part.targets[0], ast.Attribute)
        and isinstance(part.value, ast.Name)
        and part.targets[0].attr == part.value.id
        for part in function.body
    )
    return function.name == "__init__" and stored


def lines_that_forward_parameters(function, text):
    """Return the number of lines that only pass on a parameter under its own name, such as `epochs=epochs,`."""
    forwarding = {f"{parameter.arg}={parameter.arg}," for parameter in parameters(function)}
    return sum(line.strip() in forwarding for line in text.splitlines()[function.lineno - 1 : function.end_lineno])


def long_parts(module):
    """Yield a description of each class and function of a module that is longer than the limits."""
    text = SOURCES[module]
    for node in nodes(module):
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(part, FUNCTIONS) for part in node.body)
            if methods > MAX_METHODS:
                yield f"{module}.{node.name} has {methods} methods"
            if code_lines(node, module) > MAX_CLASS_LINES:
                yield f"{module}.{node.name} has {code_lines(node, module)} lines of code"
        elif isinstance(node, FUNCTIONS) and not lists_only_parameters(node):
            lines = code_lines(node, module) - lines_that_forward_parameters(node, text)
            if lines > MAX_FUNCTION_LINES:
                yield f"{module}.{node.name} has {lines} lines of code"


def test_classes_and_functions_are_short():
    assert [part for module in SOURCES for part in long_parts(module)] == []


def with_bases(module, class_node):
    """Return the modules and the nodes of a class and of its bases in the package, each of them once."""
    parts = {(module, class_node): None}
    for base in class_node.bases:
        found = definition_of_base(module, base)
        if found and isinstance(found[1], ast.ClassDef):
            parts |= dict.fromkeys(with_bases(*found))
    return [*parts]


def definition_of_base(module, base):
    """Return the module and the node of a base class such as `Loss` or `losses.Loss`; None outside of the package."""
    if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
        return definition(".".join(imported(module, base.value.id)), base.attr)
    return definition(module, base.id) if isinstance(base, ast.Name) else None


def attributes(class_node):
    """Return the names that a class assigns to `self` or declares in its body."""
    names = {part.target.id for part in class_node.body if isinstance(part, ast.AnnAssign)}
    for node in ast.walk(class_node):
        is_stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if is_stored and isinstance(node.value, ast.Name) and node.value.id == "self":
            names.add(node.attr)
    return names


def class_nodes(module):
    """Return the nodes of all classes of a module."""
    return [node for node in nodes(module) if isinstance(node, ast.ClassDef)]


def test_classes_are_small_with_all_that_they_inherit():
    faults = []
    for module in SOURCES:
        for node in class_nodes(module):
            parts = with_bases(module, node)
            methods = sum(isinstance(part, FUNCTIONS) for _, base in parts for part in base.body)
            lines = sum(code_lines(base, home) for home, base in parts)
            limits = MAX_NETWORK_SIZE if (module, node.name) == ("nnc._network", "NeuralNetwork") else MAX_WHOLE_SIZE
            if methods > limits[0] or lines > limits[1]:
                faults.append(f"{module}.{node.name}: {methods} methods, {lines} lines")
    assert faults == []


def test_classes_of_runs_have_few_attributes():
    faults = []
    for module in COUNTED_MODULES:
        for node in class_nodes(module):
            names = {name for _, base in with_bases(module, node) for name in attributes(base)}
            if len(names) > MAX_ATTRIBUTES:
                faults.append(f"{module}.{node.name}: {len(names)} attributes")
    assert faults == []


def test_loop_and_minimizers_have_no_subclass():
    bases = {
        base.id if isinstance(base, ast.Name) else getattr(base, "attr", "")
        for module in SOURCES
        for node in nodes(module)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    }
    assert not bases & FINAL_CLASSES


def parameters(function):
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [parameter for parameter in every if parameter is not None and parameter.arg not in ("self", "cls")]


def is_untyped(parameter, lines):
    """Return whether a parameter has no type, a container type without items, or an ignored type error."""
    if parameter.annotation is None or "type: ignore" in lines[parameter.lineno - 1]:
        return True
    parts = {part.strip() for part in ast.unparse(parameter.annotation).strip("'\"").split("|")}
    return not parts.isdisjoint({"Any", "object"} | CONTAINERS)


def test_parameters_of_training_package_have_types():
    untyped = [
        f"{module}.{node.name}({parameter.arg})"
        for module in SOURCES
        if module.startswith("nnc._training")
        for node in nodes(module)
        if isinstance(node, FUNCTIONS)
        for parameter in parameters(node)
        if is_untyped(parameter, SOURCES[module].splitlines())
    ]
    assert len(untyped) <= MAX_UNTYPED, untyped


def imported(module, name):
    """Return the module and the name from which a module imports `name`; the same module and name if it does not."""
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return node.module, alias.name
    return module, name


def definition(module, name):
    """Return the module and the node that define the function or class `name` of a module, or None."""
    home = imported(module, name)
    if home != (module, name):
        return definition(*home)
    for node in tree(module).body:
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)) and node.name == name:
            return module, node
    return None


def method(module, class_node, name):
    """Return the module and the node of a method of a class or of its bases, or None."""
    for node in class_node.body:
        if isinstance(node, FUNCTIONS) and node.name == name:
            return module, node
    for base in class_node.bases:
        found = definition_of_base(module, base)
        found = found and method(*found, name)
        if found:
            return found
    return None


def result(module, function):
    """Return the module and the node of the class in the return annotation of a function, or None."""
    return definition(module, function.returns.id) if isinstance(function.returns, ast.Name) else None


def callees(module, function):
    """Yield the functions and methods that a function calls, if names and annotations determine them."""
    classes = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
            called = definition(module, node.value.func.id)
            if called and isinstance(node.targets[0], ast.Name):
                classes[node.targets[0].id] = called if isinstance(called[1], ast.ClassDef) else result(*called)
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                found = definition(module, called.id)
            elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                class_node = classes.get(called.value.id)
                found = class_node and method(*class_node, called.attr)
            else:
                found = None
            if found and isinstance(found[1], FUNCTIONS):
                yield found


def is_typed(function):
    return function.returns is not None and all(parameter.annotation for parameter in parameters(function))


def depth_of_loop():
    """Return the number of calls from NeuralNetwork.fit to TrainingLoop.run; without types, calls are not followed."""
    network = definition("nnc._network", "NeuralNetwork")
    start, goal = method(*network, "fit"), method(*definition("nnc._training.loop", "TrainingLoop"), "run")
    queue, calls = deque([start]), {start[1]: 0}
    while queue and goal[1] not in calls:
        module, function = queue.popleft()
        for found in callees(module, function) if is_typed(function) else ():
            if found[1] not in calls:
                calls[found[1]] = calls[function] + 1
                queue.append(found)
    return calls[goal[1]]


def test_fit_reaches_training_loop_in_at_most_4_typed_calls():
    assert depth_of_loop() <= MAX_CALLS


def test_fit_reaches_core_in_at_most_8_typed_calls():
    """The last call is that of the team, whose threads run the core."""
    loop, minimizer = definition("nnc._training.loop", "TrainingLoop"), definition("nnc._training.loop", "FirstOrder")
    owners = {"self": loop, "self.minimizer": minimizer}
    queue, calls = deque([("run", loop)]), {("run", loop[1]): depth_of_loop()}
    while queue and ("run_slice", minimizer[1]) not in calls:
        name, owner = queue.popleft()
        function = method(*owner, name)[1]
        for node in ast.walk(function) if is_typed(function) else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                value = ast.unparse(node.func.value)
                target = owner if value == "self" else owners.get(value)
                called = node.func.attr
                if target and method(*target, called) and (called, target[1]) not in calls:
                    calls[called, target[1]] = calls[name, owner[1]] + 1
                    queue.append((called, target))
    slice_of_core = method(*minimizer, "run_slice")[1]
    assert "self.team.run(training.task" in ast.unparse(slice_of_core)
    assert calls["run_slice", minimizer[1]] + 1 <= MAX_CORE_CALLS


def test_network_methods_have_body_and_types():
    module, class_node = definition("nnc._network", "NeuralNetwork")
    classes = [(module, class_node)]
    for module, class_node in classes:
        classes += [definition(module, base.id) for base in class_node.bases]
        for node in class_node.body:
            if isinstance(node, FUNCTIONS):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                assert body, f"{node.name} has no body"
                assert node.returns is not None, node.name
                assert all(parameter.annotation for parameter in parameters(node)), node.name
    assert len(classes) > 5


def optimizer_queries(module):
    """Yield calls of `hasattr` for constants of optimizers, and of `isinstance` for second-order optimizers."""
    if not re.search("hasattr|LBFGS|LevenbergMarquardt", SOURCES[module]):
        return
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
            names = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
            is_attribute = node.func.id == "hasattr" and getattr(node.args[1], "value", "") in ("lr", "weight_decay")
            if is_attribute or (node.func.id == "isinstance" and names & {"LBFGS", "LevenbergMarquardt"}):
                yield f"{module}:{node.lineno} {ast.unparse(node)}"


def test_properties_of_optimizers_are_read_from_the_registry():
    assert [found for module in SOURCES for found in optimizer_queries(module)] == []


def private_scikit_learn_names(module):
    """Yield the private names of scikit-learn that a module imports."""
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sklearn":
            names = (*node.module.split("."), *(alias.name for alias in node.names))
            yield from (name for name in names if name[0] == "_")
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from (name for name in names if name.startswith("sklearn.") and "._" in name)


def test_private_scikit_learn_names_are_imported_in_one_module():
    found = {module: [*private_scikit_learn_names(module)] for module in SOURCES}
    assert [module for module, names in found.items() if names] == ["nnc._utils.sklearn_private"]


def has_comment(line):
    """Return whether a line of code contains a comment; the line may be part of a longer statement."""
    try:
        tokens = tokenize.generate_tokens(io.StringIO(line.strip()).readline)
        return any(token.type == tokenize.COMMENT for token in tokens)
    except tokenize.TokenError:
        return False


def patches(path):
    """Yield the line number of each use of `setattr` of a pytest.MonkeyPatch, and whether a comment gives the reason.

    The reason is a comment in the same line or in the line above the statement.
    """
    text = path.read_text(encoding="utf-8")
    if "setattr" not in text:
        return
    lines = text.splitlines()
    comments = {i for i, line in enumerate(lines, 1) if "#" in line and has_comment(line)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr == "setattr":
            above = node.lineno - 1
            yield node.lineno, node.lineno in comments or (above in comments and lines[above - 1].lstrip()[0] == "#")


def test_patches_have_reasons_and_are_at_most_40():
    found = [
        (f"{path.relative_to(HOME)}:{line}", has_reason)
        for path in sorted((HOME / "tests").rglob("*.py"))
        for line, has_reason in patches(path)
    ]
    assert [location for location, has_reason in found if not has_reason] == []
    assert 0 < len(found) <= MAX_PATCHES, [location for location, _ in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("monkeypatch.setattr(a, 'b', 1)", [(1, False)]),
        ("monkeypatch.setattr(a, 'b', 1)  # no argument reaches it", [(1, True)]),
        ("# no argument reaches it\nmonkeypatch.setattr(a, 'b', '#')", [(2, True)]),
        ("x = 1  # one\npatch.setattr(a, 'b', '#')", [(2, False)]),
        ("replace = monkeypatch.setattr", [(1, False)]),
    ],
)
def test_patches_and_their_reasons_are_detected(text, expected, tmp_path):
    (tmp_path / "test_a.py").write_text(text, encoding="utf-8")
    assert list(patches(tmp_path / "test_a.py")) == expected
