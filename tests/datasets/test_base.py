"""The shared data-set logic on a small synthetic data set, against a plain reference."""

import hashlib
import json
import logging
import math
import os
import random
import shutil

import pytest
from dassl.config import get_cfg_default
from dassl.data.datasets import Datum
from PIL import Image

from datasets import splits as splits_module
from datasets.base import FewShotDataset
from datasets.splits import relabel, subsample_classes

CLASSES = ["ant", "bee", "cat", "dog", "emu"]
SIZES = {"train": 7, "val": 5, "test": 3}  # images per class


class Tiny(FewShotDataset):
    dataset_dir = "tiny"
    image_dir = "images"
    split_file = "split_tiny.json"


class Rendered(Datum):
    """An item without a file, which carries more than a Datum."""

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
    """Labels interleaved and from the last to the first, so that order matters in a draw."""
    split = {}
    for name, size in sizes.items():
        split[name] = [
            [f"{classname}/{name}_{i}.png", label, classname]
            for i in range(size)
            for label, classname in reversed(list(enumerate(classes)))
        ]
    return split


def write_world(root, split):
    """A data root with the split file, and a picture wherever the split has a path for one."""
    folder = root / "tiny"
    (folder / "images").mkdir(parents=True)
    (folder / "split_tiny.json").write_text(json.dumps(split))
    picture = folder / "picture.png"
    Image.new("RGB", (2, 2), "red").save(picture)
    for entry in [entry for entries in split.values() for entry in entries]:
        path = folder / "images" / str(entry[0])
        path.parent.mkdir(exist_ok=True)
        shutil.copy(picture, path)
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
    """CoOp's rule in plain Python: classes in order of appearance, train before val."""
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


@pytest.fixture
def world(tmp_path):
    return write_world(tmp_path / "data", make_split())


@pytest.fixture(autouse=True)
def notes(caplog, monkeypatch):
    """The log, also where the engine keeps its logger from passing records on."""
    monkeypatch.setattr(logging.getLogger("dassl"), "propagate", True)
    caplog.set_level(logging.INFO, logger="dassl")
    return caplog


# The draw


@pytest.mark.parametrize("shots", [1, 2, 5, 7, 9])
def test_draw_follows_the_rule(world, shots):
    train, val = reference_draw(make_split(), shots, seed=3)
    dataset = build(world, shots=shots, seed=3)
    assert triples(dataset.train_x) == train
    assert triples(dataset.val) == val
    assert len(dataset.test) == 15


def test_all_shots(world):
    dataset = build(world, shots=-1)
    assert triples(dataset.train_x) == [tuple(entry) for entry in make_split()["train"]]
    assert not record_of(world, shots=-1).parent.exists()


def test_seeds_differ(world):
    assert paths(build(world, seed=1).train_x) != paths(build(world, seed=2).train_x)


def test_small_classes_are_taken_whole_and_noted(tmp_path, notes):
    split = make_split()
    split["train"] = [x for x in split["train"] if x[2] != "cat" or "_0" in x[0]]
    dataset = build(write_world(tmp_path, split), shots=7)
    assert sum(item.classname == "cat" for item in dataset.train_x) == 1
    assert sum(item.classname == "dog" for item in dataset.train_x) == 7
    assert "1 of 5 classes have fewer than 7 train images; all of theirs are used" in notes.text
    assert "val images" not in notes.text


# Base and new classes


@pytest.mark.parametrize(
    "subsample, names", [("base", ["ant", "bee", "cat"]), ("new", ["dog", "emu"])]
)
def test_halves_are_cut_from_the_same_draw(world, subsample, names):
    whole = build(world)
    half = build(world, subsample=subsample)
    assert half.classnames == names
    assert half.num_classes == len(names)
    for items, cut in zip(
        (whole.train_x, whole.val, whole.test), (half.train_x, half.val, half.test), strict=True
    ):
        wanted = [(p, names.index(c), c) for p, _, c in triples(items) if c in names]
        assert triples(cut) == wanted
    assert [item.label for item in whole.test[:5]] == [4, 3, 2, 1, 0]  # not relabelled in place


