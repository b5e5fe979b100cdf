"""Test your own images: splits, names, refusals; and run the page of the docs as written."""

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from datasets.__main__ import main as datasets_main
from experiment import cli
from experiment.config import defaults, flatten
from trainers.base import PromptTrainer

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "own-images.md"
CLASSES = ("ant", "bee", "cat", "dog")
TEN = ("accordion", "anchor", "barrel", "bass", "beaver", "binocular", "brontosaurus",
       "camera", "cannon", "crab")  # fmt: skip


@pytest.fixture
def root(tmp_path, lay):
    """Lay out ten images of each of four classes."""
    folder = tmp_path / "own"
    lay(folder, [f"{name}/{i}.png" for name in CLASSES for i in range(10)])
    return folder


@pytest.fixture
def parts(tmp_path, lay):
    """Lay out folders train, val and test."""
    folder = tmp_path / "parts"
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        lay(folder / part, [f"{name}/{i}.png" for name in CLASSES for i in range(count)])
    return folder


def names_of(*splits):
    return [[item.impath for item in items] for items in splits]


def sizes(dataset):
    return [items and len(items) for items in (dataset.train_x, dataset.val, dataset.test)]


def test_a_folder_per_class(root, load):
    (root / "ant" / "notes.txt").write_text("no image")
    (root / ".cache").mkdir()
    dataset = load("ImageFolder", root)
    assert dataset.classnames == list(CLASSES)
    assert sizes(dataset) == [20, 8, 12]
    everything = names_of(dataset.train_x + dataset.val + dataset.test)[0]
    assert len(set(everything)) == 40
    for item in dataset.train_x:
        assert Path(item.impath).parent.name == item.classname == CLASSES[item.label]
    assert dataset.split_source == "random split, DATASET.SPLIT_SEED 1"


def test_the_split_is_fixed_by_its_own_seed(root, load):
    def splits(*pairs, seed=1):
        dataset = load("ImageFolder", root, *pairs, seed=seed)
        return names_of(dataset.train_x, dataset.val, dataset.test)

    assert splits() == splits() == splits(seed=2)
    assert splits("DATASET.SPLIT_SEED", "2") != splits()
    half = load("ImageFolder", root, "DATASET.SUBSAMPLE_CLASSES", "new")
    assert names_of(half.test)[0] == splits()[2][6:]


def test_shots_are_drawn_by_the_seed_and_leave_nothing_behind(root, load):
    first, again, other = (
        load("ImageFolder", root, "DATASET.NUM_SHOTS", "2", seed=seed) for seed in (1, 1, 2)
    )
    assert sizes(first) == [8, 8, 12]
    assert names_of(first.train_x) == names_of(again.train_x) != names_of(other.train_x)
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == list(CLASSES)


def test_another_class_changes_nothing_in_the_others(root, load, lay):
    before = load("ImageFolder", root)
    lay(root, [f"eel/{i}.png" for i in range(3)])
    after = load("ImageFolder", root)
    assert names_of(after.test)[0][:12] == names_of(before.test)[0]
    assert sizes(after) == [21, 9, 13]


def test_folders_train_val_test(parts, load):
    dataset = load("ImageFolder", parts)
    assert sizes(dataset) == [16, 8, 12]
    assert dataset.split_source == "the folders train, val, test"
    assert all("/val/" in item.impath for item in dataset.val)
    (parts / "val").rename(parts.parent / "elsewhere")
    assert sizes(load("ImageFolder", parts)) == [16, None, 12]


def test_names_and_templates(root, load):
    (root / "names.txt").write_text("ant\tred ant\nbee honey bee\ncat cat\n\ndog hot_dog\n")
    dataset = load("ImageFolder", root, "DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")
    assert dataset.classnames == ["red ant", "honey bee", "cat", "hot_dog"]


