"""Count what planned runs take: trainings, evaluations, steps, images."""

import math
from collections import Counter
from collections.abc import Iterable
from functools import cache

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

from datasets.splits import subsample_classes

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
COUNTED = ("trainings", "evaluations", "steps", "training images", "test images")


def workload(runs: Iterable[tuple[bool, CfgNode]]) -> Counter:
    """Add up COUNTED over runs: do they train, and their configuration.

    A step is one batch; a training ends with an evaluation. Few-shot draws are counted in full,
    though a class may have fewer images than shots.

    Raises:
        ValueError: a data set of unknown size.
    """
    total = Counter(dict.fromkeys(COUNTED, 0))
    for trains, cfg in runs:
        steps, batch = schedule(cfg) if trains else (0, 0)
        counts = (int(trains), 1, steps, steps * batch, size(cfg)[1])
        total.update(dict(zip(COUNTED, counts, strict=True)))
    return total


def schedule(cfg: CfgNode) -> tuple[int, int]:
    """Return the steps of a training, and the images in each.

    The loader drops the last partial batch, if there is a full one. A method may count its steps.
    """
    images = size(cfg)[0] * cfg.DATASET.NUM_SHOTS
    batch = min(cfg.DATALOADER.TRAIN_X.BATCH_SIZE, images)
    node = cfg.TRAINER[TRAINER_REGISTRY.get(cfg.TRAINER.NAME).node]
    counted = node.get("EPOCH_STEPS", 0) * max(cfg.DATASET.NUM_SHOTS, 0)
    return (counted or images // batch) * cfg.OPTIM.MAX_EPOCH, batch


def size(cfg: CfgNode) -> tuple[int, int]:
    """Return how many classes and images a configuration's evaluation has.

    Raises:
        ValueError: a data set whose size is known only where its images lie.
    """
    name, subsample = cfg.DATASET.NAME, cfg.DATASET.SUBSAMPLE_CLASSES
    loader = DATASET_REGISTRY.get(name)
    if not loader.dataset_dir:
        return _rendered_size(name, subsample, cfg.TEST.SPLIT)
    base = math.ceil(loader.classes / 2)
    classes = {"base": base, "new": loader.classes - base, "all": loader.classes}[subsample]
    if not classes:
        raise ValueError(f"How many images {name} has is known only with its folder at hand.")
    if name not in TEST_IMAGES:
        return classes, loader.images
    base, new = TEST_IMAGES[name]
    return classes, {"base": base, "new": new, "all": base + new}[subsample]


@cache
def _rendered_size(name: str, subsample: str, split: str) -> tuple[int, int]:
    """Count classes and images of a data set without files, from itself."""
    loader = DATASET_REGISTRY.get(name)
    _, val, test = loader.read_splits(loader)
    (items,) = subsample_classes(val if split == "val" else test, subsample=subsample)
    return len({item.label for item in items}), len(items)
