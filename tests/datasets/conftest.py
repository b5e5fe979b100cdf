"""Provide miniatures of the fifteen data sets, laid out as the real ones, and load them."""

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dassl.data.datasets import build_dataset
from dassl.utils import set_random_seed
from PIL import Image

from datasets import ON_DISK
from experiment import cli
from tests.datasets.tiny import make_split, write_world

ROOT = Path(__file__).resolve().parents[2]
PARTS = {"train": 3, "val": 2, "test": 2}  # images per class of a miniature
CONFIG_OF = {
    "ImageNet": "imagenet",
    "Caltech101": "caltech101",
    "OxfordPets": "oxford_pets",
    "StanfordCars": "stanford_cars",
    "OxfordFlowers": "oxford_flowers",
    "Food101": "food101",
    "FGVCAircraft": "fgvc_aircraft",
    "SUN397": "sun397",
    "DescribableTextures": "dtd",
    "EuroSAT": "eurosat",
    "UCF101": "ucf101",
    "ImageNetV2": "imagenetv2",
    "ImageNetSketch": "imagenet_sketch",
    "ImageNetA": "imagenet_a",
    "ImageNetR": "imagenet_r",
    "ImageFolder": "image_folder",
}
# (what the path of an image shows, class name) in label order, and the path of image i of class y.
SPLIT_SETS = {
    "Caltech101": (
        [("Faces", "face"), ("Leopards", "leopard"), ("accordion", "accordion")],
        lambda key, y, i, part: f"{key}/image_{i:04d}.jpg",
    ),
    "OxfordPets": (
        [("Abyssinian", "abyssinian"), ("american_bulldog", "american_bulldog"), ("Bengal",) * 2],
        lambda key, y, i, part: f"{key}_{i}.jpg",
    ),
    "OxfordFlowers": (
        [("", "pink primrose"), ("", "hard-leaved pocket orchid"), ("", "canterbury bells")],
        lambda key, y, i, part: f"image_{100 * y + i:05d}.jpg",
    ),
    "DescribableTextures": (
        [("banded",) * 2, ("blotchy",) * 2, ("braided",) * 2],
        lambda key, y, i, part: f"{key}/{key}_{i:04d}.jpg",
    ),
    "EuroSAT": (
        [("AnnualCrop", "Annual Crop Land"), ("Forest", "Forest"), ("SeaLake", "Sea or Lake")],
        lambda key, y, i, part: f"{key}/{key}_{i}.jpg",
    ),
    "StanfordCars": (
        [("", "2000 AM General Hummer SUV"), ("", "2012 Acura RL Sedan"), ("", "2012 Acura TL")],
        lambda key, y, i, part: (
            f"cars_{'test' if part == 'test' else 'train'}/{100 * y + i:05d}.jpg"
        ),
    ),
    "Food101": (
        [("apple_pie",) * 2, ("baby_back_ribs",) * 2, ("baklava",) * 2],
        lambda key, y, i, part: f"{key}/{1000 + i}.jpg",
    ),
    "SUN397": (
        [
            ("a/abbey", "abbey"),
            ("a/apartment_building/outdoor", "outdoor apartment_building"),
            ("b/bakery/shop", "shop bakery"),
        ],
        lambda key, y, i, part: f"{key}/sun_{i}.jpg",
    ),
    "UCF101": (
        [("Apply_Eye_Makeup",) * 2, ("Archery",) * 2, ("Yo_Yo",) * 2],
        lambda key, y, i, part: f"{key}/v_{key.replace('_', '')}_g01_c{i:02d}.jpg",
    ),
}
TRUE_SPLITS = ("Caltech101", "DescribableTextures", "EuroSAT", "OxfordFlowers", "OxfordPets")
# Twelve, so that the folder "10" of ImageNetV2 comes before "2" as text.
WORDNET = [(f"n{1440764 + i:08d}", f"kind {i} of fish") for i in range(12)]
VARIANT = [WORDNET[i] for i in (1, 4, 5, 9, 11)]  # those that ImageNet-A and -R have
VARIANTS = ["9.0", "707-320", "A300B4", "An-12", "Falcon 900"]


@dataclass
class Miniature:
    """Hold a data root with one data set in it, and what loading it must give."""

    root: Path
    folder: Path
    names: list[str]
    train: int  # images per class
    val: int | None
    test: int
    wnids: list[str] = field(default_factory=list)  # ImageNet's folders, in label order


def small_image(folder: Path) -> Path:
    path = folder / ".image.jpg"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path)
    return path


def lay_images(folder: Path, paths: list[str]) -> None:
    """Link the same small image at all these paths; 27000 hard links take a second."""
    source = small_image(folder)
    for parent in {os.path.dirname(path) for path in paths}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for path in paths:
        os.link(source, folder / path)


