"""Expand a protocol into runs: calls of train.py, each with its own folder.

    OUT/<trained on>/<classes>/shots_<k>/<method>/<settings>/seed<s>/{train, test_...}

All that belongs to one set of prompts lies in one seed folder. The folder is the same whichever
protocol asks for the run, and in whichever order its options stand: what two tables need is run
once.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yacs.config import CfgNode

from benchmark.protocol import Protocol
from experiment.cli import expected
from experiment.config import CONFIGS
from trainers import requires_training

UNTRAINED_SEEDS = (1,)  # of methods without training, whatever seeds the others have
FALLBACK = "base2new"  # settings of a method without a file for the protocol


@dataclass(frozen=True)
class Run:
    """Describe one call of train.py.

    Attributes:
        row: label of the row.
        trainer: registry name.
        options: KEY VALUE pairs of the protocol and the row (which wins), sorted by key.
        config: the method's YAML.
        dataset, classes: what is evaluated.
        shots: images per class; 0 for a method without training.
        folder: of its output, below the runner's.
        training: whose prompts it tests; None: this is the training.
    """

    row: str
    trainer: str
    options: tuple[str, ...]
    config: Path
    dataset: str
    classes: str
    shots: int
    seed: int
    folder: Path
    training: "Run | None" = None

    @property
    def trains(self) -> bool:
        return self.training is None and requires_training(self.trainer)

    def arguments(self, root: str, output: Path, extra: Sequence[str] = ()) -> list[str]:
        """Return what follows `python train.py`; `extra` KEY VALUE pairs come last and win."""
        flags = {
            "--root": "" if root == "demo" else root,
            "--seed": str(self.seed),
            "--trainer": self.trainer,
            "--dataset-config-file": str(CONFIGS / "datasets" / f"{self.dataset}.yaml"),
            "--config-file": str(self.config),
            "--output-dir": str(output / self.folder),
        }
        words = [word for flag, value in flags.items() if value for word in (flag, value)]
        if self.training is not None:
            words.append("--eval-only")
            if requires_training(self.trainer):
                words += ["--model-dir", str(output / self.training.folder)]
        pairs = ["DATASET.NUM_SHOTS", str(self.shots)] if self.shots else []
        pairs += ["DATASET.SUBSAMPLE_CLASSES", self.classes]
        if self.trains:
            pairs += ["TRAIN.CHECKPOINT_FREQ", "1"]  # an interrupted run resumes at its last epoch
        return [*words, *pairs, *self.options, *extra]


def config_of(arguments: Sequence[str]) -> CfgNode:
    """Return the configuration of a call but for its seed and folders, read once for all seeds."""
    own, before = ("--seed", "--output-dir", "--model-dir"), ["", *arguments]
    words = zip(before, arguments, strict=False)
    return expected([word for flag, word in words if flag not in own and word not in own])


def settings(trainer: str, stem: str, shots: int) -> Path:
    """Return a method's YAML for a protocol (and its shots, if they matter), or for base-to-new.

    Raises:
        FileNotFoundError: the method has neither.
    """
    folder = CONFIGS / "trainers" / trainer
    candidates = (stem,) if stem == "demo" else (f"{stem}_{shots}", stem, FALLBACK)
    for name in candidates:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise FileNotFoundError(
        f"{trainer} has no settings for this protocol: "
        f"expected configs/trainers/{trainer}/{candidates[-1]}.yaml."
    )


def expand(protocol: Protocol) -> list[Run]:
    """Return all runs of a protocol, each training before its tests.

    A method without training depends on neither seed nor shots: it runs once.
    """
    return [
        run
        for label, (trainer, options) in protocol.rows.items()
        for dataset in protocol.train.datasets
        for shots in (protocol.shots if requires_training(trainer) else (0,))
        for seed in (protocol.seeds if requires_training(trainer) else UNTRAINED_SEEDS)
        for run in _chain(protocol, label, trainer, options, dataset, shots, seed)
    ]


def _chain(protocol, label, trainer, options, dataset, shots, seed) -> list[Run]:
    """Return a training and the tests of its prompts, all below one folder."""
    options = _sorted(*protocol.options, *options)
    config = settings(trainer, protocol.config, shots)
    classes = protocol.train.classes
    home = Path(dataset, classes, f"shots_{shots}", _slug(trainer, options), config.stem)
    home = home / f"seed{seed}"
    training = Run(label, trainer, options, config, dataset, classes, shots, seed, home / "train")
    classes, tests = protocol.test.classes, []
    for other in (dataset,) if protocol.same else protocol.test.datasets:
        folder = home / f"test_{classes if other == dataset else other}"
        place = {"dataset": other, "classes": classes, "folder": folder}
        tests.append(replace(training, **place, training=training))
    return [training, *tests]


def _sorted(*pairs: str) -> tuple[str, ...]:
    """Sort KEY VALUE pairs by their keys; of two with one key the later counts."""
    options = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return tuple(word for pair in sorted(options.items()) for word in pair)


def _slug(trainer: str, options: Sequence[str]) -> str:
    """Name the folder of a method with overrides, such as MMLoP-RANK_2 or MMLoP-ViT-B-32."""
    parts = [trainer]
    for key, value in zip(options[::2], options[1::2], strict=True):
        value = re.sub(r"[^\w.+-]+", "-", value) or "none"
        parts.append(value if key == "MODEL.BACKBONE.NAME" else f"{key.rpartition('.')[2]}_{value}")
    return "-".join(parts)
