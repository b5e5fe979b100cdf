"""One `results.json` for each evaluated run: figures in full precision, and their origin."""

import hashlib
import logging
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml
from dassl.data.datasets import Datum
from dassl.utils import write_json

if TYPE_CHECKING:
    from trainers.base import PromptTrainer

logger = logging.getLogger("dassl")

FILE_NAME = "results.json"
PACKAGES = ("torch", "torchvision", "numpy", "clip-anytorch", "dassl", "yacs", "safetensors")


def write_results(trainer: "PromptTrainer", evaluation_seconds: float) -> None:
    """Write OUTPUT_DIR/results.json.

    Args:
        trainer: just evaluated on TEST.SPLIT.
        evaluation_seconds: what that took.
    """
    cfg, evaluator, dataset = trainer.cfg, trainer.evaluator, trainer.dm.dataset
    trained = hasattr(trainer, "time_start")
    correct, total = int(evaluator._correct), int(evaluator._total)
    results = {
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "subsample": cfg.DATASET.SUBSAMPLE_CLASSES,
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "split": cfg.TEST.SPLIT,
        "accuracy": 100.0 * correct / total,
        "correct": correct,
        "total": total,
        "classes": trainer.num_classes,
        "split_source": getattr(dataset, "split_source", None),
        "training_images": len(dataset.train_x),
        "epochs": cfg.OPTIM.MAX_EPOCH if trained else 0,
        "evaluated_checkpoint": trainer.loaded,
        "trainable_parameters": trainer.trainable_parameters,
        "backbone": {"name": trainer.backbone.name, "sha256": trainer.backbone.sha256},
        "precision": trainer.options.PREC,
        "device": device_name(trainer.device),
        "seconds": {
            "training": _training_seconds(trainer) - evaluation_seconds if trained else 0.0,
            "evaluation": evaluation_seconds,
        },
        "peak_memory_mb": peak_memory(trainer.device) / 2**20,
        "versions": versions(),
        "commit": commit(),
        "command": sys.argv,
        "config": yaml.safe_load(cfg.dump()),
    }
    if hasattr(trainer, "together"):  # then seconds and memory are those of all these seeds
        results["together"] = list(trainer.together)
    path = Path(cfg.OUTPUT_DIR) / FILE_NAME
    write_json(results, str(path))
    logger.info("Results are in %s", path)


def _training_seconds(trainer: "PromptTrainer") -> float:
    """With those before an interruption; upstream's engine has only when this process began."""
    if hasattr(trainer, "training_seconds"):
        return trainer.training_seconds
    return time.time() - trainer.time_start


def images_digest(items: Iterable[Datum], root: str) -> str:
    """SHA-256 of the images' paths below `root` and their labels, in order."""
    digest = hashlib.sha256()
    above = os.path.abspath(os.path.expanduser(root)) if root else ""
    for item in items:
        digest.update(f"{item.impath.removeprefix(above)}\t{item.label}\n".encode())
    return digest.hexdigest()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def peak_memory(device: torch.device) -> int:
    """Largest memory held so far, in bytes: the GPU's allocations, or the process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str | None:
    """The commit of this code base, marked where files differ from it; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