def test_a_split_file(root, load):
    split = {part: [[f"{name}/{i}.png", y, name] for y, name in enumerate(CLASSES)]
             for i, part in enumerate(("train", "val", "test"))}  # fmt: skip
    (root / "mine.json").write_text(json.dumps(split))
    pairs = ("DATASET.IMAGE_FOLDER.SPLIT_FILE", "mine.json")
    dataset = load("ImageFolder", root, *pairs)
    assert sizes(dataset) == [4, 4, 4]
    assert dataset.split_source == str(root / "mine.json")
    (root / "names.txt").write_text("ant ant\nbee wasp\ncat cat\ndog dog\n")
    with pytest.raises(ValueError, match="class bee is called 'bee' in .*mine.json and 'wasp' in "):
        load("ImageFolder", root, *pairs, "DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")
    split["test"][0][0] = "../secret.png"
    (root / "mine.json").write_text(json.dumps(split))
    with pytest.raises(ValueError, match=r"must stay inside .*own, got '\.\./secret.png'"):
        load("ImageFolder", root, *pairs)


@pytest.mark.parametrize(
    "line, message",
    [
        ("", "names.txt has no line for 1 of the 4 class folders in .*own, dog: add lines"),
        ("dog", "line 4: expected .*folder class name.*, got 'dog'"),
        ("dog cat", r"class 'cat' has two labels, 2 and 3"),
        ("ant dog", "folder ant has two class names, 'ant' and 'dog'"),
        ("\x00", "names.txt must be text in UTF-8, it holds zero bytes"),
        ("fox fox", "names.txt has no line for 1 of the 4 class folders in .*own, dog: add lines"),
    ],
)
def test_names_refused(root, load, line, message):
    (root / "names.txt").write_text(f"ant ant\nbee bee\ncat cat\n{line}\n")
    with pytest.raises(ValueError, match=message):
        load("ImageFolder", root, "DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")


def test_an_empty_file_of_names_is_refused(root, load):
    (root / "names.txt").write_text("\n \n")
    with pytest.raises(
        ValueError, match='names.txt is empty: expected lines of "folder class name"'
    ):
        load("ImageFolder", root, "DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")


def test_refusals(root, parts, load, tmp_path, lay):
    with pytest.raises(FileNotFoundError, match="file of class names .*nowhere.txt does not exist"):
        load("ImageFolder", root, "DATASET.IMAGE_FOLDER.CLASSNAMES", "nowhere.txt")
    with pytest.raises(FileNotFoundError, match="must be the folder that holds the class folders"):
        load("ImageFolder", tmp_path / "nowhere")
    (root / "eel").mkdir()
    with pytest.raises(ValueError, match="the class folder .*eel holds none"):
        load("ImageFolder", root)
    lay(root, ["eel/1.png", "eel/2.png"])
    with pytest.raises(ValueError, match="'eel' has 2 images, a random split needs at least 3"):
        load("ImageFolder", root)
    lay(parts, ["fox/1.png"])
    with pytest.raises(ValueError, match="expected no others next to them, got fox: move"):
        load("ImageFolder", parts)
    (parts / "fox").rename(parts / "test" / "fox")
    with pytest.raises(ValueError, match=r"parts/test .* 0 missing \[\], 1 other \['fox'\]"):
        load("ImageFolder", parts)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="must hold one folder per class"):
        load("ImageFolder", empty)


# Habits and accidents


def split_pairs(root, **parts):
    (root / "mine.json").write_text(json.dumps(parts))
    return "DATASET.IMAGE_FOLDER.SPLIT_FILE", "mine.json"


def entries(number, names=CLASSES):
    return [[f"{name}/{number}.png", y, name] for y, name in enumerate(names)]


def test_a_split_file_without_validation_images(root, load):
    for val in ({"val": []}, {}):
        pairs = split_pairs(root, train=entries(0), test=entries(1), **val)
        assert sizes(load("ImageFolder", root, *pairs, "DATASET.NUM_SHOTS", "1")) == [4, None, 4]


def test_a_split_file_with_one_class(root, load):
    pairs = split_pairs(root, train=entries(0, ["ant"]), test=entries(1, ["ant"]))
    with pytest.raises(ValueError, match="there is only the class 'ant', expected at least two"):
        load("ImageFolder", root, *pairs)