def test_subsample_takes_the_larger_half_as_base():
    for n in range(2, 9):
        items = [Rendered(y, str(y), "") for y in range(n)]
        (base,), (new,) = (subsample_classes(items, subsample=s) for s in ("base", "new"))
        assert len(base) == math.ceil(n / 2)
        assert [int(item.classname) for item in base + new] == list(range(n))
        assert [item.label for item in new] == list(range(n - len(base)))


def test_relabel_copies_and_keeps_the_type():
    item = Rendered(7, "owl", "at night")
    other = relabel(item, 0)
    assert (type(other), other.label, other.classname, other.scene) == (
        Rendered, 0, "owl", "at night",
    )  # fmt: skip
    assert item.label == 7


# Data sets without a split file


def test_rendered_data_need_no_root_and_keep_their_type():
    dataset = build("", loader=World, subsample="new")
    assert [item.scene.split()[1] for item in dataset.train_x] == ["dog", "dog", "emu", "emu"]
    assert {type(item) for item in dataset.train_x + dataset.val + dataset.test} == {Rendered}
    assert dataset.lab2cname == {0: "dog", 1: "emu"}


def test_the_test_split_and_none_are_not_drawn_from():
    class ValIsTest(World):
        def read_splits(self):
            train, _, test = super().read_splits()
            return train, test, test

    class TestOnly(World):
        def read_splits(self):
            test = super().read_splits()[2]
            return test, None, test

    dataset = build("", loader=ValIsTest)
    assert [len(x) for x in (dataset.train_x, dataset.val, dataset.test)] == [10, 30, 30]
    dataset = build("", loader=TestOnly, subsample="base")
    assert [len(dataset.train_x), dataset.val, len(dataset.test)] == [18, None, 18]


# The record of a draw


def test_record_has_relative_paths_and_the_hash_of_the_split(world):
    dataset = build(world, subsample="new")
    record = json.loads(record_of(world).read_text())
    train, val = reference_draw(make_split(), 2, 1)
    assert record == {
        "split_sha256": hashlib.sha256((world / "tiny/split_tiny.json").read_bytes()).hexdigest(),
        "train": [list(x) for x in train],  # of all classes, with their own labels
        "val": [list(x) for x in val],
    }
    assert len(dataset.train_x) == 4
    assert os.listdir(record_of(world).parent) == ["shot_2-seed_1.json"]  # no drafts


def test_record_changes_nothing(world, notes):
    first, state = build(world), random.getstate()
    written = record_of(world).stat().st_mtime_ns
    second = build(world)
    assert random.getstate() == state
    assert triples(second.train_x) == triples(first.train_x)
    assert triples(second.val) == triples(first.val)
    assert record_of(world).stat().st_mtime_ns == written
    assert "shot_2-seed_1.json" not in notes.text


def test_record_moves_with_the_folder(world, tmp_path, notes):
    first = build(world)
    moved = shutil.move(world, tmp_path / "elsewhere")
    second = build(moved)
    assert triples(second.train_x) == triples(first.train_x)
    assert all(item.impath.startswith(str(moved)) for item in second.train_x)
    assert "shot_2-seed_1.json" not in notes.text


def test_a_record_that_differs_counts(world, notes):
    other, state = build(world, seed=2), random.getstate()
    record_of(world, seed=2).rename(record_of(world, seed=1))
    dataset = build(world, seed=1)
    assert triples(dataset.train_x) == triples(other.train_x)
    assert triples(dataset.val) == triples(other.val)
    assert "shot_2-seed_1.json differs from the draw of this run; the file is used" in notes.text
    after = random.getstate()
    assert after != state
    record_of(world, seed=1).unlink()
    build(world, seed=1)
    assert random.getstate() == after