def make_miniature(name: str, root: Path) -> Miniature:
    """Write the miniature of a data set below `root`."""
    loader = ON_DISK[name]
    folder = root / loader.dataset_dir
    images = folder / loader.image_dir
    if name in SPLIT_SETS:
        return _make_split_set(name, root, folder, images)
    if name == "FGVCAircraft":
        return _make_aircraft(root, folder, images)
    (folder).mkdir(parents=True)
    if name in ("ImageNet", "ImageNetV2", "ImageNetSketch"):
        _write_names(folder / "classnames.txt")
    else:  # the names next to ImageNet's images serve as well
        (root / "imagenet").mkdir(exist_ok=True)
        _write_names(root / "imagenet" / "classnames.txt")
    classes = VARIANT if name in ("ImageNetA", "ImageNetR") else WORDNET
    if name == "ImageNet":
        for part, count in (("train", 3), ("val", 2)):
            lay_images(
                images / part, [f"{w}/{w}_{i}.JPEG" for w, _ in classes for i in range(count)]
            )
        return Miniature(root, folder, [c for _, c in classes], 3, 2, 2, [w for w, _ in classes])
    folders = [str(i) if name == "ImageNetV2" else w for i, (w, _) in enumerate(classes)]
    lay_images(images, [f"{f}/{i}.jpeg" for f in folders for i in range(2)])
    (images / "README.txt").write_text("no image")
    return Miniature(root, folder, [c for _, c in classes], 2, None, 2, [w for w, _ in classes])


def _write_names(path: Path) -> None:
    path.write_text("".join(f"{wnid} {name}\n" for wnid, name in WORDNET))


def _make_split_set(name: str, root: Path, folder: Path, images: Path) -> Miniature:
    classes, path_of = SPLIT_SETS[name]
    split, first = {}, 0
    for part, count in PARTS.items():
        split[part] = [
            [path_of(key, y, first + i, part), y, classname]
            for i in range(count)
            for y, (key, classname) in reversed(list(enumerate(classes)))
        ]
        first += count
    lay_images(images, [path for entries in split.values() for path, _, _ in entries])
    (folder / ON_DISK[name].split_file).write_text(json.dumps(split))
    return Miniature(root, folder, [c for _, c in classes], *PARTS.values())


def _make_aircraft(root: Path, folder: Path, images: Path) -> Miniature:
    folder.mkdir(parents=True)
    (folder / "variants.txt").write_text("".join(f"{name}\n" for name in VARIANTS))
    number = 1000000
    for part, count in PARTS.items():
        lines = []
        for name in reversed(VARIANTS):
            for _ in range(count):
                number += 1
                lines.append(f"{number} {name}\n")
        (folder / f"images_variant_{part}.txt").write_text("".join(lines))
        lay_images(images, [f"{line.split()[0]}.jpg" for line in lines])
    return Miniature(root, folder, VARIANTS, *PARTS.values())


def make_true_root(root: Path, shared: Path) -> Path:
    """Lay out the data sets whose true split files are at hand, with an image at every path."""
    for name in TRUE_SPLITS:
        loader = ON_DISK[name]
        folder = root / loader.dataset_dir
        folder.mkdir(parents=True)
        source = shared / ("caltech-101" if name == "Caltech101" else "splits") / loader.split_file
        (folder / loader.split_file).write_bytes(source.read_bytes())
        if name == "Caltech101":  # the photographs are at hand as well
            (folder / loader.image_dir).symlink_to(shared / "caltech-101" / loader.image_dir)
        else:
            split = json.loads(source.read_text())
            lay_images(
                folder / loader.image_dir, [path for part in split.values() for path, _, _ in part]
            )
    return root


def load_by_config(name: str, root: Path, *pairs: str, seed: int = 1):
    """Build a data set as train.py does from the data set's YAML; pairs are KEY VALUE."""
    config = ROOT / "configs" / "datasets" / f"{CONFIG_OF[name]}.yaml"
    args = cli.parse_args(
        ["--trainer", "ZeroshotCLIP", "--dataset-config-file", str(config), "--root", str(root)]
        + ["--backbone", "demo", "--seed", str(seed), "VERBOSE", "False", *pairs]
    )
    cfg = cli.setup_cfg(args)
    assert name == cfg.DATASET.NAME
    set_random_seed(cfg.SEED)
    return build_dataset(cfg)


@pytest.fixture
def miniature(tmp_path):
    return lambda name: make_miniature(name, tmp_path / "data")


@pytest.fixture(scope="session")
def true_root(tmp_path_factory, shared_data):
    return make_true_root(tmp_path_factory.mktemp("true"), shared_data)


@pytest.fixture
def load():
    return load_by_config


@pytest.fixture
def lay():
    return lay_images


@pytest.fixture
def world(tmp_path):
    """Write the small synthetic data set of `tiny.py`."""
    return write_world(tmp_path / "data", make_split())


@pytest.fixture
def notes(caplog, monkeypatch):
    """Capture the log, although the engine's logger does not propagate its records."""
    monkeypatch.setattr(logging.getLogger("dassl"), "propagate", True)
    caplog.set_level(logging.INFO, logger="dassl")
    return caplog
