"""Set seeds, describe the environment and convert small values."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import PIL
import torch
from torch import nn


def set_random_seed(seed: int) -> None:
    """Seed Python's ``random``, numpy and torch (CPU and every GPU)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def get_rng_state() -> dict[str, Any]:
    """Return the state of all generators that ``set_random_seed`` seeds, as plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what ``get_rng_state`` returned; GPUs only if their number is the same."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([gpu.cpu() for gpu in state["cuda"]])


def collect_env_info() -> str:
    """Return the versions of torch, CUDA, the system and Pillow, as text."""
    from torch.utils.collect_env import get_pretty_env_info  # late, because few runs need it

    return f"{get_pretty_env_info()}\n        Pillow ({PIL.__version__})"


def count_num_param(model: nn.Module | None = None, params: Iterable[Any] | None = None) -> int:
    """Return the number of values in ``model``, or in ``params`` (tensors or optimiser groups)."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("count_num_param expects a model or an iterable of params, got neither.")
    total = 0
    for item in params:
        tensors = tolist_if_not(item["params"]) if isinstance(item, dict) else [item]
        total += sum(p.numel() for p in tensors)
    return total


def tolist_if_not(x: Any) -> list[Any]:
    """Return ``x`` itself if it is a list, else ``[x]``."""
    return x if isinstance(x, list) else [x]
