"""Test Caltech101 against the draws of CoOp and the image counts behind published accuracies."""

import json
import os
import random
from pathlib import Path

import pytest
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY

from datasets.caltech101 import Caltech101

PROJECT = Path(__file__).resolve().parents[2]
DATA = PROJECT.parent / "shared" / "data"
FOLDER = DATA / "caltech-101"
DRAWS = FOLDER / "coop_fewshot_draws_seed1.json"

pytestmark = pytest.mark.skipif(not DRAWS.exists(), reason=f"needs {FOLDER}")


@pytest.fixture
def root(tmp_path):
    """Link the data from a new root, so that no records are written next to them."""
    folder = tmp_path / "caltech-101"
    folder.mkdir()
    for name in (Caltech101.image_dir, Caltech101.split_file):
        (folder / name).symlink_to(FOLDER / name)
    return tmp_path


def build(root, shots, subsample="all", seed=1):
    cfg = get_cfg_default()
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    cfg.merge_from_file(str(PROJECT / "configs" / "datasets" / "caltech101.yaml"))
    cfg.merge_from_list(["DATASET.ROOT", str(root), "DATASET.NUM_SHOTS", shots, "SEED", seed])
    cfg.DATASET.SUBSAMPLE_CLASSES = subsample
    random.seed(seed)
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)


def paths(items, folder):
    return [os.path.relpath(item.impath, folder / "101_ObjectCategories") for item in items]


@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_draws_equal_those_of_coop(root, shots):
    wanted = json.loads(DRAWS.read_text())[f"shots{shots}_seed1"]
    for _ in ("drawn", "recorded"):
        dataset = build(root, shots)
        assert paths(dataset.train_x, root / "caltech-101") == wanted["train"]
        assert paths(dataset.val, root / "caltech-101") == wanted["val"]
    assert (root / "caltech-101" / "split_fewshot" / f"shot_{shots}-seed_1.json").exists()


@pytest.mark.parametrize(
    "subsample, images, first, last",
    [("base", 1549, "face", "helicopter"), ("new", 916, "ibis", "yin_yang")],
)
def test_halves(root, subsample, images, first, last):
    dataset = build(root, 16, subsample)
    assert len(dataset.test) == images
    assert dataset.num_classes == len(dataset.classnames) == 50
    assert sorted({item.label for item in dataset.test}) == list(range(50))
    assert len(dataset.train_x) == 16 * 50 and len(dataset.val) == 4 * 50
    assert (dataset.classnames[0], dataset.classnames[-1]) == (first, last)


def test_whole(root):
    dataset = build(root, -1)
    sizes = [len(items) for items in (dataset.train_x, dataset.val, dataset.test)]
    assert sizes == [4128, 1649, 2465]
    assert dataset.num_classes == 100
    assert dataset.classnames[:5] == ["face", "leopard", "motorbike", "accordion", "airplane"]
    assert not {"BACKGROUND_Google", "Faces_easy"} & set(dataset.classnames)
