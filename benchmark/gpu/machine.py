"""Build trainers, weights and data for the sections, small ones for a CPU."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor

from benchmark.speed.__main__ import write_dataset, write_weights
from experiment import cli
from experiment.config import CONFIGS
from trainers import requires_training
from trainers.base import PromptTrainer

BATCH = 4
ROOT = CONFIGS.parent


class Check(NamedTuple):
    """Hold one check: what holds or does not, and what was found."""

    name: str
    passed: bool
    found: dict[str, Any]


Checks = Iterator[Check]


@dataclass(frozen=True)
class Machine:
    """Build and call what a section needs.

    Attributes:
        device: "cuda", with ViT-B/16's shape; or "cpu", with the demo model.
        scratch: a folder of the section's own.
    """

    device: str
    scratch: Path

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def methods(self) -> list[str]:
        """Return the methods that are trained by a step which batch and parameters decide."""
        names = sorted(path.name for path in (CONFIGS / "trainers").iterdir())
        trained = filter(requires_training, names)
        return [name for name in trained if TRAINER_REGISTRY.get(name).pure_step]

    @property
    def precisions(self) -> tuple[str, ...]:
        return ("fp32", "tf32", "amp", "bf16", "fp16") if self.on_gpu else ("fp32", "amp")

    def dataset(self, classes: int) -> Path:
        """Return a folder with a Caltech101 of so many classes."""
        root = self.scratch / f"classes{classes}"
        if not root.exists():
            write_dataset(root, classes)
        return root

    def config(self, trainer: str) -> Path:
        """Return a method's YAML; some have settings for few-shot alone."""
        stems = ("base2new", "few_shot") if self.on_gpu else ("demo",)
        paths = (CONFIGS / "trainers" / trainer / f"{stem}.yaml" for stem in stems)
        return next(filter(Path.is_file, paths))

    def words(self, trainer: str, precision: str, classes: int, device: str = "") -> list[str]:
        """Return what follows `python train.py`, but for the output folder."""
        weights = self.scratch / "weights.pth"
        if self.on_gpu and not weights.exists():
            write_weights("random", weights)
        node = TRAINER_REGISTRY.get(trainer).node
        return [
            *("--root", str(self.dataset(classes)), "--trainer", trainer, "--seed", "1"),
            *("--dataset-config-file", str(CONFIGS / "datasets" / "caltech101.yaml")),
            *("--config-file", str(self.config(trainer))),
            *("--backbone", str(weights) if self.on_gpu else "demo"),
            *("DATASET.SUBSAMPLE_CLASSES", "all", "DATALOADER.NUM_WORKERS", "0"),
            *("USE_CUDA", str((device or self.device) == "cuda")),
            *(f"TRAINER.{node}.PREC", precision),
        ]

    def build(
        self, trainer: str, precision: str, classes: int = 10, device: str = ""
    ) -> PromptTrainer:
        """Return a trainer before its first step; `scaler` aside, all of it is as in a run."""
        words = self.words(trainer, precision, classes, device)
        output = str(self.scratch / "built")
        args = cli.parse_args(["--output-dir", output, "--no-train", *words])
        built = cli.build(args, cli.setup_cfg(args))
        built.set_model_mode("train")
        built.epoch, built.batch_idx, built.num_batches = 0, 0, sys.maxsize
        return built

    def train(self, name: str, *words: str) -> int:
        """Run train.py on the demo world, in a process, with output in a folder of this name."""
        command = [sys.executable, "train.py", "--output-dir", str(self.scratch / name)]
        command += ["--trainer", "MMLoP", "--seed", "1", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr.strip()[-500:], file=sys.stderr)
        return done.returncode


def images_for(trainer: PromptTrainer, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a batch of random images and labels on the trainer's device."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(BATCH, 3, *trainer.cfg.INPUT.SIZE, generator=generator)
    labels = torch.arange(seed, seed + BATCH) % trainer.num_classes
    return images.to(trainer.device), labels.to(trainer.device)
