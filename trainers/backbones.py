"""The frozen CLIP of a run; several runs of one process may share it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

import prompting
from prompting import Backbone

_shared: ContextVar[dict[tuple, Backbone] | None] = ContextVar("shared backbones", default=None)


@contextmanager
def shared_backbones() -> Iterator[None]:
    """Trainers built within it share what the first of them loads; nobody changes a backbone."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def load_backbone(name: str, precision: str, device: torch.device, trust: bool) -> Backbone:
    """`prompting.load_backbone`, once for all trainers within `shared_backbones`."""
    wanted = (name, precision, device, trust)
    shared = _shared.get()
    if shared is None:
        return prompting.load_backbone(*wanted)
    if wanted not in shared:
        shared[wanted] = prompting.load_backbone(*wanted)
    return shared[wanted]
