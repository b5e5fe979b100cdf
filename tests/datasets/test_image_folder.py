"""Test your own images: splits, names, refusals; and run the page of the docs as written."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from datasets.__main__ import main as datasets_main
from experiment import cli

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
        ("fox fox", "names.txt has no line for 1 of the 4 class folders in .*own, dog: add lines"),
    ],
)
def test_names_refused(root, load, line, message):
    (root / "names.txt").write_text(f"ant ant\nbee bee\ncat cat\n{line}\n")
    with pytest.raises(ValueError, match=message):
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
    with pytest.raises(ValueError, match=r"parts/test .* 0 missing \[\], 1 others \['fox'\]"):
        load("ImageFolder", parts)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="must hold one folder per class"):
        load("ImageFolder", empty)


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


def flatten(tree: dict, prefix: str = "") -> list[str]:
    keys = []
    for key, value in tree.items():
        keys += flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return keys


def test_the_page_s_settings_exist():
    cfg = cli.setup_cfg(cli.parse_args(["--trainer", "MMLoP"]))
    keys = set(flatten(cfg))
    assert set(re.findall(r"`((?:DATASET|TRAINER)\.[A-Z_.]+)`", PAGE.read_text())) <= keys
    (own,) = blocks("yaml")
    assert set(flatten(yaml.safe_load(own))) <= keys


def test_the_page_s_yaml_is_a_configuration(root, tmp_path):
    (own,) = blocks("yaml")
    (tmp_path / "own.yaml").write_text(own)
    args = cli.parse_args(
        ["--trainer", "ZeroshotCLIP", "--dataset-config-file", str(tmp_path / "own.yaml")]
    )
    assert cli.setup_cfg(args).DATASET.IMAGE_FOLDER.CLASSNAMES == "names.txt"