def test_a_split_file_with_class_folders_at_any_depth(root, load, lay):
    lay(root, [f"{part}/{name}/0.png" for part in ("a", "b") for name in CLASSES])
    (root / "names.txt").write_text("".join(f"{name} {name}\n" for name in (*CLASSES, "eel")))
    parts = {part: [[f"{top}/{name}/0.png", y, name] for y, name in enumerate(CLASSES)]
             for part, top in (("train", "a"), ("test", "b"))}  # fmt: skip
    pairs = split_pairs(root, **parts), ("DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")
    assert sizes(load("ImageFolder", root, *pairs[0], *pairs[1])) == [4, None, 4]


def test_folders_that_are_numbers_get_a_word_about_names(tmp_path, lay, load, notes):
    lay(tmp_path, [f"n0144076{c}/{i}.png" for c in (4, 5) for i in range(3)])
    assert load("ImageFolder", tmp_path).classnames == ["n01440764", "n01440765"]
    assert "the class folders are numbers (n01440764), which say little to CLIP" in notes.text
    (tmp_path / "names.txt").write_text("n01440764 tench\nn01440765 goldfish\n")
    notes.clear()
    pairs = ("DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")
    assert load("ImageFolder", tmp_path, *pairs).classnames == ["tench", "goldfish"]
    assert "numbers" not in notes.text


