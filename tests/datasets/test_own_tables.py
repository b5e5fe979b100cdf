"""The page about tables of your own data sets, docs/own-tables.md, works as written."""

import json
import shlex
import shutil

import pytest
from dassl.data.datasets import DATASET_REGISTRY

from benchmark import plan, protocol, run
from benchmark.report import cli as report
from datasets import ON_DISK
from datasets.__main__ import main as datasets_main
from experiment import cli
from tests.docs.pages import blocks

PAGE = "docs/own-tables.md"


@pytest.fixture
def mine(tmp_path, monkeypatch, lay):
    """Do what the page says, in a copy of configs/; yields the folder of data and protocol."""
    (source,) = blocks(PAGE, "python")
    dataset, table = blocks(PAGE, "yaml")
    configs = tmp_path / "configs"
    shutil.copytree(protocol.CONFIGS, configs)
    (configs / "datasets" / "pets.yaml").write_text(dataset)
    (configs / "datasets" / "tools.yaml").write_text('DATASET:\n  NAME: "Tools"\n')
    for module in (protocol, plan):
        monkeypatch.setattr(module, "CONFIGS", configs)
    lay(tmp_path / "DATA", [f"pets/{c}/{i}.jpg" for c in ("cat", "cow", "dog") for i in range(6)])
    lay(tmp_path / "DATA", [f"tools/{part}/{c}/{i}.jpg" for part in ("train", "test")
                            for c in ("axe", "saw") for i in range(2)])  # fmt: skip
    (tmp_path / "DATA" / "pets" / "names.txt").write_text("cat big cat\ncow big cow\ndog big dog\n")
    (tmp_path / "mine.yaml").write_text(table)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(compile(source, PAGE, "exec"), scope)
    for name in ("Pets", "Tools"):
        monkeypatch.setitem(ON_DISK, name, scope[name])
    yield tmp_path
    for name in ("Pets", "Tools"):
        DATASET_REGISTRY._obj_map.pop(name)


def test_the_page_works_as_written(mine, tiny_file, capsys):
    commands = [shlex.split(line) for line in "".join(blocks(PAGE, "bash")).splitlines()]
    check, dry, *rest, show = [words[3:] for words in commands]
    assert datasets_main(check) == 0
    assert "Pets: the classes are big cat, big cow, big dog" in capsys.readouterr().out
    calls = run.plan(run.parse_args(dry))
    assert len(calls) == (2 * 3 + 1) * 2 * 2  # zero-shot has one seed; data sets, base and new
    assert [run.parse_args(words).protocols for words in rest] == [["mine.yaml"]]
    assert report._parser().parse_args(show).protocol == ["mine.yaml"]
    wanted = {("pets", "new"): (1, 2), ("tools", "base"): (1, 2)}  # classes, test images
    totals = {}
    for planned, call in calls:
        if planned.row == "ZeroshotCLIP" and (planned.dataset, planned.classes) in wanted:
            pairs = ("MODEL.BACKBONE.NAME", tiny_file, "DATALOADER.NUM_WORKERS", "0")
            cli.main([*call.arguments, *pairs])
            results = json.loads((call.folder / "results.json").read_text())
            totals[planned.dataset, planned.classes] = results["classes"], results["total"]
    assert totals == wanted
