"""Map names to classes, and refuse a name that is not registered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

from yacs.config import CfgNode

from .logger import LOGGER


def unknown_name(kind: str, requested: object, available: Iterable[str]) -> str:
    """Return an error message with the known names and the nearest one to ``requested``."""
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
    """Map the ``__name__`` of classes or functions to the objects.

    ``@TABLE.register()`` above a class adds it; ``TABLE.register(obj)`` does the same by a call.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False) -> Callable[[Any], Any] | None:
        """Add ``obj``, or return the decorator that does.

        A name that is taken raises ``KeyError``; with ``force`` its entry is replaced.
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
        """Return what is registered as ``name``; a ``KeyError`` has the nearest known name."""
        if name not in self._obj_map:
            raise KeyError(unknown_name(f"{self._name} entry", name, self._obj_map))
        return self._obj_map[name]

    def build(self, name: str, cfg: CfgNode, **kwargs: Any) -> Any:
        """Call what is registered as ``name``; a ``ValueError`` has the nearest known name."""
        kind = self._name.lower()
        check_availability(name, self._obj_map, kind)
        if cfg.VERBOSE:
            LOGGER.info(f"Loading {kind}: {name}")
        return self._obj_map[name](cfg, **kwargs)

    def __contains__(self, name: object) -> bool:
        return name in self._obj_map

    def registered_names(self) -> list[str]:
        """Return all names in order of registration."""
        return list(self._obj_map)
