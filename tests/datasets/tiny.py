"""Provide a small synthetic data set, a way to build it, and CoOp's draw in plain Python."""

import json
import os
import random
import shutil

from dassl.config import get_cfg_default
from dassl.data.datasets import Datum
from PIL import Image

from datasets.base import FewShotDataset

CLASSES = ["ant", "bee", "cat", "dog", "emu"]
SIZES = {"train": 7, "val": 5, "test": 3}  # images per class


class Tiny(FewShotDataset):
    dataset_dir = "tiny"
    image_dir = "images"
    split_file = "split_tiny.json"


class Rendered(Datum):
    """Hold an item without a file, with one attribute more than a Datum."""

    def __init__(self, label, classname, scene):
        self._impath, self._label, self._domain, self._classname = "", label, 0, classname
        self.scene = scene


class World(FewShotDataset):
    def read_splits(self):
        return tuple(
            [Rendered(y, c, f"{name} {c} {i}") for y, c in enumerate(CLASSES) for i in range(6)]
            for name in ("train", "val", "test")
        )


def make_split(sizes=SIZES, classes=CLASSES):
    """Return a split with labels interleaved, from last to first, so that order matters."""
    split = {}
    for name, size in sizes.items():
        split[name] = [
            [f"{classname}/{name}_{i}.png", label, classname]
            for i in range(size)
            for label, classname in reversed(list(enumerate(classes)))
        ]
    return split


def write_world(root, split):
    """Write a data root with the split file, and an image at every path of the split."""
    folder = root / "tiny"
    (folder / "images").mkdir(parents=True)
    (folder / "split_tiny.json").write_text(json.dumps(split))
    source = folder / "source.png"
    Image.new("RGB", (2, 2), "red").save(source)
    for entry in [entry for entries in split.values() for entry in entries]:
        path = folder / "images" / str(entry[0])
        path.parent.mkdir(exist_ok=True)
        shutil.copy(source, path)
    return root


def make_cfg(root, shots=2, seed=1, subsample="all"):
    cfg = get_cfg_default()
    cfg.SEED = seed
    cfg.DATASET.ROOT = str(root)
    cfg.DATASET.NUM_SHOTS = shots
    cfg.DATASET.SUBSAMPLE_CLASSES = subsample
    return cfg


def build(root, loader=Tiny, draw_seed=None, **kwargs):
    cfg = make_cfg(root, **kwargs)
    random.seed(cfg.SEED if draw_seed is None else draw_seed)
    return loader(cfg)


def paths(items):
    return ["/".join(item.impath.split(os.sep)[-2:]) for item in items]


def triples(items):
    return [(p, item.label, item.classname) for p, item in zip(paths(items), items, strict=True)]


def record_of(root, shots=2, seed=1):
    return root / "tiny" / "split_fewshot" / f"shot_{shots}-seed_{seed}.json"


def reference_draw(split, shots, seed):
    """Draw by CoOp's rule in plain Python: classes in order of appearance, train before val."""
    rng = random.Random(seed)
    drawn = []
    for name, k in (("train", shots), ("val", min(shots, 4))):
        order = list(dict.fromkeys(label for _, label, _ in split[name]))
        chosen = []
        for y in order:
            pool = [tuple(entry) for entry in split[name] if entry[1] == y]
            chosen += rng.sample(pool, k) if len(pool) >= k else pool
        drawn.append(chosen)
    return drawn
