"""Frozen features on disk: computed once for a backbone, its class names and its templates.

One safetensors file per entry. Its name is the hash of all that the features depend on, which is
also written into it; a file in which anything is not as it must be is replaced.
"""

import hashlib
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from prompting.files import write_atomically

logger = logging.getLogger(__name__)
EXTRAS = ("open_clip", "timm")  # which compute where a backbone is theirs


def cached(key: Mapping[str, Any], device: torch.device, compute: Callable[[], Tensor]) -> Tensor:
    """Return what `compute()` returns, from the cache where it is there: the same, bit for bit.

    A cache that cannot be read or written costs a warning, never the run.

    Args:
        key: plain values that decide the result, but for what is known here: the machine, torch
            and the code.
        device: where the result, in fp32, is computed.
    """
    folder = cache_folder()
    if folder is None:
        return compute()
    text = json.dumps({**key, **_surroundings(device)}, sort_keys=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"
    features = _read(path, text)
    if features is not None:
        return features.to(device)
    features = compute()
    _write(path, text, features.cpu().contiguous())
    return features


def cache_folder() -> Path | None:
    """Return $MMLOP_CACHE, else $XDG_CACHE_HOME/mmlop, else ~/.cache/mmlop.

    None, for no cache, where MMLOP_CACHE is "off" or empty.
    """
    folder = os.environ.get("MMLOP_CACHE")
    if folder is None:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmlop"
    return None if folder in ("", "off") else Path(folder)


def _surroundings(device: torch.device) -> dict[str, Any]:
    """Return what decides how the same sums are rounded."""
    if device.type == "cuda":
        where = [torch.cuda.get_device_name(device)]
    else:
        capability = torch.backends.cpu.get_cpu_capability()
        where = [device.type, processor(), capability, torch.get_num_threads()]
    extras = {name: sys.modules[name].__version__ for name in EXTRAS if name in sys.modules}
    return {"device": where, "torch": torch.__version__, "code": _code(), **extras}


def processor() -> str:
    """Return the CPU's name, by which libraries choose their kernels."""
    with suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


@cache
def _code() -> str:
    """Return a hash of the code that computes, so that a change to it computes again."""
    folders = (Path(__file__).parent, Path(clip.__file__).parent)
    files = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _read(path: Path, key: str) -> Tensor | None:
    try:
        data = path.read_bytes()  # at once: another run may replace the file
        # A copy, aligned in memory as what is computed: sums over it are rounded alike.
        features = load(data)["features"].clone()
        found = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        whole = found == _metadata(key, features)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        wrong = repr(error)
    else:
        if whole:
            logger.info("Frozen text features: read from %s", path)
            return features
        wrong = "for another key, or changed since"
    logger.warning("%s is no whole entry of the cache (%s): computed again", path, wrong)
    return None


def _metadata(key: str, features: Tensor) -> dict[str, str]:
    return {"key": key, "sha256": hashlib.sha256(features.numpy()).hexdigest()}


def _write(path: Path, key: str, features: Tensor) -> None:
    try:
        write_atomically(path, save({"features": features}, _metadata(key, features)))
    except OSError as error:
        logger.warning("Frozen text features are not kept for the next run: %s", error)
