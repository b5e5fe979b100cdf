"""Test the shared data-set logic on a small synthetic data set, against a plain reference."""

import json
import math

import pytest

from datasets import splits as splits_module
from datasets.splits import relabel, subsample_classes
from tests.datasets.tiny import (
    SIZES,
    Rendered,
    Tiny,
    World,
    build,
    make_split,
    paths,
    record_of,
    reference_draw,
    triples,
    write_world,
)

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
    assert "fewer than 7 train images in 1 of 5 classes; all of theirs are used" in notes.text
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


# Refusals


@pytest.mark.parametrize("shots", [0, -2])
def test_shots_refused(world, shots):
    with pytest.raises(ValueError, match=f"at least 1, or -1 for all, got {shots}"):
        build(world, shots=shots)


def test_subsample_refused(world):
    with pytest.raises(ValueError, match=r"one of \('all', 'base', 'new'\), got 'novel'"):
        build(world, subsample="novel")


def test_new_half_of_one_class_refused(tmp_path):
    with pytest.raises(ValueError, match="'new', but there is only the class"):
        subsample_classes([Rendered(0, "ant", "")], subsample="new")
    write_world(tmp_path, make_split(classes=["ant"]))
    with pytest.raises(ValueError, match="there is only the class 'ant', expected at least two"):
        build(tmp_path)


def test_missing_folders_and_files(world):
    folder = world / "tiny"
    with pytest.raises(FileNotFoundError, match="holds tiny, got '.*nowhere', which is not a "):
        build(world / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds tiny, got ''"):
        build("")
    with pytest.raises(FileNotFoundError, match="Tiny expects the folder .*tiny/tiny, which"):
        build(folder)
    (folder / "split_tiny.json").rename(world / "kept.json")
    with pytest.raises(FileNotFoundError, match="get split_tiny.json from http.* put it in .*tiny"):
        build(world)
    (folder / "images").rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match="expects the folder .*tiny/images, which"):
        build(world)


@pytest.mark.parametrize("name", SIZES)
def test_missing_image(world, name):
    image = world / "tiny" / "images" / "emu" / f"{name}_0.png"
    image.unlink()
    with pytest.raises(
        FileNotFoundError, match=f"1 of .* {name} images .* {image}; put the images"
    ):
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
        ('{"train": [], "val": []}', "the lists train, val and test .val may be missing., got"),
        ('{"train": [], "test": 5}', "the lists train, val and test .val may be missing., got"),
        ('{"val": [], "dev": [], "test": []}', "the lists train, val and test .*'dev'"),
        ("[" * 100000, "must be a JSON object with the lists train, val and test"),
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


def test_an_empty_test_split_is_refused(tmp_path):
    write_world(tmp_path, make_split() | {"test": []})
    with pytest.raises(ValueError, match="the test split is empty"):
        build(tmp_path)


@pytest.mark.parametrize("name", ["val", "validation", "Valid", "dev", "none"])
def test_val_may_be_empty_or_missing_or_called_otherwise(tmp_path, name):
    split = make_split()
    val = split.pop("val")
    dataset = build(write_world(tmp_path / "a", split | {name: []}))
    assert (dataset.val, len(dataset.train_x), dataset.test_only) == (None, 10, False)
    if name != "none":
        dataset = build(write_world(tmp_path / "b", split | {name: val}))
        assert triples(dataset.val) == reference_draw(split | {"val": val}, 2, 1)[1]


@pytest.mark.parametrize("change", [{"train": []}, {"train": [], "val": []}])
def test_test_images_alone_are_read_for_evaluation(tmp_path, change):
    dataset = build(write_world(tmp_path, make_split() | change), subsample="base")
    assert dataset.test_only and dataset.classnames == ["ant", "bee", "cat"]
    assert triples(dataset.test) == [e for e in map(tuple, make_split()["test"]) if e[1] < 3]


@pytest.mark.parametrize(
    "entry, message",
    [
        (["ant/train_0.png", 0, "ant"], "train_0.png is listed twice, in train and in test; expec"),
        (["ant/val_0.png", 0, "ant"], "val_0.png is listed twice, in val and in test"),
        (["ant/test_0.png", 0, "ant"], "test_0.png is listed twice, in test and in test"),
        (["./ant//train_0.png", 0, "ant"], "train_0.png is listed twice, in train and in test"),
        (["ant/a\nb.png", 0, "ant"], "must be UTF-8 without control characters"),
        (["ant/caf\udce9.png", 0, "ant"], "must be UTF-8 without control characters"),
    ],
)
def test_test_entry_refused(world, entry, message):
    split = make_split()
    split["test"].append(entry)
    (world / "tiny" / "split_tiny.json").write_text(json.dumps(split))
    with pytest.raises(ValueError, match=message):
        build(world)


@pytest.mark.parametrize(
    "names, message",
    [
        (["ant", "Ant"], "the class names 'ant' and 'Ant' are the same text for CLIP"),
        (["ant", "_"], "the class name '_' has 0 tokens"),
    ],
)
def test_names_that_clip_cannot_tell_apart_are_refused(tmp_path, names, message):
    write_world(tmp_path, make_split(classes=names))
    with pytest.raises(ValueError, match=f"Tiny .split_tiny.json.: {message}"):
        build(tmp_path)


def test_a_split_file_may_be_in_another_encoding(world):
    path = world / "tiny" / "split_tiny.json"
    text = path.read_text()
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert triples(build(world, shots=-1).test) == [tuple(e) for e in make_split()["test"]]
    path.write_bytes(text.replace('"ant"]', '"\u00e9"]').encode("latin-1"))
    with pytest.raises(
        ValueError, match="split_tiny.json must be text in UTF-8, got the byte 0xe9"
    ):
        build(world)


def test_the_classes_are_logged(world, tmp_path, notes):
    build(world, subsample="base")
    assert "3 classes: ant, bee, cat" in notes.messages
    many = [f"kind {i:02d}" for i in range(30)]
    build(write_world(tmp_path / "many", make_split(classes=many)))
    assert notes.messages[-1] == f"30 classes: {', '.join(many[:11])}, ..., kind 29"
    assert "only one class" not in notes.text
    write_world(tmp_path / "two", make_split(classes=["ant", "bee"]))
    build(tmp_path / "two", subsample="new")
    assert "There is only one class, so every answer is right" in notes.messages


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
