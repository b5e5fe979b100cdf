"""Test the fifteen data sets, each on a miniature of its true layout."""

import json
import shutil

import pytest

import datasets
from datasets import FAMILY

NAMES = [loader.__name__ for loader in FAMILY]
WITH_SPLIT_FILE = [loader.__name__ for loader in FAMILY if loader.split_file]


def paths(items, folder):
    return [item.impath.removeprefix(f"{folder}/") for item in items]


def sizes(dataset):
    return [items and len(items) for items in (dataset.train_x, dataset.val, dataset.test)]


def test_there_are_fifteen():
    assert len(NAMES) == len(set(NAMES)) == 15
    assert len({loader.dataset_dir for loader in FAMILY}) == 15


@pytest.mark.parametrize("name", NAMES)
def test_names_labels_and_counts(name, miniature, load):
    world = miniature(name)
    dataset = load(name, world.root)
    n = len(world.names)
    assert type(dataset).__name__ == name
    assert dataset.classnames == world.names
    assert dataset.lab2cname == dict(enumerate(world.names))
    assert sizes(dataset) == [world.train * n, world.val and world.val * n, world.test * n]
    for items in (dataset.train_x, dataset.val or [], dataset.test):
        assert all(item.classname == world.names[item.label] for item in items)
    assert dataset.test[0].open().size == (8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_base_and_new_classes(name, miniature, load):
    world = miniature(name)
    half = (len(world.names) + 1) // 2
    for subsample, names in (("base", world.names[:half]), ("new", world.names[half:])):
        dataset = load(name, world.root, "DATASET.SUBSAMPLE_CLASSES", subsample)
        assert dataset.classnames == names
        assert sorted({item.label for item in dataset.test}) == list(range(len(names)))
        assert len(dataset.test) == world.test * len(names)


@pytest.mark.parametrize("name", NAMES)
def test_shots_again_from_the_record_and_after_a_move(name, miniature, tmp_path, load):
    world = miniature(name)
    draws = []
    for root in (world.root, world.root, tmp_path / "moved"):
        if root != world.root:
            shutil.move(world.root, root)
        dataset = load(name, root, "DATASET.NUM_SHOTS", "2", seed=3)
        draws.append([paths(items or [], root) for items in (dataset.train_x, dataset.val)])
        assert all(item.impath.startswith(str(root)) for item in dataset.train_x)
    assert draws[0] == draws[1] == draws[2]
    assert len(draws[0][0]) == 2 * len(world.names)
    record = tmp_path / "moved" / world.folder.name / "split_fewshot" / "shot_2-seed_3.json"
    assert record.exists() == (name in WITH_SPLIT_FILE)


@pytest.mark.parametrize("name", WITH_SPLIT_FILE)
def test_a_missing_split_file_is_an_error_that_helps(name, miniature, load):
    world = miniature(name)
    split = world.folder / f"split_zhou_{name}.json"
    split.unlink()
    with pytest.raises(FileNotFoundError) as error:
        load(name, world.root)
    text = str(error.value)
    assert f"the split file {split} is missing" in text and f"put it in {world.folder}" in text
    assert "get split_zhou_" in text and "https://drive.google.com/uc?id=" in text
    assert f"python -m datasets prepare --root {world.root} {name}" in text
    assert "DATASET.NEW_SPLIT" in text
    assert not split.exists()


@pytest.mark.parametrize("name", WITH_SPLIT_FILE)
def test_a_new_split_only_on_an_explicit_key(name, miniature, load):
    world = miniature(name)
    if name in ("OxfordFlowers", "StanfordCars"):
        with pytest.raises(ValueError, match=f"but {name} has no published split of folders"):
            load(name, world.root, "DATASET.NEW_SPLIT", "True")
        return
    published = load(name, world.root)
    new, again, other = (
        load(name, world.root, "DATASET.NEW_SPLIT", "True", "DATASET.SPLIT_SEED", seed)
        for seed in ("1", "1", "2")
    )
    assert published.split_source == f"split_zhou_{name}.json"
    assert new.split_source == "new random split, DATASET.SPLIT_SEED 1"
    assert [c.lower() for c in new.classnames] == [c.lower() for c in world.names]
    n = len(world.names)
    assert sizes(new) == [4 * n, 1 * n, 2 * n]
    everything = sorted(item.impath for x in (new.train_x, new.val, new.test) for item in x)
    assert everything == sorted(
        item.impath for x in (published.train_x, published.val, published.test) for item in x
    )
    assert paths(new.train_x, world.root) == paths(again.train_x, world.root)
    assert paths(new.train_x, world.root) != paths(other.train_x, world.root)
    load(name, world.root, "DATASET.NEW_SPLIT", "True", "DATASET.NUM_SHOTS", "1")
    assert not (world.folder / "split_fewshot").exists()  # records are the published split's


def test_a_new_split_leaves_out_what_the_published_one_leaves_out(miniature, load, lay):
    world = miniature("Caltech101")
    lay(world.folder / "101_ObjectCategories", [f"BACKGROUND_Google/{i}.jpg" for i in range(5)])
    dataset = load("Caltech101", world.root, "DATASET.NEW_SPLIT", "True")
    assert dataset.classnames == world.names


# What is special to some


def test_flowers_names_must_agree_with_the_split(miniature, load):
    world = miniature("OxfordFlowers")
    names = {str(i + 1): name for i, name in enumerate(world.names)}
    file = world.folder / "cat_to_name.json"
    file.write_text(json.dumps(names))
    assert load("OxfordFlowers", world.root).classnames == world.names
    file.write_text(json.dumps(names | {"2": "orchid"}))
    with pytest.raises(ValueError, match="class 1 is called 'hard-leaved .*' in .*split_zhou.* and "
                       "'orchid' in .*cat_to_name.json"):  # fmt: skip
        load("OxfordFlowers", world.root)


def test_aircraft_with_an_unknown_variant(miniature, load):
    world = miniature("FGVCAircraft")
    with (world.folder / "images_variant_val.txt").open("a") as file:
        file.write("1000001 Spitfire\n")
    with pytest.raises(ValueError, match="images_variant_val.txt has the variant 'Spitfire'"):
        load("FGVCAircraft", world.root)
    (world.folder / "variants.txt").unlink()
    with pytest.raises(FileNotFoundError, match="FGVCAircraft expects .*variants.txt"):
        load("FGVCAircraft", world.root)


def test_aircraft_with_lines_of_spaces(miniature, load):
    world = miniature("FGVCAircraft")
    for path in (world.folder / "variants.txt", world.folder / "images_variant_train.txt"):
        path.write_text(f"  \n{path.read_text()}\t\n\n")
    assert load("FGVCAircraft", world.root).classnames == world.names


def test_imagenet_validates_on_its_test_set(miniature, load):
    world = miniature("ImageNet")
    dataset = load("ImageNet", world.root, "DATASET.NUM_SHOTS", "1")
    assert sizes(dataset) == [12, 24, 24]
    assert paths(dataset.val, world.root) == paths(dataset.test, world.root)
    assert dataset.train_x[0].impath.startswith(str(world.folder / "images" / "train"))
    assert dataset.test[0].impath.startswith(str(world.folder / "images" / "val"))


def test_imagenet_without_its_training_images_is_for_evaluation(miniature, load):
    world = miniature("ImageNet")
    assert not load("ImageNet", world.root).test_only
    shutil.rmtree(world.folder / "images" / "train")
    dataset = load("ImageNet", world.root, "DATASET.NUM_SHOTS", "1")
    assert dataset.test_only and sizes(dataset) == [24, 24, 24]
    assert dataset.classnames == world.names


@pytest.mark.parametrize("name", ["ImageNet", "ImageNetV2", "ImageNetSketch", "ImageNetA"])
def test_order_does_not_depend_on_the_file_system(name, miniature, monkeypatch, load):
    world = miniature(name)
    whole = load(name, world.root)
    drawn = load(name, world.root, "DATASET.NUM_SHOTS", "1")
    scandir = datasets.folders.os.scandir

    class Reversed:
        """Imitate os.scandir on a file system that lists names from last to first."""

        def __init__(self, folder):
            with scandir(folder) as entries:
                self.entries = sorted(entries, key=lambda e: e.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(datasets.folders.os, "scandir", Reversed)
    assert paths(load(name, world.root).train_x, "") == paths(whole.train_x, "")
    again = load(name, world.root, "DATASET.NUM_SHOTS", "1")
    assert paths(again.train_x, "") == paths(drawn.train_x, "")
    by_label = sorted(whole.test, key=lambda item: (item.label, item.impath))
    assert paths(again.test, "") == paths(whole.test, "") == paths(by_label, "")


def test_imagenetv2_folders_are_numbers(miniature, load):
    world = miniature("ImageNetV2")
    for item in load("ImageNetV2", world.root).test:
        assert item.impath.split("/")[-2] == str(item.label)
        assert item.classname == f"kind {item.label} of fish"
    shutil.rmtree(world.folder / "imagenetv2-matched-frequency-format-val" / "10")
    with pytest.raises(ValueError, match=r"same 12 classes, got 11: 1 missing \['10'\]"):
        load("ImageNetV2", world.root)


@pytest.mark.parametrize("name", ["ImageNetA", "ImageNetR"])
def test_variants_are_scored_over_their_own_classes(name, miniature, load, lay):
    world = miniature(name)
    dataset = load(name, world.root)
    assert dataset.num_classes == 5
    assert dataset.classnames == [f"kind {i} of fish" for i in (1, 4, 5, 9, 11)]
    assert dataset.val is None and dataset.train_x is not dataset.val
    lay(world.folder / dataset.image_dir, ["n99999999/1.jpg"])
    with pytest.raises(ValueError, match=r"1 other \['n99999999'\]"):
        load(name, world.root)


def test_imagenet_without_one_of_its_classes_or_names(miniature, load):
    world = miniature("ImageNet")
    shutil.rmtree(world.folder / "images" / "val" / world.wnids[3])
    with pytest.raises(ValueError, match=rf"images/val .* 1 missing \['{world.wnids[3]}'\]"):
        load("ImageNet", world.root)
    (world.folder / "classnames.txt").unlink()
    with pytest.raises(FileNotFoundError, match="get it from https://drive.google.com/.* put it"):
        load("ImageNet", world.root)


def test_an_image_that_cannot_be_read_names_data_set_and_check(miniature, load):
    world = miniature("Food101")
    dataset = load("Food101", world.root)
    item = dataset.test[0]
    cut = (world.folder / "images" / ".image.jpg").read_bytes()[:-200]
    for content, kind in ((cut, OSError), (None, FileNotFoundError)):
        (world.folder / "images" / item.impath).unlink()
        if content:
            (world.folder / "images" / item.impath).write_bytes(content)
        with pytest.raises(kind) as error:
            item.open()
        assert item.impath in str(error.value)
        assert f"python -m datasets check --root {world.root} Food101 --deep" in str(error.value)
    with pytest.raises(FileNotFoundError, match=f"{item.impath}.*check --root .* Food101 --deep"):
        load("Food101", world.root)
