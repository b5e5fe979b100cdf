"""Name -> class tables, and the error for a name that is not in one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

__all__ = ["Registry", "check_availability"]


def unknown_name(kind: str, requested: object, available: Iterable[str]) -> str:
    """Say that ``requested`` is no known ``kind``, what is known, and what may be meant."""
    known = sorted(available)
    text = f"Unknown {kind} {requested!r}: expected one of {known}"
    near = get_close_matches(str(requested).lower(), [name.lower() for name in known], 1, 0.4)
    if near:
        meant = next(name for name in known if name.lower() == near[0])
        return f"{text}. Did you mean {meant!r}?"
    if not known:
        return f"{text}. Import the module that registers it first."
    return f"{text}."


def check_availability(requested: str, available: Iterable[str], kind: str = "name") -> None:
    """Raise ``ValueError`` naming the nearest known name if ``requested`` is not available."""
    available = list(available)
    if requested not in available:
        raise ValueError(unknown_name(kind, requested, available))


class Registry:
    """A table of classes or functions under their ``__name__``.

    ``@TABLE.register()`` above a class adds it; ``TABLE.register(obj)`` does the same by a call.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False) -> Callable[[Any], Any] | None:
        """Add ``obj``, or return the decorator that does.

        A name that is taken raises ``KeyError`` unless ``force`` is set, which replaces it.
        """
        if obj is not None:
            self._add(obj, force)
            return None

        def decorate(decorated: Any) -> Any:
            self._add(decorated, force)
            return decorated

        return decorate

    def _add(self, obj: Any, force: bool) -> None:
        name = obj.__name__
        if name in self._obj_map and not force:
            raise KeyError(
                f"{name!r} is already registered in {self._name} by module "
                f"{self._obj_map[name].__module__}: rename one, or register with force=True."
            )
        self._obj_map[name] = obj

    def get(self, name: str) -> Any:
        """Return what is registered as ``name``; ``KeyError`` names the nearest known name."""
        if name not in self._obj_map:
            raise KeyError(unknown_name(f"{self._name} entry", name, self._obj_map))
        return self._obj_map[name]

    def __contains__(self, name: object) -> bool:
        return name in self._obj_map

    def registered_names(self) -> list[str]:
        """All names in order of registration."""
        return list(self._obj_map)
