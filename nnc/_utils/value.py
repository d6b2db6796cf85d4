"""A class for values with named fields that do not change: a frozen dataclass that takes no time to make.

    class Step(Value):
        epochs: int
        lr: float = field(default=1e-3, check=positive)

Everybody who imports nnc waits until its classes are made, and `dataclass` compiles some functions for each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature
    from typing import Self

_MISSING: Any = object()


class Field:
    """What is known of a field: its default, and what checks a value, given the name and the value, and converts it."""

    def __init__(self, default: Any, check: Callable[[str, Any], Any] | None) -> None:
        self.default, self.check = default, check

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is _MISSING


def field(*, default: Any = _MISSING, check: Callable[[str, Any], Any] | None = None) -> Any:
    """A field that is more than a name and a default."""
    return Field(default, check)


def _call(value: Value) -> str:
    return f"{type(value).__qualname__}.__init__()"


class _Signature:
    """The signature of a class, made when it is asked for."""

    def __get__(self, instance: Value | None, cls: type[Value]) -> Signature:
        if instance is not None:  # which has none, or one of its own
            raise AttributeError("__signature__")
        from inspect import Parameter, Signature

        annotations = {name: text for base in reversed(cls.__mro__[:-1]) for name, text in base.__annotations__.items()}
        parameters = [
            Parameter(
                name,
                Parameter.POSITIONAL_OR_KEYWORD,
                default=Parameter.empty if known.required else known.default,
                annotation=annotations[name],
            )
            for name, known in cls._fields.items()
        ]
        return Signature(parameters, return_annotation=None)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value:
    """Its fields are what a subclass annotates, but for ClassVar, after those of its base.

    A subclass may give a field of its base another default. `__post_init__`, if there is one, sees the whole.
    """

    _fields: ClassVar[dict[str, Field]] = {}
    _defaults: ClassVar[dict[str, Any]] = {}  # of all fields, in their order: _MISSING of those without
    _checks: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}
    _required: ClassVar[frozenset[str]] = frozenset()
    __signature__: ClassVar[Any] = _Signature()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fields = dict(cls._fields)
        for name, annotation in cls.__annotations__.items():
            if str(annotation).removeprefix("typing.").startswith("ClassVar"):
                continue
            found = vars(cls).get(name, _MISSING)
            if isinstance(found, Field):
                fields[name] = found
            else:
                fields[name] = Field(found, fields[name].check if name in fields else None)
            if not fields[name].required:
                setattr(cls, name, fields[name].default)
            elif name in vars(cls):
                delattr(cls, name)
        cls._fields = fields
        cls._defaults = {name: known.default for name, known in fields.items()}
        cls._checks = {name: known.check for name, known in fields.items() if known.check is not None}
        cls._required = frozenset(name for name, known in fields.items() if known.required)

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        given = dict(zip(self._fields, args, strict=False))
        if kwargs or len(args) > len(given):
            self._refuse(args, kwargs)
            given.update(kwargs)
        if not given.keys() >= self._required:
            missing = [name for name in self._fields if name in self._required and name not in given]
            raise TypeError(f"{_call(self)} missing required arguments: {', '.join(map(repr, missing))}")
        self.__dict__.update(self._defaults)
        self._set(given)

    def _set(self, given: dict[str, Any]) -> None:
        """Gives fields these values, checked."""
        values, defaults = self.__dict__, self._defaults
        values.update(given)
        if self._checks:
            for name, value in given.items():
                if value is not defaults[name] and name in self._checks:
                    values[name] = self._checks[name](name, value)
        self.__post_init__()

    def _refuse(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises where there are arguments that the class has not, or one twice."""
        if len(args) > len(self._fields):
            raise TypeError(f"{_call(self)} takes at most {len(self._fields)} arguments, got {len(args)}")
        for name in kwargs:
            if name not in self._fields:
                from nnc._utils.names import suggest_argument

                hint = suggest_argument(name, self._fields)
                raise TypeError(f"{_call(self)} got an unexpected keyword argument {name!r}{hint}")
            if name in list(self._fields)[: len(args)]:
                raise TypeError(f"{_call(self)} got multiple values for argument {name!r}")

    def __post_init__(self) -> None:
        """Checks what concerns more than one field."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r}")

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._fields)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self._values(), strict=True))
        return f"{type(self).__qualname__}({fields})"

    def replace(self, **changes: Any) -> Self:
        """The same with other values of some fields, which are checked."""
        if not changes.keys() <= self._fields.keys():
            self._refuse((), changes)
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._set(changes)
        return other

    __replace__ = replace
