"""Test the five data sets with split files at hand against CoOp's draws and published counts."""

import hashlib
import json
import math
import os
import shutil
from pathlib import Path

import pytest

from datasets import ON_DISK

# Hashes of what CoOp's own loaders draw on upstream's engine; the file states how it was made.
COOP = json.loads(Path(__file__).with_name("coop_draws.json").read_text())["draws"]
SHOTS = (1, 2, 4, 8, 16)
# Key in published.json, and the sizes of train, val and test.
FACTS = {
    "Caltech101": ("caltech101", (4128, 1649, 2465)),
    "DescribableTextures": ("dtd", (2820, 1128, 1692)),
    "EuroSAT": ("eurosat", (13500, 5400, 8100)),
    "OxfordFlowers": ("oxford_flowers", (4093, 1633, 2463)),
    "OxfordPets": ("oxford_pets", (2944, 736, 3669)),
}


def fingerprint(dataset) -> str:
    lines = [
        f"{os.path.relpath(item.impath, dataset.image_folder)} {item.label} {item.classname}"
        for item in dataset.train_x + dataset.val
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", FACTS)
def test_counts_are_those_behind_published_accuracies(name, load, true_root, shared_data):
    key, sizes = FACTS[name]
    published = json.loads((shared_data / "published.json").read_text())["split_sizes"][key]
    whole = load(name, true_root)
    split = json.loads((whole.folder / whole.split_file).read_text())
    names = [name for _, name in sorted({(label, name) for _, label, name in split["train"]})]
    assert tuple(len(items) for items in (whole.train_x, whole.val, whole.test)) == sizes
    assert len(whole.train_x) == published["train_all"]
    assert (whole.classes, whole.images) == (len(names), sum(sizes))  # what check expects
    assert whole.classnames == names
    half = math.ceil(len(names) / 2)
    for subsample, part, key in (
        ("base", names[:half], "test_base"),
        ("new", names[half:], "test_novel"),
    ):
        dataset = load(name, true_root, "DATASET.SUBSAMPLE_CLASSES", subsample)
        assert len(dataset.test) == published[key]
        assert dataset.classnames == part
        assert {item.label for item in dataset.test} == set(range(len(part)))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", FACTS)
def test_draws_are_coop_s(name, seed, load, true_root):
    shots = range(1, 17) if (name, seed) == ("OxfordPets", 1) else SHOTS
    for k in shots:
        dataset = load(name, true_root, "DATASET.NUM_SHOTS", str(k), seed=seed)
        assert fingerprint(dataset) == COOP[name][f"seed {seed}"][k - 1], f"{k} shots"
        record = true_root / dataset.dataset_dir / "split_fewshot" / f"shot_{k}-seed_{seed}.json"
        assert record.is_file()


@pytest.mark.parametrize("name", FACTS)
def test_draws_come_again_from_the_record_and_after_a_move(name, load, tmp_path, true_root):
    folder, root = true_root / ON_DISK[name].dataset_dir, tmp_path / "here"
    shutil.copytree(folder, root / folder.name, symlinks=True, copy_function=link_or_copy)
    fingerprints = [fingerprint(load(name, root, "DATASET.NUM_SHOTS", "4", seed=2))]
    record = root / folder.name / "split_fewshot" / "shot_4-seed_2.json"
    written = record.stat().st_mtime_ns
    fingerprints.append(fingerprint(load(name, root, "DATASET.NUM_SHOTS", "4", seed=2)))
    root.rename(tmp_path / "there")
    moved = load(name, tmp_path / "there", "DATASET.NUM_SHOTS", "4", seed=2)
    fingerprints.append(fingerprint(moved))
    assert set(fingerprints) == {COOP[name]["seed 2"][3]}
    record = tmp_path / "there" / folder.name / "split_fewshot" / "shot_4-seed_2.json"
    assert record.stat().st_mtime_ns == written
    assert str(tmp_path) not in record.read_text()


def link_or_copy(source, target):
    if source.endswith(".json"):
        shutil.copy(source, target)
    else:
        os.link(source, target)
