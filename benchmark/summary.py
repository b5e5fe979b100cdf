"""Say what planned runs will take, and afterwards what they found."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from tabulate import tabulate
from yacs.config import CfgNode

from benchmark.plan import Run
from benchmark.worker import Call, Outcome
from experiment.cli import expected

# Test images of base and of new classes in CoOp's splits: table 8 of PromptKD's
# docs/PromptKD_chinese_version.pdf (github.com/zhengli97/PromptKD at ec244f783c8b).
TEST_IMAGES = {
    "ImageNet": (25000, 25000),
    "Caltech101": (1549, 916),
    "OxfordPets": (1881, 1788),
    "StanfordCars": (4002, 4039),
    "OxfordFlowers": (1053, 1410),
    "Food101": (15300, 15000),
    "FGVCAircraft": (1666, 1667),
    "SUN397": (9950, 9900),
    "DescribableTextures": (864, 828),
    "EuroSAT": (4200, 3900),
    "UCF101": (1934, 1849),
}
HEADER = ("", "trainings", "evaluations", "steps", "training images", "test images")
LISTED = 12  # runs of which the figures are listed


@dataclass(frozen=True)
class Workload:
    """What runs take. A step is one batch; a training ends with an evaluation."""

    trainings: int
    evaluations: int
    steps: int
    training_images: int
    test_images: int


def workload(planned: Sequence[tuple[Run, Call]]) -> Workload:
    """Add up what runs take, as their configuration and the published splits say.

    Few-shot draws are counted in full, though a class may have fewer images than shots.

    Raises:
        ValueError: a data set of unknown size.
    """
    trainings = steps = trained = tested = 0
    for run, call in planned:
        cfg = expected(call.arguments)
        classes, images = size(cfg)
        tested += images
        if run.trains:
            batch = cfg.DATALOADER.TRAIN_X.BATCH_SIZE
            shots = classes * cfg.DATASET.NUM_SHOTS
            # The loader drops the last partial batch, if there is a full one.
            batches, batch = max(1, shots // batch), min(batch, shots)
            trainings += 1
            steps += batches * cfg.OPTIM.MAX_EPOCH
            trained += batches * batch * cfg.OPTIM.MAX_EPOCH
    return Workload(trainings, len(planned), steps, trained, tested)


def size(cfg: CfgNode) -> tuple[int, int]:
    """Return how many classes and images a configuration's evaluation has.

    Raises:
        ValueError: a data set whose size is known only where its images lie.
    """
    name, subsample = cfg.DATASET.NAME, cfg.DATASET.SUBSAMPLE_CLASSES
    loader = DATASET_REGISTRY.get(name)
    if not loader.dataset_dir:
        return _rendered_size(name, subsample, cfg.TEST.SPLIT)
    classes, images = loader.classes, loader.images
    if name in TEST_IMAGES:
        base, new = TEST_IMAGES[name]
        images = {"base": base, "new": new, "all": base + new}[subsample]
    if not classes:
        raise ValueError(f"How many images {name} has is known only with its folder at hand.")
    base = math.ceil(classes / 2)
    return {"base": base, "new": classes - base, "all": classes}[subsample], images


@cache
def _rendered_size(name: str, subsample: str, split: str) -> tuple[int, int]:
    """Count classes and images of a data set without files, from itself."""
    loader = DATASET_REGISTRY.get(name)
    _, val, test = loader.read_splits(loader)
    labels = sorted({item.label for item in test})
    base = math.ceil(len(labels) / 2)
    kept = {"base": labels[:base], "new": labels[base:], "all": labels}[subsample]
    return len(kept), sum(item.label in kept for item in (val if split == "val" else test))


def workload_table(parts: dict[str, Sequence[tuple[Run, Call]]]) -> str:
    """Return a table of what each part takes; a run that several need counts once in the total."""
    lines = [(name, *astuple(workload(planned))) for name, planned in parts.items()]
    if len(parts) > 1:
        every = {call.folder: (run, call) for part in parts.values() for run, call in part}
        lines.append(("all together", *astuple(workload(list(every.values())))))
    return tabulate(lines, headers=HEADER, intfmt=",")


def findings(
    planned: Sequence[tuple[Run, Call]], outcomes: dict[Path, Outcome], output: Path
) -> str:
    """Return a list of what a few runs found, or how many of many are finished."""
    kinds = [outcomes[call.folder].kind if call.folder in outcomes else "" for _, call in planned]
    if len(planned) > LISTED:
        finished = sum(kind in ("finished", "skipped") for kind in kinds)
        failed = f", {kinds.count('failed')} failed" if "failed" in kinds else ""
        return (
            f"{finished} of {len(planned)} runs are finished{failed}. "
            f"Tables: python -m benchmark.report {output}"
        )
    lines = [
        (run.row, run.dataset, run.classes, run.seed, _accuracy(call, kind), relative(call.folder))
        for (run, call), kind in zip(planned, kinds, strict=True)
    ]
    header = ("method", "data set", "classes", "seed", "accuracy", "folder")
    return tabulate(lines, headers=header, disable_numparse=True)


def _accuracy(call: Call, kind: str) -> str:
    if kind in ("finished", "skipped"):
        record = json.loads((call.folder / "results.json").read_text(encoding="utf-8"))
        return f"{record['accuracy']:.2f}"
    return kind or "unfinished"


def relative(path: Path | str) -> str:
    """Return a path below the current folder without what is above it."""
    return str(path).removeprefix(f"{Path.cwd()}{os.sep}")
