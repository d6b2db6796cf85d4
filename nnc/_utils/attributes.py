"""Error messages for unknown attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING


class SuggestsAttributesMeta(type):
    """Metaclass whose AttributeError suggests the attribute of the class that may have been meant."""

    if not TYPE_CHECKING:  # type checkers must not see __getattr__, which would allow all attributes

        def __getattr__(cls, name):
            from nnc._utils.names import unknown_attribute_error

            owner = f"type object {cls.__name__!r}"
            raise unknown_attribute_error(owner, name, dir(cls))


class SuggestsAttributes(metaclass=SuggestsAttributesMeta):
    """Base of classes whose AttributeError suggests the attribute that may have been meant."""

    if not TYPE_CHECKING:  # type checkers must not see __getattr__, which would allow all attributes

        def __getattr__(self, name):
            if name in dir(type(self)):  # the getter of a property failed: call it again to raise its error
                return object.__getattribute__(self, name)
            from nnc._utils.names import unknown_attribute_error

            raise unknown_attribute_error(f"{type(self).__name__!r} object", name, dir(type(self)))
