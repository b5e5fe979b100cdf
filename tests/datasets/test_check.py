"""Test `python -m datasets check` on an empty root, a half-filled one and a full one."""

import json
import os
import re
import shutil

import pytest

from datasets import FAMILY, ON_DISK
from datasets.__main__ import main

NAMES = [loader.__name__ for loader in FAMILY]
ROW = ["name", "found", "images", "split", "classes", "verdict", "action"]


@pytest.fixture
def full(miniature, monkeypatch):
    """Lay out all fifteen in one root, and replace the true numbers by their small ones."""
    for name in NAMES:
        world = miniature(name)
        count = len(world.names) * (world.train + (world.val or 0) + world.test)
        if name == "ImageNet":  # validated on the test set
            count = len(world.names) * 5
        elif world.val is None:  # trained on nothing
            count = len(world.names) * 2
        monkeypatch.setattr(ON_DISK[name], "images", count)
        monkeypatch.setattr(ON_DISK[name], "classes", len(world.names))
    return world.root


def rows(table):
    """Return a dict from name to the cells of its row."""
    lines = table.split("\n\n")[0].splitlines()
    starts = [i for i, c in enumerate(lines[1]) if c == "-" and (i == 0 or lines[1][i - 1] == " ")]
    cells = [
        [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        for line in lines[2:]
    ]
    return {row[0]: dict(zip(ROW, row, strict=True)) for row in cells}


def look(capsys, *words):
    """Return the exit status, and the reports of --json by name."""
    status = main(["check", *map(str, words), "--json"])
    return status, {report["name"]: report for report in json.loads(capsys.readouterr().out)}


def test_an_empty_root(tmp_path, capsys):
    assert main(["check", "--root", str(tmp_path)]) == 1
    table = capsys.readouterr().out
    found = rows(table)
    assert list(found) == NAMES
    assert {row["found"] for row in found.values()} == {"no"}
    assert {row["verdict"] for row in found.values()} == {"absent"}
    assert found["ImageNet"]["images"] == "0/1331167"
    assert found["ImageNet"]["action"] == found["StanfordCars"]["action"] == "prepare, by hand"
    assert found["DescribableTextures"] == {
        "name": "DescribableTextures", "found": "no", "images": "0/5640", "split": "missing",
        "classes": "0", "verdict": "absent", "action": "prepare",
    }  # fmt: skip
    for name in NAMES:
        assert f"python -m datasets prepare --root {tmp_path} {name}" in table
    assert f"into {tmp_path}/imagenet/images, pip install scipy" in table


def test_a_full_root(full, capsys):
    assert main(["check", "--root", str(full)]) == 0
    table = capsys.readouterr().out
    found = rows(table)
    assert list(found) == NAMES
    for name, row in found.items():
        loader = ON_DISK[name]
        assert row == {
            "name": name, "found": "yes", "images": f"{loader.images}/{loader.images}",
            "split": "there" if loader.split_file else "none needed",
            "classes": str(loader.classes), "verdict": "ready", "action": "",
        }  # fmt: skip
    assert "\n\n" not in table  # nothing is to be done


def test_a_half_filled_root(full, capsys):
    shutil.rmtree(full / "food-101")
    missing = full / "eurosat" / "2750" / "Forest" / "Forest_0.jpg"
    missing.unlink()
    (full / "oxford_pets" / "split_zhou_OxfordPets.json").unlink()
    (full / "imagenet" / "classnames.txt").write_text("n01440764 tench\n")
    shutil.rmtree(full / "ucf101" / "UCF-101-midframes")
    split = full / "dtd" / "split_zhou_DescribableTextures.json"
    split.write_text(split.read_text().replace('"blotchy"]', '"blotch"]', 1))
    (full / "sun397" / "split_zhou_SUN397.json").write_text('{"train": [')
    status, reports = look(capsys, "--root", full)
    assert status == 1
    verdicts = {name: report["verdict"] for name, report in reports.items()}
    assert {name: v for name, v in verdicts.items() if v != "ready"} == {
        "Food101": "absent", "EuroSAT": "incomplete", "OxfordPets": "incomplete",
        "ImageNet": "broken", "ImageNetA": "broken", "ImageNetR": "broken",
        "UCF101": "incomplete", "DescribableTextures": "broken", "SUN397": "broken",
    }  # fmt: skip
    eurosat = reports["EuroSAT"]
    assert (eurosat["images"], eurosat["expected"]) == (20, 21)
    assert eurosat["bad"] == [str(missing)]
    assert f"found 20 of 3, the first missing is {missing}: delete 2750" in eurosat["todo"]
    pets = reports["OxfordPets"]
    assert (pets["split"], pets["images"], pets["found"]) == ("missing", 21, True)
    assert "get split_zhou_OxfordPets.json from https://drive.google.com" in pets["todo"]
    assert "1 missing" not in reports["ImageNet"]["todo"]
    assert "11 others" in reports["ImageNet"]["todo"]
    assert "expects the folder" in reports["UCF101"]["todo"] and reports["UCF101"]["images"] == 0
    assert "two class names, 'blotch' and 'blotchy'" in reports["DescribableTextures"]["todo"]
    assert reports["SUN397"]["split"] == "broken"
    assert all(report["todo"] for report in reports.values() if report["verdict"] != "ready")


def test_only_what_is_asked_for_counts(full, capsys):
    shutil.rmtree(full / "food-101")
    assert look(capsys, "--root", full, "EuroSAT", "UCF101")[0] == 0
    status, reports = look(capsys, "--root", full, "EuroSAT", "Food101")
    assert status == 1 and list(reports) == ["EuroSAT", "Food101"]


def test_deep_finds_images_that_cannot_be_read(full, capsys):
    assert main(["check", "--root", str(full), "EuroSAT", "--deep"]) == 0
    assert "21/21" in capsys.readouterr().err  # the progress bar
    folder = full / "eurosat" / "2750" / "Forest"
    content = (folder / "Forest_1.jpg").read_bytes()
    bad = [str(folder / f"Forest_{i}.jpg") for i in (1, 2)]
    for path, bytes_ in zip(bad, (content[:-200], b"no image"), strict=True):
        (folder / path).unlink()
        (folder / path).write_bytes(bytes_)
    assert main(["check", "--root", str(full), "EuroSAT"]) == 0  # they are there
    capsys.readouterr()
    assert main(["check", "--root", str(full), "EuroSAT", "--deep"]) == 1
    table = capsys.readouterr().out
    assert rows(table)["EuroSAT"]["verdict"] == "broken"
    assert "2 images cannot be read" in table
    for path in bad:
        assert f"Cannot read the image {path} (" in table
        assert "unpack or download it again" in table.partition(path)[2].splitlines()[0]
    report = look(capsys, "--root", full, "EuroSAT", "--deep")[1]["EuroSAT"]
    (folder / "Forest_2.jpg").write_bytes(content)
    assert look(capsys, "--root", full, "EuroSAT", "--deep")[1]["EuroSAT"]["todo"].startswith(
        "1 image cannot be read"
    )
    assert sorted(report["bad"]) == sorted(report["why"]) == bad


def test_long_lists_are_cut_in_the_table_alone(full, capsys):
    shutil.rmtree(full / "eurosat" / "2750")
    (full / "eurosat" / "2750").mkdir()
    assert main(["check", "--root", str(full), "EuroSAT"]) == 1
    assert "... and 1 more, see --json" in capsys.readouterr().out
    assert len(look(capsys, "--root", full, "EuroSAT")[1]["EuroSAT"]["bad"]) == 21


def test_own_images(tmp_path, lay, capsys):
    lay(tmp_path, [f"{name}/{i}.jpg" for name in ("ant", "bee") for i in range(5)])
    status, reports = look(capsys, "--root", tmp_path, "ImageFolder")
    assert status == 0
    report = reports["ImageFolder"]
    assert (report["images"], report["expected"], report["classes"]) == (10, 10, 2)
    (tmp_path / "cat").mkdir()
    status, reports = look(capsys, "--root", tmp_path, "ImageFolder")
    assert status == 1 and "cat holds none" in reports["ImageFolder"]["todo"]
    lay(tmp_path, ["cat/0.jpg"])
    assert main(["check", "--root", str(tmp_path), "ImageFolder"]) == 1
    table = capsys.readouterr().out
    row = rows(table)["ImageFolder"]
    assert (row["images"], row["verdict"], row["action"]) == ("11/?", "broken", "see below")
    assert "ImageFolder: class 'cat' has 1 image, a random split needs at least 3" in table


def test_a_sentence_that_begins_with_the_name_has_it_once(full, capsys):
    shutil.rmtree(full / "ucf101" / "UCF-101-midframes")
    assert main(["check", "--root", str(full), "UCF101"]) == 1
    assert "\n\nUCF101 expects the folder " in capsys.readouterr().out


@pytest.fixture
def own(tmp_path, lay):
    """Lay out own images whose folders say nothing, a file of their names and a split file."""
    lay(tmp_path, [f"{name}/{i}.jpg" for name in ("images", "masks") for i in range(4)])
    (tmp_path / "names.txt").write_text("images photo\nmasks drawing\n")
    names = ("images", 0, "photo"), ("masks", 1, "drawing")
    split = {"train": [[f"{f}/0.jpg", y, name] for f, y, name in names], "val": [],
             "test": [[f"{f}/1.jpg", y, name] for f, y, name in names]}  # fmt: skip
    (tmp_path / "split.json").write_text(json.dumps(split))
    return tmp_path


NAMES_KEY, SPLIT_KEY = "DATASET.IMAGE_FOLDER.CLASSNAMES", "DATASET.IMAGE_FOLDER.SPLIT_FILE"


def test_key_value_pairs_are_those_of_the_run(own, capsys):
    status = main(["check", "--root", str(own), "ImageFolder", "--json"])
    assert status == 1 and "container" in json.loads(capsys.readouterr().out)[0]["todo"]
    for pairs, images in (
        ((NAMES_KEY, "names.txt"), 8),
        ((SPLIT_KEY, "split.json"), 4),
        ((SPLIT_KEY, str(own / "split.json"), NAMES_KEY, "names.txt"), 4),
    ):
        words = ["check", "--root", str(own), "ImageFolder", "--deep", "--json", *pairs]
        assert main(words) == 0
        (report,) = json.loads(capsys.readouterr().out)
        assert (report["verdict"], report["images"], report["classes"]) == ("ready", images, 2)
        assert report["notes"] == ["the classes are photo, drawing"]
    (own / "masks" / "0.jpg").unlink()
    assert main(["check", "--root", str(own), "ImageFolder", SPLIT_KEY, "split.json"]) == 1
    shown = capsys.readouterr().out
    assert (
        f"found 3 of 2, the first missing is {own}/masks/0.jpg: add these images, or take" in shown
    )
    assert "unpack" not in shown and "CoOp" not in shown


def test_the_yaml_of_the_run_s_data_set(own, capsys):
    keys = 'NAME: "ImageFolder"\n  IMAGE_FOLDER:\n    CLASSNAMES: "names.txt"'
    (own / "own.yaml").write_text(
        f"DATASET:\n  {keys}\nTRAINER:\n  ZSCLIP:\n    TEMPLATE: a {{}}\n"
    )
    config = ["--dataset-config-file", str(own / "own.yaml")]
    assert main(["check", "--root", str(own), *config]) == 0
    assert "ImageFolder: the classes are photo, drawing" in capsys.readouterr().out
    assert main(["check", "--root", str(own), *config, SPLIT_KEY, "split.json"]) == 0
    assert main(["check", "--root", str(own), *config, NAMES_KEY, ""]) == 1


@pytest.mark.parametrize(
    "words, message",
    [
        (["DATASET.IMAGE_FOLDER.SPLIT"], "has no value"),
        (
            ["DATASET.IMAGE_FOLDER.SPLIT", "a"],
            "unknown key DATASET.IMAGE_FOLDER.SPLIT: check takes",
        ),
        (["DATASET.NAME.X", "a"], "unknown key DATASET.NAME.X"),
        (["TRAINER.MMLOP.RANK", "1"], "unknown key TRAINER.MMLOP.RANK"),
        (["DATASET.NUM_SHOTS", "many"], "Type mismatch"),
        ([SPLIT_KEY, "split.json", "--deep-er"], "unrecognized argument --deep-er"),
        (
            ["--dataset-config-file", "nowhere.yaml"],
            "--dataset-config-file must be a YAML file, nowhere.yaml is no file",
        ),
        (
            ["--dataset-config-file", "{}/names.txt"],
            "names.txt must be YAML with a section DATASET",
        ),
        (["--dataset-config-file", "{}/bad.yaml"], "bad.yaml must be YAML with a section DATASET"),
        (["--dataset-config-file", "{}/other.yaml"], "other.yaml must be YAML with .*OLD_KEY"),
    ],
)
def test_wrong_pairs_and_files(own, capsys, words, message):
    (own / "bad.yaml").write_text("DATASET: [")
    (own / "other.yaml").write_text("DATASET:\n  OLD_KEY: 1\n")
    with pytest.raises(SystemExit) as stop:
        main(["check", "--root", str(own), *[word.format(own) for word in words]])
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_what_cannot_be_opened_is_no_traceback(own, full, capsys, monkeypatch):
    """Folders without permission, links in circles, files where folders belong."""
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith(("masks", "val")):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        for name, root in (("ImageFolder", own), ("ImageNet", full)):
            status, reports = look(capsys, "--root", root, name)
            assert status == 1 and reports[name]["verdict"] == "broken"
            assert "Permission denied" in reports[name]["todo"]
    os.symlink("..", own / "images" / "loop")
    os.symlink("self", own / "self")
    for folder in ("oxford_pets", "food-101/images", "imagenet/images/val", "eurosat"):
        shutil.rmtree(full / folder)
        (full / folder).write_text("a file")
    (full / "ucf101" / "split_zhou_UCF101.json").unlink()
    (full / "ucf101" / "split_zhou_UCF101.json").mkdir()
    (full / "sun397" / "split_zhou_SUN397.json").write_bytes(b"\xff\xfe\x00")
    status, reports = look(capsys, "--root", full)
    assert status == 1 and look(capsys, "--root", own, "ImageFolder")[0] == 1
    verdicts = {name: r["verdict"] for name, r in reports.items() if r["verdict"] != "ready"}
    assert verdicts == {
        "OxfordPets": "absent", "Food101": "incomplete", "ImageNet": "incomplete",
        "EuroSAT": "absent", "UCF101": "incomplete", "SUN397": "broken",
    }  # fmt: skip


def test_a_path_that_is_no_utf_8_can_be_printed(own, capsys):
    path = os.path.join(os.fsencode(own), b"caf\xe9")
    os.mkdir(path)
    assert main(["check", "--root", str(own), "ImageFolder"]) == 1
    assert "\\udce9 holds none" in capsys.readouterr().out


def test_nothing_is_written_and_the_log_is_as_before(full, capsys):
    before = sorted(full.rglob("*"))
    main(["check", "--root", str(full)])
    assert sorted(full.rglob("*")) == before
    from dassl.utils.logger import LOGGER

    assert LOGGER.level < 30


@pytest.mark.parametrize(
    "words, message",
    [
        (["check", "--root", "{}", "EuroSat"], "Did you mean 'EuroSAT'?"),
        (["check", "--root", "{}/nowhere"], "--root must be a folder"),
        (["check"], "the following arguments are required: --root"),
        (["prepare", "--root", "{}"], "required: NAME"),
        (["prepare", "--root", "{}/new", "ImageFolder"], "Unknown data set 'ImageFolder'"),
        (["prepare", "--root", "{}/a_file", "EuroSAT"], "a_file is a file and no folder"),
        (
            ["prepare", "--root", "{}", "EuroSAT", "DATASET.NAME", "a"],
            "Unknown data set 'DATASET.N",
        ),
    ],
)
def test_wrong_calls(words, message, tmp_path, capsys):
    (tmp_path / "a_file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main([word.format(tmp_path) for word in words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]
