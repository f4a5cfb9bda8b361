"""Registered classes and functions, by their names in a configuration."""

import importlib
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from frozenalign.configuration.registrations import Registration

Registered = TypeVar("Registered")


class Registry(UserDict):
    """The classes or functions that the modules of a wing register; the modules are imported on first use.

    kind: what is registered, for messages. find: returns the registrations in the sources of the wing.
    """

    def __init__(self, kind: str, find: Callable[[], Mapping[str, Registration]]) -> None:
        super().__init__()
        self.kind, self.find = kind, find

    def register(self, name: str, **constants: Any) -> Callable[[Registered], Registered]:
        """Return a decorator that registers a class or function under a name that is still free.

        constants: plain values that `Registration.constants` gives without importing the module.
        """

        def registering(registered: Registered) -> Registered:
            if name in self.data:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self.data[name] = registered
            return registered

        return registering

    def _import_all(self) -> dict[str, Any]:
        for registration in self.find().values():
            importlib.import_module(registration.module)
        return self.data

    def __missing__(self, name: str) -> Any:
        return self._import_all()[name]

    def __contains__(self, name: object) -> bool:
        return name in self.data or name in self.find()

    def __iter__(self) -> Iterator[str]:
        return iter(self._import_all())