def test_a_stale_record_is_noticed_and_replaced(world, notes):
    build(world)
    split = make_split()
    split["train"].reverse()
    (world / "tiny/split_tiny.json").write_text(json.dumps(split))
    dataset = build(world)
    assert triples(dataset.train_x) == reference_draw(split, 2, 1)[0]
    assert "is stale, so shots are drawn anew" in notes.text
    notes.clear()
    build(world)
    assert "shot_2-seed_1.json" not in notes.text


def test_a_draw_that_the_seed_does_not_explain_is_not_recorded(world):
    build(world, seed=1, draw_seed=5)
    assert not record_of(world).exists()
    seeded = build(world, seed=1)
    unseeded = build(world, seed=1, draw_seed=5)
    assert triples(unseeded.train_x) == triples(seeded.train_x)


def test_a_negative_seed_has_no_record(world):
    build(world, seed=-1, draw_seed=5)
    assert not record_of(world).parent.exists()
    record_of(world).parent.mkdir()
    record_of(world, seed=-1).write_text("not to be read")
    build(world, seed=-1, draw_seed=5)


def test_pickles_of_upstream_are_ignored(world):
    record_of(world).parent.mkdir()
    record_of(world).with_suffix(".pkl").write_bytes(b"not a pickle")
    assert triples(build(world).train_x) == reference_draw(make_split(), 2, 1)[0]


def test_a_folder_that_cannot_be_written_to_is_no_failure(world, notes):
    record_of(world).parent.write_text("a file in the place of the folder")
    assert triples(build(world).train_x) == reference_draw(make_split(), 2, 1)[0]
    assert "is not recorded" in notes.text


def test_a_read_only_folder_is_left_alone_even_by_root(world, notes):
    (world / "tiny").chmod(0o555)
    try:
        build(world)
        assert not record_of(world).parent.exists()
        assert "tiny is read-only" in notes.text
    finally:
        (world / "tiny").chmod(0o755)


def test_a_failed_write_leaves_nothing_behind(world, notes, monkeypatch):
    replace = os.replace

    def fail(source, target):
        if target == record_of(world):
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr("datasets.base.os.replace", fail)
    build(world)
    assert os.listdir(record_of(world).parent) == []
    assert "disk full" in notes.text


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda r: r["train"][0].__setitem__(0, "ant/other.png"), r"1 others \[\('ant/other.png'"),
        (lambda r: r["val"].__delitem__(slice(0, 2)), r"1 labels without an image \[4\]"),
        (lambda r: r.pop("split_sha256"), r"is no record .*KeyError\('split_sha256'\).*delete it"),
        (lambda r: r["train"].append(["ant/train_0.png"]), "is no record of a few-shot draw"),
    ],
)
def test_a_broken_record_is_refused(world, change, text):
    build(world)
    record = json.loads(record_of(world).read_text())
    change(record)
    record_of(world).write_text(json.dumps(record))
    with pytest.raises(ValueError, match=text):
        build(world)


# Refusals


@pytest.mark.parametrize("shots", [0, -2])
def test_shots_refused(world, shots):
    with pytest.raises(ValueError, match=f"at least 1, or -1 for all, got {shots}"):
        build(world, shots=shots)


def test_subsample_refused(world):
    with pytest.raises(ValueError, match=r"one of \('all', 'base', 'new'\), got 'novel'"):
        build(world, subsample="novel")


def test_new_half_of_one_class_refused(tmp_path):
    write_world(tmp_path, make_split(classes=["ant"]))
    with pytest.raises(ValueError, match="'new', but there is only the class"):
        build(tmp_path, subsample="new")