def test_a_split_file_in_another_unicode_form(tmp_path, lay, load):
    """As a Mac writes names, and as others do."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    for disk, listed in ((apart, composed), (composed, apart)):
        root = tmp_path / ascii(disk)
        lay(root, [f"{name}/{disk} {i}.png" for name in (disk, "bee") for i in range(2)])
        parts = {
            part: [[f"{name}/{listed} {i}.png", y, name] for y, name in enumerate((listed, "bee"))]
            for i, part in enumerate(("train", "test"))
        }
        dataset = load("ImageFolder", root, *split_pairs(root, **parts))
        assert dataset.classnames == [composed, "bee"]
        assert dataset.test[0].impath == str(root / disk / f"{disk} 1.png")
    parts["test"][0][0] = f"{listed}/{listed} 7.png"
    with pytest.raises(FileNotFoundError, match="1 of 2 test images looked for could not be found"):
        load("ImageFolder", root, *split_pairs(root, **parts))


def test_more_names_than_folders(root, load, notes):
    lines = [*(f"{name} big {name}" for name in CLASSES), "eel big eel", "fox big fox"]
    (root / "names.txt").write_text("\n".join(lines))
    pairs = ("DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")
    assert load("ImageFolder", root, *pairs).classnames == [f"big {name}" for name in CLASSES]
    wanted = "names.txt names 2 classes without a folder, left out of this run: eel, fox"
    assert wanted in notes.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_names_in_another_encoding(root, load, encoding):
    lines = [f"{name} caf\u00e9 {name}" for name in CLASSES]
    (root / "names.txt").write_bytes("\r\n".join(lines).encode(encoding))
    pairs = ("DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")
    assert load("ImageFolder", root, *pairs).classnames == [line[4:] for line in lines]
    (root / "names.txt").write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(
        ValueError, match="names.txt must be text in UTF-8, got the byte 0xe9 in li"
    ):
        load("ImageFolder", root, *pairs)


def test_files_that_are_passed_over_are_counted(root, load, lay, notes):
    load("ImageFolder", root)
    assert "passed over" not in notes.text
    for name in ("ant/a.jfif", "ant/b.JFIF", "bee/deep/c", "cat/d.heic", "names.csv"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"")
    lay(root, ["loose.png"])
    dataset = load("ImageFolder", root)
    assert sizes(dataset) == [20, 8, 12]
    kinds = "1 .heic, 1 image outside of class folders, 1 without suffix, 2 .jfif"
    assert f"passed over: 5 files ({kinds}); names of images end in .jpg, .jpeg" in notes.text


@pytest.mark.parametrize(
    "name", [b"ant/caf\xe9.png", b"caf\xe9/0.png", b"ant/a\nb.png", b"a\tnt/0.png"]
)
def test_names_that_cannot_be_written_are_found_at_once(root, load, name):
    path = os.path.join(os.fsencode(root), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.link(root / "ant" / "0.png", path)
    with pytest.raises(ValueError, match="must be UTF-8 without control characters") as error:
        load("ImageFolder", root)
    assert ascii(os.fsdecode(name)).strip("'") in str(error.value)


UNREADABLE = {
    "float.tif": lambda path: Image.fromarray(np.ones((2, 2), np.float32)).save(path),
    "whole.tif": lambda path: Image.fromarray(np.ones((2, 2), np.int32)).save(path),
    "empty.png": lambda path: path.write_bytes(b""),
    "page.png": lambda path: path.write_bytes(b"<html>"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_image_that_cannot_be_read_is_found_before_the_run(root, load, name, capsys):
    path = root / "bee" / name
    UNREADABLE[name](path)
    with pytest.raises(OSError, match=f"Cannot read the image {path}") as error:
        load("ImageFolder", root)
    assert "DATASETS.md" not in str(error.value)
    for deep in ([], ["--deep"]):
        assert datasets_main(["check", "--root", str(root), "ImageFolder", *deep]) == 1
        printed = capsys.readouterr().out
        assert "broken" in printed and str(error.value).partition(". To check")[0] in printed


def test_advice_is_about_own_images(root, load, parts):
    pairs = split_pairs(root, train=entries(0), test=entries(99))
    printed = []
    for given in (pairs, ("DATASET.IMAGE_FOLDER.SPLIT_FILE", "nowhere.json")):
        with pytest.raises(FileNotFoundError) as error:
            load("ImageFolder", root, *given)
        printed.append(str(error.value))
    advice = f"check --root {root} ImageFolder --deep {' '.join(pairs)}"
    assert advice in printed[0]
    (root / "mine.json").write_text("[]")
    with pytest.raises(ValueError) as error:
        load("ImageFolder", root, *pairs)
    for text in (*printed, str(error.value)):
        assert "docs/own-images.md" in text and "CoOp" not in text and "get it again" not in text


# Runs


@pytest.fixture
def own_run(run, tmp_path, lay, capsys):
    """Run train.py on own images; returns results.json, or the status and what was printed."""
    config = str(ROOT / "configs" / "datasets" / "image_folder.yaml")

    def call(trainer, name, *arguments, root, **flags):
        flags = {"root": str(root), "dataset_config_file": config, **flags}
        try:
            return run(trainer, name, *arguments, **flags)
        except SystemExit as end:
            return end.code, capsys.readouterr().err.splitlines()[-1]

    return call


def test_test_images_alone_are_evaluated_and_not_trained_on(own_run, tmp_path, lay, monkeypatch):
    whole, test = tmp_path / "whole", tmp_path / "test_only"
    lay(
        whole,
        [f"{part}/{c}/{i}.png" for part in ("train", "test") for c in CLASSES for i in (1, 2)],
    )
    lay(test, [f"test/{c}/{i}.png" for c in CLASSES for i in range(3)])
    zero_shot = own_run("ZeroshotCLIP", "zero", root=test)
    assert (zero_shot["total"], zero_shot["classes"]) == (12, 4)
    assert (zero_shot["split_source"], zero_shot["training_images"]) == ("the folders test", 0)
    assert own_run("CoOp", "trained", root=whole)["total"] == 8
    again = own_run("CoOp", "b", "--eval-only", root=test, model_dir=str(tmp_path / "trained"))
    assert again["total"] == 12
    monkeypatch.setattr(PromptTrainer, "forward_backward", lambda *_: pytest.fail("it trained"))
    status, printed = own_run("CoOp", "c", root=test)
    wanted = "ImageFolder (the folders test) has no training images, and CoOp trains: add some, or"
    assert status == 2 and wanted in printed


def test_a_variant_of_imagenet_is_not_trained_on(own_run, miniature, monkeypatch):
    world = miniature("ImageNetA")
    config = {"dataset_config_file": str(ROOT / "configs" / "datasets" / "imagenet_a.yaml")}
    assert own_run("ZeroshotCLIP", "zero", root=world.root, **config)["total"] == 10
    monkeypatch.setattr(PromptTrainer, "forward_backward", lambda *_: pytest.fail("it trained"))
    status, printed = own_run("CoOp", "trained", root=world.root, **config)
    assert status == 2 and "ImageNetA" in printed and "has no training images" in printed


def test_images_of_any_size_and_16_bits_are_trained_on(own_run, tmp_path):
    """A pixel, a line, and grey of 16 bits, which counts as its 8 upper bits do."""
    ends = []
    for name, levels in (("eight", np.uint8(1)), ("sixteen", np.uint16(257))):
        for y, size in enumerate([(1, 1), (1, 40), (40, 3), (32, 32)]):
            folder = tmp_path / name / f"kind {y}"
            folder.mkdir(parents=True)
            grey = np.random.default_rng(y).integers(0, 256, (4, *size), dtype=np.uint8)
            for i, image in enumerate(grey):
                Image.fromarray(image * levels).save(folder / f"{i}.png")
        crop = ("INPUT.TRANSFORMS", "('random_crop', 'normalize')")
        results = own_run("CoOp", f"run {name}", *crop, root=tmp_path / name)
        checkpoint = tmp_path / f"run {name}" / "prompt_learner" / "model.pth.tar-2"
        context = torch.load(checkpoint, weights_only=True)["state_dict"]["ctx"]
        ends.append((results["correct"], results["total"], context.tolist()))
    assert ends[0] == ends[1] and ends[0][1] == 4


# The page


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def commands(root: Path, output: Path) -> list[list[str]]:
    """Return the page's commands, with the folders of this test for DATA and output/."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line) for line in lines]
    return [
        [str(root) if w == "DATA" else w.replace("output/", f"{output}/") for w in command]
        for command in words
    ]


