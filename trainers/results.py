"""One `results.json` per evaluated run: figures in full precision, and their origin."""

import hashlib
import logging
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import yaml
from dassl.data.datasets import Datum
from dassl.utils import write_json
from yacs.config import CfgNode

logger = logging.getLogger("dassl")

FILE_NAME = "results.json"
IDLE = ("OPTIM", "TRAIN")  # sections that a method without training does not read
PACKAGES = ("torch", "torchvision", "numpy", "clip-anytorch", "dassl", "yacs", "safetensors")


def write_results(folder: Path, facts: Mapping, device: torch.device) -> None:
    """Write FOLDER/results.json: the facts of a run, and those of machine and code.

    Args:
        facts: plain values; see `PromptTrainer.facts`.
        device: on which the run computed.
    """
    path = folder / FILE_NAME
    surroundings = {
        "device": device_name(device),
        "peak_memory_mb": peak_memory(device) / 2**20,
        "versions": versions(),
        "commit": commit(),
    }
    write_json({**facts, **surroundings}, str(path))
    logger.info("Results are in %s", path)


def recorded_config(cfg: CfgNode, trains: bool) -> dict:
    """Return a configuration as plain values, without what trains where nothing is trained."""
    config = yaml.safe_load(cfg.dump())
    return {key: value for key, value in config.items() if trains or key not in IDLE}


def images_digest(items: Iterable[Datum], root: str) -> str:
    """Return the SHA-256 of the images' paths below `root` and their labels, in order."""
    digest = hashlib.sha256()
    above = os.path.abspath(os.path.expanduser(root)) if root else ""
    for item in items:
        digest.update(f"{item.impath.removeprefix(above)}\t{item.label}\n".encode())
    return digest.hexdigest()


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def peak_memory(device: torch.device) -> int:
    """Return the largest memory held so far, in bytes: on the GPU, or by the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that figures depend on."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str | None:
    """Return the commit of this code base, marked where files differ from it; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
