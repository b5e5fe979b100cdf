"""The hours that the tables of the paper take, from measured steps, evaluations and starts.

Between the numbers of classes that were measured times are taken as straight lines, beyond them as
the nearest of these lines. Every run is a process of its own, on one device. Not in it: loading
data, importing Python's packages, writing checkpoints.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY

import train
from benchmark import protocol as protocols
from benchmark.runs import Run, expand
from trainers.config import CONFIGS

# Test images of base and of new classes, as behind the published accuracies: table 8 of
# github.com/zhengli97/PromptKD@ec244f783c8b:docs/PromptKD_chinese_version.pdf. Their sums are the
# counts in datasets/*.py.
TEST_IMAGES = {
    "imagenet": (25000, 25000),
    "caltech101": (1549, 916),
    "oxford_pets": (1881, 1788),
    "stanford_cars": (4002, 4039),
    "oxford_flowers": (1053, 1410),
    "food101": (15300, 15000),
    "fgvc_aircraft": (1666, 1667),
    "sun397": (9950, 9900),
    "dtd": (864, 828),
    "eurosat": (4200, 3900),
    "ucf101": (1934, 1849),
}
# Whole test sets, as counted in datasets/*.py.
VARIANTS = {
    "imagenetv2": 10000,
    "imagenet_sketch": 50889,
    "imagenet_a": 7500,
    "imagenet_r": 30000,
}
IMAGES = 100  # in a batch of the reference's evaluation

Line = Callable[[float], float]


@dataclass(frozen=True)
class Costs:
    """Seconds by the number of classes.

    Attributes:
        step: of a training step.
        first, again: of a start, the first one with these classes, and a later one.
        text, image: of an evaluation, at its beginning and for each image.
    """

    step: Line
    first: Line
    again: Line
    text: Line
    image: Line


def line(points: Mapping[int, float]) -> Line:
    """Through the points, straight between them and beyond.

    Raises:
        ValueError: fewer than two points.
    """
    if len(points) < 2:
        raise ValueError("a line needs two points")
    known = sorted(points.items())

    def at(x: float) -> float:
        pairs = list(zip(known, known[1:], strict=False))
        (x0, y0), (x1, y1) = next((pair for pair in pairs if x <= pair[1][0]), pairs[-1])
        return max(0.0, y0 + (y1 - y0) * (x - x0) / (x1 - x0))

    return at


def costs_of(records: Iterable[Mapping], side: str, batch: int) -> Costs:
    """Of "ours" or of the "reference", from the records of a speed comparison.

    Args:
        batch: images in a training step.

    Raises:
        ValueError: too little was measured.
    """
    own = [record for record in records if "seconds" in record.get(side, {})]
    of = {what: [r for r in own if r["what"] == what] for what in ("step", "evaluation", "start")}
    of["step"] = [record for record in of["step"] if record["batch"] == batch]
    for what, found in of.items():
        if len({record["classes"] for record in found}) < 2:
            raise ValueError(f"{what} was not measured at two numbers of classes")

    def points(what: str, value: Callable[[Mapping, Mapping], float]) -> Line:
        return line({r["classes"]: value(r, r[side]) for r in of[what]})

    def start(found: Mapping, kind: str) -> float:
        return found["parts"].get(kind, found["parts"]["cold"])["whole"]

    return Costs(
        step=points("step", lambda _, found: found["seconds"]),
        first=points("start", lambda _, found: start(found, "cold")),
        again=points("start", lambda _, found: start(found, "warm")),
        text=points("evaluation", lambda _, found: found.get("text_seconds", 0.0)),
        image=points(
            "evaluation",
            lambda r, found: (found["seconds"] - found.get("text_seconds", 0.0)) / r["images"],
        ),
    )


def project(records: Sequence[Mapping], sides: Sequence[str]) -> list[dict]:
    """Hours of each table by itself, and of all of them with each run done once.

    Returns:
        Rows with "table", "trainings", "evaluations", and for each side its hours, or None where
        too little was measured.
    """
    tables = {name: expand(protocols.load(name)) for name in protocols.ORDER}
    everything = {run.folder: run for runs in tables.values() for run in runs}
    tables["all, each run once"] = list(everything.values())
    return [
        {
            "table": name,
            "trainings": sum(run.trains for run in runs),
            "evaluations": len(runs),
            **{side: _hours(runs, records, side) for side in sides},
        }
        for name, runs in tables.items()
    ]


def _hours(runs: Sequence[Run], records: Sequence[Mapping], side: str) -> float | None:
    seen: set[tuple[str, str]] = set()
    total = 0.0
    try:
        for run in runs:
            again = (run.dataset, run.classes) in seen
            seen.add((run.dataset, run.classes))
            total += seconds(run, lambda batch: costs_of(records, side, batch), again)
    except ValueError:
        return None
    return total / 3600


def seconds(run: Run, costs_for: Callable[[int], Costs], again: bool) -> float:
    """Of one call of train.py: its start, its steps where it trains, its evaluation.

    Args:
        costs_for: costs by the images in a training step.
        again: whether another run has made the frozen features of these classes.
    """
    epochs, batch = schedule(run.trainer, run.config, run.options)
    costs, classes = costs_for(batch), count_classes(run.dataset, run.classes)
    total = (costs.again if again else costs.first)(classes)
    if run.trains:
        total += epochs * (classes * run.shots // batch) * costs.step(classes)
    images = count_images(run.dataset, run.classes)
    return total + costs.text(classes) + images * costs.image(classes)


@cache
def schedule(trainer: str, config: Path, options: tuple[str, ...]) -> tuple[int, int]:
    """Epochs, and images in a training step."""
    words = ["--trainer", trainer, "--dataset-config-file", str(CONFIGS / "datasets/imagenet.yaml")]
    cfg = train.setup_cfg(train.parse_args([*words, "--config-file", str(config), *options]))
    return cfg.OPTIM.MAX_EPOCH, cfg.DATALOADER.TRAIN_X.BATCH_SIZE


def count_classes(dataset: str, classes: str) -> int:
    """Of a data set, by its stem; "base" is the larger half."""
    registered = {stem: name for name, stem in protocols.dataset_stems().items()}
    every = DATASET_REGISTRY.get(registered[dataset]).classes
    return {"all": every, "base": (every + 1) // 2, "new": every // 2}[classes]


def count_images(dataset: str, classes: str) -> int:
    """Test images of these classes."""
    if dataset in VARIANTS:
        return VARIANTS[dataset]
    base, new = TEST_IMAGES[dataset]
    return {"all": base + new, "base": base, "new": new}[classes]