def test_the_page_runs_as_written_on_real_photographs(tmp_path, shared_data, monkeypatch, capsys):
    root = tmp_path / "photographs"
    root.mkdir()
    for name in TEN:
        (root / name).symlink_to(shared_data / "caltech-101" / "101_ObjectCategories" / name)
    monkeypatch.chdir(ROOT)
    check, *runs = commands(root, tmp_path / "out")
    assert check[:3] == ["python", "-m", "datasets"] and len(runs) == 3
    assert datasets_main(check[3:]) == 0
    table = capsys.readouterr().out
    assert re.search(r"ImageFolder +yes +(\d+)/\1 +none needed +10 +ready", table)
    for run in runs:
        assert run[:2] == ["python", "train.py"]
        cli.main([*run[2:], "DATALOADER.NUM_WORKERS", "0"])
    read = {
        name: json.loads((tmp_path / "out" / "mine" / name / "results.json").read_text())
        for name in ("zeroshot", "mmlop", "again")
    }
    assert {r["classes"] for r in read.values()} == {10}
    assert read["mmlop"]["training_images"] == 160 and read["mmlop"]["epochs"] == 2
    assert read["mmlop"]["trainable_parameters"] > 0
    assert read["again"]["correct"] == read["mmlop"]["correct"]
    assert len({r["total"] for r in read.values()}) == 1
    assert '"a picture of a {}."' in (tmp_path / "out/mine/zeroshot/log.txt").read_text()


def test_the_page_s_settings_exist():
    keys = set(defaults())
    assert set(re.findall(r"`((?:DATASET|TRAINER)\.[A-Z_.]+)`", PAGE.read_text())) <= keys
    (own,) = blocks("yaml")
    assert set(flatten(yaml.safe_load(own))) <= keys


def test_the_page_s_yaml_is_a_configuration(root, tmp_path):
    (own,) = blocks("yaml")
    (tmp_path / "own.yaml").write_text(own)
    args = cli.parse_args(
        ["--trainer", "ZeroshotCLIP", "--dataset-config-file", str(tmp_path / "own.yaml")]
    )
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "own.yaml").write_text(f"# {encoding} caf\u00e9\n{own}", encoding=encoding)
        assert cli.setup_cfg(args).DATASET.IMAGE_FOLDER.CLASSNAMES == "names.txt"
    (tmp_path / "own.yaml").write_text(f"{own}# latin-1 caf\u00e9\n", encoding="latin-1")
    with pytest.raises(
        ValueError, match="own.yaml must be text in UTF-8, got the byte 0xe9 in line"
    ):
        cli.setup_cfg(args)
