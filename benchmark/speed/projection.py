"""The hours that training for the paper's tables takes, from measured steps.

Seconds are a straight line over the number of classes. Evaluations (some hundredths of the whole)
and loading data are not in it.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from numpy.polynomial import Polynomial

from benchmark import plan, protocol
from experiment import cli
from experiment.config import CONFIGS


def project(records: Iterable[Mapping], side: str) -> dict[str, float | None]:
    """Return hours on one device by protocol; None where steps were not measured at its batch
    size with two numbers of classes."""
    lines = {}
    measured = [r for r in records if r["what"] == "step" and "seconds" in r.get(side, {})]
    for batch in {record["batch"] for record in measured}:
        points = {r["classes"]: r[side]["seconds"] for r in measured if r["batch"] == batch}
        if len(points) > 1:
            lines[batch] = Polynomial.fit(list(points), list(points.values()), 1)
    hours = {}
    for name in protocol.ORDER:
        steps = [count_steps(run) for run in plan.expand(protocol.load(name)) if run.trains]
        known = all(batch in lines for _, _, batch in steps)
        total = sum(count * max(0.0, lines[b](classes)) for count, classes, b in steps if known)
        hours[name] = float(total) / 3600 if known else None
    return hours


def count_steps(run: plan.Run) -> tuple[int, int, int]:
    """Return the training steps of a run, its classes, and the images per step."""
    epochs, batch = _schedule(run.trainer, run.config, run.options)
    registered = {stem: name for name, stem in protocol.dataset_stems().items()}
    every = DATASET_REGISTRY.get(registered[run.dataset]).classes
    classes = {"all": every, "base": (every + 1) // 2, "new": every // 2}[run.classes]
    return epochs * (classes * run.shots // batch), classes, batch


@cache
def _schedule(trainer: str, config: Path, options: tuple[str, ...]) -> tuple[int, int]:
    """Return the epochs, and the images in a training step."""
    words = ["--trainer", trainer, "--dataset-config-file", str(CONFIGS / "datasets/imagenet.yaml")]
    cfg = cli.setup_cfg(cli.parse_args([*words, "--config-file", str(config), *options]))
    return cfg.OPTIM.MAX_EPOCH, cfg.DATALOADER.TRAIN_X.BATCH_SIZE
