"""Base class for immutable values with named and checked fields, like a frozen dataclass.

    class Step(Value):
        epochs: int
        lr: float = field(default=1e-3, check=check_positive)

`dataclass` compiles several functions for each class, which would slow down `import nnc`; a subclass of Value does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature
    from typing import Self

_MISSING: Any = object()


class Field:
    """Default and check of a field.

    Parameters
    ----------
    default : object
        _MISSING for a required field.
    check : callable(name, value), optional
        Returns the converted value, or raises ValueError or TypeError.
    """

    def __init__(self, default: Any, check: Callable[[str, Any], Any] | None) -> None:
        self.default, self.check = default, check

    @property
    def required(self) -> bool:
        """Return whether the field has no default."""
        return self.default is _MISSING


def field(*, default: Any = _MISSING, check: Callable[[str, Any], Any] | None = None) -> Any:
    """Return a field with a default or a check; see `Field`."""
    return Field(default, check)


def _call(value: Value) -> str:
    """Return the name of the constructor for messages, such as "SGD.__init__()"."""
    return f"{type(value).__qualname__}.__init__()"


class _Signature:
    """Descriptor that builds the signature of a class when it is needed."""

    def __get__(self, instance: Value | None, cls: type[Value]) -> Signature:
        if instance is not None:  # only the class has a __signature__, not its instances
            raise AttributeError("__signature__")
        from inspect import Parameter, Signature

        annotations = {name: text for base in reversed(cls.__mro__[:-1]) for name, text in base.__annotations__.items()}
        parameters = [
            Parameter(
                name,
                Parameter.POSITIONAL_OR_KEYWORD,
                default=Parameter.empty if spec.required else spec.default,
                annotation=annotations[name],
            )
            for name, spec in cls._fields.items()
        ]
        return Signature(parameters, return_annotation=None)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value:
    """Base class of immutable values.

    The fields are the annotated names of a subclass, except for ClassVar, after the fields of its base class. A
    subclass may change the default of an inherited field. `__post_init__` checks conditions on several fields.
    """

    _fields: ClassVar[dict[str, Field]] = {}
    _defaults: ClassVar[dict[str, Any]] = {}  # defaults of all fields in order; _MISSING for required ones
    _checks: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}  # check function of each field that has a check
    _required: ClassVar[frozenset[str]] = frozenset()  # names of the fields without a default
    __signature__: ClassVar[Any] = _Signature()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fields = dict(cls._fields)
        for name, annotation in cls.__annotations__.items():
            if str(annotation).removeprefix("typing.").startswith("ClassVar"):
                continue
            default = vars(cls).get(name, _MISSING)
            if isinstance(default, Field):
                fields[name] = default
            else:
                fields[name] = Field(default, fields[name].check if name in fields else None)
            if not fields[name].required:
                setattr(cls, name, fields[name].default)
            elif name in vars(cls):
                delattr(cls, name)
        cls._fields = fields
        cls._defaults = {name: spec.default for name, spec in fields.items()}
        cls._checks = {name: spec.check for name, spec in fields.items() if spec.check is not None}
        cls._required = frozenset(name for name, spec in fields.items() if spec.required)

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        arguments = dict(zip(self._fields, args, strict=False))
        if kwargs or len(args) > len(arguments):
            self._check_arguments(args, kwargs)
            arguments.update(kwargs)
        if not arguments.keys() >= self._required:
            missing = [name for name in self._fields if name in self._required and name not in arguments]
            raise TypeError(f"{_call(self)} missing required arguments: {', '.join(map(repr, missing))}")
        self.__dict__.update(self._defaults)
        self._set(arguments)

    def _set(self, arguments: dict[str, Any]) -> None:
        """Check the values of the given fields, and store them as attributes."""
        values, defaults = self.__dict__, self._defaults
        values.update(arguments)
        if self._checks:
            for name, value in arguments.items():
                if value is not defaults[name] and name in self._checks:
                    values[name] = self._checks[name](name, value)
        self.__post_init__()

    def _check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise TypeError if an argument is unknown or occurs twice."""
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
        """Check conditions that involve several fields; subclasses override this method."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot assign to field {name!r}: {type(self).__name__} is immutable; use replace()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r}: {type(self).__name__} is immutable")

    def _values(self) -> tuple[Any, ...]:
        """Return the values of all fields in order."""
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
        """Return a copy in which the given fields have other values; the new values are checked."""
        if not changes.keys() <= self._fields.keys():
            self._check_arguments((), changes)
        other = object.__new__(type(self))
        # Only fields are copied, because cached properties were computed from the old values.
        other.__dict__.update({name: self.__dict__[name] for name in self._fields})
        other._set(changes)
        return other

    __replace__ = replace
