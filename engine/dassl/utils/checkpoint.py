"""Write and read checkpoints of tensors and plain values.

A folder holds ``model.pth.tar-<epoch>``, the file ``checkpoint`` that names the latest one, and
``model-best.pth.tar``. They are read with ``weights_only=True``, so a file can hold no code.
A checkpoint from the middle of an epoch is ``model.pth.tar-<epochs done>-<batches done>``.
Every file ends in a checksum, see `seal.py`.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .files import atomic_write
from .logger import LOGGER
from .seal import is_changed, sealed
from .tools import set_rng_state

StrPath = str | PathLike[str]

BEST = "model-best.pth.tar"
STEP = re.compile(r"model\.pth\.tar-(\d+)(?:-(\d+))?")  # epochs and batches done
PICKLE = b"\x80"  # begins what torch.save wrote before it wrote archives
KEPT = 2  # a checkpoint from within an epoch is deleted unless it is among the latest two


def _plain(value: Any, where: str) -> Any:
    """Copy ``value`` with numpy values made plain; refuse what could not be read back."""
    # Exact types: a subclass (np.float64 is a float) would be pickled by its own class.
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    raise TypeError(
        f"A checkpoint holds tensors, numbers, strings, lists and dicts only, but {where} is a "
        f"{type(value).__name__}: store its values instead of the object."
    )


def _without_module(name: str) -> str:
    return name.removeprefix("module.")  # nn.DataParallel puts this in front of every name


def save_checkpoint(
    state: dict[str, Any],
    save_dir: StrPath,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Write ``state`` to ``save_dir`` and name it in the file ``checkpoint``.

    A crash at any moment leaves either the old files or the new one, each of them intact.

    Args:
        state: at least ``state_dict`` and ``epoch`` (epochs done); optionally ``batches`` (done
            in the epoch after these). It is not changed.
        save_dir: folder, created if missing.
        is_best: write ``model-best.pth.tar`` as well.
        remove_module_from_keys: drop ``module.`` in front of the names in ``state_dict``.
        model_name: file name instead of ``model.pth.tar-<epoch>``.

    Raises:
        TypeError: ``state`` holds an object that is neither a tensor nor a plain value.
    """
    folder = Path(save_dir)
    state = _plain(state, "state")
    if remove_module_from_keys:
        state["state_dict"] = {_without_module(k): v for k, v in state["state_dict"].items()}

    content = sealed(state)
    batches = f"-{state['batches']}" if state.get("batches") else ""
    path = folder / (model_name or f"model.pth.tar-{state['epoch']}{batches}")
    with atomic_write(path) as file:
        file.write(content)
    LOGGER.info(f"Checkpoint saved to {path}")
    # A run resumes from its latest state, not its best, and then writes what it would have written.
    if path.name != BEST:
        with atomic_write(folder / "checkpoint") as file:
            file.write(f"{path.name}\n".encode())
        _delete_old_steps(folder)

    if is_best:
        best = folder / BEST
        with atomic_write(best) as file:
            file.write(content)
        LOGGER.info(f'Best checkpoint saved to "{best}"')


def _steps(folder: Path) -> list[Path]:
    """Return the checkpoints of epochs and within epochs, the latest first."""
    found = {path: STEP.fullmatch(path.name) for path in folder.glob("model.pth.tar-*")}
    done = {
        path: tuple(int(n or 0) for n in match.groups()) for path, match in found.items() if match
    }
    return sorted(done, key=done.get, reverse=True)


def _delete_old_steps(folder: Path) -> None:
    for path in _steps(folder)[KEPT:]:
        if STEP.fullmatch(path.name)[2]:
            path.unlink(missing_ok=True)


def latest_checkpoint(folder: StrPath) -> Path | None:
    """Return the checkpoint to resume from, None without one.

    It is the one that the file ``checkpoint`` names or, if that was deleted, the latest one left.
    """
    index = Path(folder) / "checkpoint"
    if not index.is_file():
        return None
    name = Path(index.read_text(encoding="utf-8", errors="replace").split("\n")[0].strip()).name
    if name and index.with_name(name).is_file():
        return index.with_name(name)
    return next(iter(_steps(index.parent)), None)


def _remedy(path: Path) -> str:
    """Return what to do about a broken checkpoint; it names the intact one before it, if any."""
    steps = _steps(path.parent)
    for other in steps[steps.index(path) + 1 :] if path in steps else steps:
        data = other.read_bytes()
        if not (is_changed(data) or _is_cut(data)):
            epoch, batches = STEP.fullmatch(other.name).groups()
            named = "its path" if batches else f"--load-epoch {epoch}, or its path"
            return (
                f"The one before it, {other.name}, is whole: evaluate that ({named}), or delete "
                f"{path.name} to resume from it."
            )
    return "Copy the file again, or retrain."


