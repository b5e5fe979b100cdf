"""ShapeWorld, the demo world: pictures of named shapes, rendered from a seed instead of read.

Forty-eight classes such as "striped red star". Each of the twelve shapes comes in two colours and
two textures, so every word of a name matters. Classes are ordered by shape, so that the base
classes and the new ones have different nouns, as in real data sets. The renderings are harder than
those that the demo CLIP was pretrained on (`scripts/pretrain_demo.py`).
"""

import random
from functools import lru_cache
from itertools import product

import numpy as np
from dassl.data.datasets import DATASET_REGISTRY, Datum
from PIL import Image

from datasets import shapes
from datasets.base import FewShotDataset

WORLD_SEED = 2026
IMAGES_PER_CLASS = {"train": 64, "val": 32, "test": 40}
SPLIT_NUMBER = {"train": 0, "val": 1, "test": 2}


def world_classes() -> list[tuple[str, str, str]]:
    """The (shape, colour, texture) of each label."""
    rng = random.Random(WORLD_SEED)
    classes = []
    for shape in sorted(shapes.SHAPES):
        colours = sorted(rng.sample(list(shapes.COLOURS), 2))
        textures = sorted(rng.sample(list(shapes.TEXTURES), 2))
        classes += [(shape, colour, texture) for colour, texture in product(colours, textures)]
    return classes


CLASSES = world_classes()


@lru_cache(maxsize=16384)
def picture(world: str, split: str, label: int, index: int) -> Image.Image:
    """The picture that these four words name; the same on every machine."""
    variants = {"ShapeWorld": shapes.NATURAL, **shapes.VARIANTS}
    seed = [WORLD_SEED, list(variants).index(world), SPLIT_NUMBER[split], label, index]
    rng = np.random.default_rng(seed)
    shape, colour, texture = CLASSES[label]
    background = rng.choice([name for name in shapes.COLOURS if name != colour])
    scene = shapes.Scene(shape, colour, texture, background)
    return Image.fromarray(shapes.render(scene, variants[world], rng))


class RenderedDatum(Datum):
    """A picture drawn when it is opened; its path "ShapeWorld/train/7/12" is only a name."""

    def open(self) -> Image.Image:
        world, split, label, index = self.impath.split("/")
        return picture(world, split, int(label), int(index)).copy()


def _split(world: str, split: str, labels: list[int]) -> list[Datum]:
    items = []
    for position, label in enumerate(labels):
        shape, colour, texture = CLASSES[label]
        for index in range(IMAGES_PER_CLASS[split]):
            path = f"{world}/{split}/{label}/{index}"
            items.append(RenderedDatum(path, position, 0, f"{texture} {colour} {shape}"))
    return items


@DATASET_REGISTRY.register()
class ShapeWorld(FewShotDataset):
    """The world that is trained on: 64 training, 32 validation, 40 test pictures a class."""

    labels = list(range(len(CLASSES)))

    def read_splits(self) -> tuple[list[Datum], list[Datum], list[Datum]]:
        train, val = (_split("ShapeWorld", split, self.labels) for split in ("train", "val"))
        return train, val, _split(type(self).__name__, "test", self.labels)


@DATASET_REGISTRY.register()
class ShapeWorldV2(ShapeWorld):
    """Another draw, shapes smaller and further off the middle (the part of ImageNet-V2)."""


@DATASET_REGISTRY.register()
class ShapeWorldSketch(ShapeWorld):
    """Coloured strokes on pale paper (the part of ImageNet-Sketch)."""


@DATASET_REGISTRY.register()
class ShapeWorldA(ShapeWorld):
    """Small, turned, hidden and crowded shapes; every second class (the part of ImageNet-A)."""

    labels = ShapeWorld.labels[::2]


@DATASET_REGISTRY.register()
class ShapeWorldR(ShapeWorld):
    """Posterised renditions; every second class (the part of ImageNet-R)."""

    labels = ShapeWorld.labels[::2]