def test_missing_folders_and_files(world):
    folder = world / "tiny"
    with pytest.raises(FileNotFoundError, match="holds tiny, got '.*nowhere', which is no folder"):
        build(world / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds tiny, got ''"):
        build("")
    with pytest.raises(FileNotFoundError, match="Tiny expects the folder .*tiny/tiny, which"):
        build(folder)
    (folder / "split_tiny.json").rename(world / "kept.json")
    with pytest.raises(FileNotFoundError, match="get split_tiny.json from http.* put it in .*tiny"):
        build(world)
    (folder / "images").rename(folder / "pictures")
    with pytest.raises(FileNotFoundError, match="expects the folder .*tiny/images, which"):
        build(world)


@pytest.mark.parametrize("name", SIZES)
def test_missing_image(world, name):
    image = world / "tiny" / "images" / "emu" / f"{name}_0.png"
    image.unlink()
    with pytest.raises(FileNotFoundError, match=f"1 of .* {name} images .* {image}; unpack"):
        build(world, shots=-1)


def test_long_splits_are_looked_at_evenly(world, monkeypatch):
    monkeypatch.setattr(splits_module, "MAX_CHECKED", 4)
    for image in (world / "tiny" / "images").glob("*/test_*.png"):
        image.unlink()
    with pytest.raises(FileNotFoundError, match="4 of 4 test images"):
        build(world)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"train": [', "must be a JSON object with the lists train, val and test"),
        ("[]", "must be a JSON object with the lists train, val and test"),
        ('{"train": [], "test": []}', r"train, val and test, got KeyError\('val'\)"),
    ],
)
def test_broken_split_file(world, text, message):
    (world / "tiny" / "split_tiny.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        build(world)


@pytest.mark.parametrize(
    "entry, message",
    [
        (["/etc/ant.png", 0, "ant"], "must stay inside .*images, got '/etc/ant.png'"),
        (["ant/../../a.png", 0, "ant"], r"must stay inside .*images, got 'ant/\.\./\.\./a.png'"),
        (["ant/a.png", 0], r"must be \[path, label, class name\], got \['ant/a.png', 0\]"),
        (["ant/train_0.png", "0", "ant"], r"must be \[path, label, class name\]"),
        ("ant/train_0.png", r"must be \[path, label, class name\]"),
        (["ant/train_0.png", 0, "bee"], "label 0 has two class names, 'ant' and 'bee'"),
        (["ant/train_0.png", 1, "ant"], "label 1 has two class names, 'bee' and 'ant'"),
        (["ant/train_0.png", 5, "ant"], "class 'ant' has two labels, 0 and 5"),
        (["ant/train_0.png", 1, "bee"], "image .*ant/train_0.png has two labels, 0 and 1"),
        (["ant/train_0.png", 7, "fox"], "labels of 6 classes must be 0 to 5, got 0 to 7 without 5"),
        (["ant/train_0.png", -1, "fox"], "must be 0 to 5, got -1 to 4 without 5"),
    ],
)
def test_split_entry_refused(world, entry, message):
    split = make_split()
    split["train"].append(entry)
    (world / "tiny" / "split_tiny.json").write_text(json.dumps(split))
    with pytest.raises(ValueError, match=message):
        build(world)


@pytest.mark.parametrize("name", SIZES)
def test_empty_split_refused(tmp_path, name):
    write_world(tmp_path, make_split() | {name: []})
    with pytest.raises(ValueError, match=f"the {name} split is empty"):
        build(tmp_path)


@pytest.mark.parametrize("name", ["val", "test"])
def test_class_without_training_images_refused(tmp_path, name):
    split = make_split()
    split[name].append([f"fox/{name}_0.png", 5, "fox"])
    write_world(tmp_path, split)
    with pytest.raises(ValueError, match=rf"label 5 \('fox'\) is in {name} but not in train"):
        build(tmp_path)


def test_shared_names_only_where_the_loader_says_so(tmp_path):
    class Twins(Tiny):
        unique_names = False

    split = make_split(classes=["missile", "ant", "missile"])
    for entry in [entry for entries in split.values() for entry in entries if entry[1] == 2]:
        entry[0] = entry[0].replace("missile/", "other missile/")
    write_world(tmp_path, split)
    with pytest.raises(ValueError, match="class 'missile' has two labels"):
        build(tmp_path)
    assert build(tmp_path, loader=Twins).classnames == ["missile", "ant", "missile"]