def _is_cut(data: bytes) -> bool:
    """Return True for what is neither a whole archive of ``torch.save`` nor a pickle."""
    return not (data.startswith(PICKLE) or zipfile.is_zipfile(io.BytesIO(data)))


def load_checkpoint(fpath: StrPath) -> dict[str, Any]:
    """Read a checkpoint, to the CPU: whoever loads it copies from there, to whichever GPU is free.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no path is given, or the file is broken or holds more than tensors and plain
            values. Code inside a file is never run.
    """
    if fpath is None:
        raise ValueError("load_checkpoint expects the path of a checkpoint, got None.")
    path = Path(fpath)
    if not path.is_file():
        raise FileNotFoundError(
            f"No checkpoint at {path}. Files there: {_names_in(path.parent)}. "
            "Check --model-dir and --load-epoch."
        )
    data = path.read_bytes()
    if is_changed(data):
        raise ValueError(
            f"{path} is cut short or was changed after it was written: its content does not match "
            f"its checksum. {_remedy(path)}"
        )
    if _is_cut(data):
        raise ValueError(
            f"{path} is cut short, or no checkpoint: it does not end as torch.save writes one. "
            f"{_remedy(path)}"
        )
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types, depending on what is wrong
        reason = str(error).partition("\n")[0].rstrip(". ")
        upstream = (
            " If upstream Dassl wrote it, it holds a pickled scheduler: if you trust its source, "
            "keep only 'state_dict', 'epoch' and 'val_result' of "
            "torch.load(path, weights_only=False) and save those."
        )
        raise ValueError(
            f"Cannot read {path} as a checkpoint: expected a file of tensors and plain values "
            f"written by torch.save, got {type(error).__name__}: {reason}. {_remedy(path)}"
            f"{upstream if isinstance(error, pickle.UnpicklingError) else ''}"
        ) from error


def _names_in(folder: Path) -> str:
    if not folder.is_dir():
        return "(the folder does not exist)"
    return ", ".join(sorted(entry.name for entry in folder.iterdir())) or "(none)"


def resume_from_checkpoint(
    fdir: StrPath, model: nn.Module, optimizer: Any = None, scheduler: Any = None
) -> int:
    """Load the latest checkpoint of ``fdir`` into the model, optimiser and scheduler.

    The learning rate and, if saved, the random generators resume where they were.

    Returns:
        The epoch to resume with, counted from 0 (the number of epochs done).
    """
    path = latest_checkpoint(fdir)
    if path is None:
        raise FileNotFoundError(
            f"Cannot resume from {fdir}: expected the file 'checkpoint' that names the latest "
            f"one, found {_names_in(Path(fdir))}. Check --resume."
        )
    LOGGER.info(f'Loading checkpoint from "{path}"')
    checkpoint = load_checkpoint(path)
    model.load_state_dict(checkpoint["state_dict"])
    LOGGER.info("Loaded model weights")
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        optimizer.load_state_dict(checkpoint["optimizer"])
        LOGGER.info("Loaded optimizer")
    if scheduler is not None and checkpoint.get("scheduler") is not None:
        scheduler.load_state_dict(checkpoint["scheduler"])
        LOGGER.info("Loaded scheduler")
    if "rng" in checkpoint:
        set_rng_state(checkpoint["rng"])
        LOGGER.info("Loaded random state")
    LOGGER.info(f"Previous epoch: {checkpoint['epoch']}")
    return checkpoint["epoch"]


def load_pretrained_weights(model: nn.Module, weight_path: StrPath) -> None:
    """Load those layers of a checkpoint that ``model`` has with the same name and shape.

    Skipped layers are logged; if none fits, a warning is issued and nothing changes.
    """
    checkpoint = load_checkpoint(weight_path)
    source = checkpoint.get("state_dict", checkpoint)
    target = model.state_dict()
    matched: dict[str, torch.Tensor] = {}
    discarded: list[str] = []
    for name, value in source.items():
        name = _without_module(name)
        if name in target and target[name].shape == value.shape:
            matched[name] = value
        else:
            discarded.append(name)
    if not matched:
        warnings.warn(
            f"Cannot load {weight_path}: none of its layers has a name and shape of this model "
            f"(file: {discarded[:3]}..., model: {list(target)[:3]}...).",
            stacklevel=2,
        )
        return
    model.load_state_dict({**target, **matched})
    LOGGER.info(f"Successfully loaded pretrained weights from {weight_path}")
    if discarded:
        LOGGER.info(f"Layers discarded due to unmatched keys or size: {discarded}")
