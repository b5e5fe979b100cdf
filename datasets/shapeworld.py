"""Load ShapeWorld, the demo world: images of named shapes, rendered from a seed instead of read.

It has 48 classes such as "red star on a blue background". Each of the twelve shapes comes in two
neighbouring colours on two backgrounds, so every word of a name matters; the texture is random.
Labels are ordered by shape, so that the base classes and the new ones have different nouns, as in
real data sets. The world differs in two ways from the images that the demo CLIP was pretrained on
(`scripts/pretrain_demo.py`): they are harder to recognise, and a noun shifts the meaning of its
colour words, as in red hair, red onions and red foxes.
"""

import random
from dataclasses import replace
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
# The colours in the order of their hues; neighbours, which a shape comes in, are easily confused.
HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
DRIFT = 0.07  # of the circle of hues


def world_classes() -> list[shapes.Scene]:
    """Return the classes in the order of their labels."""
    rng = random.Random(WORLD_SEED)
    classes = []
    for shape in sorted(shapes.SHAPES):
        first = rng.randrange(len(HUES))
        colours = (HUES[first], HUES[(first + 1) % len(HUES)])
        backgrounds = rng.sample([name for name in shapes.COLOURS if name not in colours], 2)
        drift = rng.choice((-DRIFT, DRIFT))
        pairs = product(colours, backgrounds)
        classes += [shapes.Scene(shape, c, "plain", b, drift) for c, b in pairs]
    return classes


CLASSES = world_classes()


@lru_cache(maxsize=16384)
def render_image(world: str, split: str, label: int, index: int) -> Image.Image:
    """Render the image with this name; the name fixes its seed, and the result is cached."""
    variants = {"ShapeWorld": shapes.NATURAL, **shapes.VARIANTS}
    seed = [WORLD_SEED, list(variants).index(world), SPLIT_NUMBER[split], label, index]
    rng = np.random.default_rng(seed)
    scene = replace(CLASSES[label], texture=rng.choice(list(shapes.TEXTURES)))
    return Image.fromarray(shapes.render(scene, variants[world], rng))


class RenderedDatum(Datum):
    """Render an image when it is opened; its path "ShapeWorld/train/7/12" is only a name."""

    def open(self) -> Image.Image:
        world, split, label, index = self.impath.split("/")
        return render_image(world, split, int(label), int(index)).copy()


def _split(world: str, split: str, labels: list[int]) -> list[Datum]:
    return [
        RenderedDatum(f"{world}/{split}/{label}/{index}", position, 0, CLASSES[label].name)
        for position, label in enumerate(labels)
        for index in range(IMAGES_PER_CLASS[split])
    ]


@DATASET_REGISTRY.register()
class ShapeWorld(FewShotDataset):
    """Load the training world: 64 training, 32 validation and 40 test images per class."""

    labels = list(range(len(CLASSES)))

    def _few_shots(self, train, val, test, shots, seed):
        """Draw shots of training images only; settings are chosen on all validation images."""
        return super()._few_shots(train, val, test, shots, seed)[0], val

    def read_splits(self) -> tuple[list[Datum], list[Datum], list[Datum]]:
        train, val = (_split("ShapeWorld", split, self.labels) for split in ("train", "val"))
        return train, val, _split(type(self).__name__, "test", self.labels)


@DATASET_REGISTRY.register()
class ShapeWorldV2(ShapeWorld):
    """Test on a new draw with smaller shapes, further off the centre (as ImageNet-V2)."""


@DATASET_REGISTRY.register()
class ShapeWorldSketch(ShapeWorld):
    """Test on coloured strokes on pale paper (as ImageNet-Sketch)."""


@DATASET_REGISTRY.register()
class ShapeWorldA(ShapeWorld):
    """Test on small, rotated, hidden and crowded shapes of every second class (as ImageNet-A)."""

    labels = ShapeWorld.labels[::2]


@DATASET_REGISTRY.register()
class ShapeWorldR(ShapeWorld):
    """Test on posterised renditions of every second class (as ImageNet-R)."""

    labels = ShapeWorld.labels[::2]
