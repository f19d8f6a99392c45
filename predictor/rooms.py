"""Modules that can be called, where a room and the function in it share one name."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def open_to_calls(name: str, function: Callable[..., Any]) -> None:
    """Make the module of that name callable: a call of it is one of ``function``."""

    class Room(ModuleType):
        """A module that stands for the function of its name."""

        __call__ = staticmethod(function)

    sys.modules[name].__class__ = Room
