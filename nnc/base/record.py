"""A class for values with named fields that do not change: a frozen dataclass that takes no time to make.

    class Step(Record):
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


class _Signature:
    """The signature of a class, made when it is asked for."""

    def __get__(self, instance: Record | None, cls: type[Record]) -> Signature:
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
class Record:
    """Its fields are what a subclass annotates, but for ClassVar, after those of its base.

    A subclass may give a field of its base another default. `__post_init__`, if there is one, sees the whole.
    """

    _fields: ClassVar[dict[str, Field]] = {}
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

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        fields, call = self._fields, f"{type(self).__qualname__}.__init__()"
        if len(args) > len(fields):
            raise TypeError(f"{call} takes at most {len(fields)} arguments, got {len(args)}")
        given = dict(zip(fields, args, strict=False))
        for name, value in kwargs.items():
            if name not in fields:
                raise TypeError(f"{call} got an unexpected keyword argument {name!r}")
            if name in given:
                raise TypeError(f"{call} got multiple values for argument {name!r}")
            given[name] = value
        missing = [name for name, known in fields.items() if known.required and name not in given]
        if missing:
            raise TypeError(f"{call} missing required arguments: {', '.join(map(repr, missing))}")
        for name, known in fields.items():
            value = given.get(name, known.default)
            vars(self)[name] = value if known.check is None else known.check(name, value)
        self.__post_init__()

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
        """The same with other values of some fields, checked anew."""
        return type(self)(**{**dict(zip(self._fields, self._values(), strict=True)), **changes})

    __replace__ = replace
