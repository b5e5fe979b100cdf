"""The shell scripts: what they call, what they say, and that no two are the same."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.protocol import load
from benchmark.results import Results, collect
from experiment import cli

FOLDER = Path(cli.__file__).parents[1] / "scripts" / "mmlop"
SCRIPTS = sorted(path for path in FOLDER.glob("*.sh") if not path.name.startswith("_"))
CHECKER = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
# Name: its arguments, and the modules that it calls with their words.
CALLS = {
    "base2new_train.sh": ("dtd 2", ["run base2new --only train --datasets dtd --seeds 2"]),
    "base2new_test.sh": ("dtd 2", ["run base2new --only test --datasets dtd --seeds 2"]),
    "xd_train.sh": (
        "imagenet 1",
        ["run cross_dataset --only train --datasets imagenet --seeds 1"],
    ),
    "xd_test.sh": ("dtd 1", ["run cross_dataset --only test --datasets dtd --seeds 1"]),
    "dg_test.sh": (
        "imagenet_a 1",
        ["run domain_generalization --only test --datasets imagenet_a --seeds 1"],
    ),
    "few_shot.sh": ("dtd 4", ["run few_shot --datasets dtd --shots 4"]),
    "ablation_components.sh": ("", ["run ablation_components"]),
    "ablation_rank.sh": ("", ["run ablation_rank"]),
    "reproduce_base2new.sh": ("", ["run base2new", "report --protocol base2new"]),
    "reproduce_domain_generalization.sh": (
        "",
        ["run domain_generalization", "report --protocol domain_generalization"],
    ),
    "reproduce_few_shot.sh": (
        "",
        ["run few_shot --shots 4,8,16", "report --protocol few_shot"],
    ),
    "reproduce_all.sh": (
        "",
        [
            "run base2new domain_generalization cross_dataset few_shot ablation_components "
            "ablation_rank",
            "report --format html",
        ],
    ),
    "demo.sh": ("", ["run base2new --seeds 1", "report --protocol base2new"]),
}


def call(path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(path), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def recorder(tmp_path) -> str:
    """Stands in for python, and prints its words."""
    path = tmp_path / "python"
    path.write_text('#!/bin/sh\necho "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_the_scripts_are_those_of_the_family():
    assert {path.name for path in SCRIPTS} == set(CALLS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_calls(path, recorder):
    words, expected = CALLS[path.name]
    pairs = "OPTIM.MAX_EPOCH 5"
    done = call(path, *words.split(), *pairs.split(), PYTHON=recorder, DATA="d", OUTPUT="o o")
    root = "demo" if path.name == "demo.sh" else "d"
    lines = []
    for line in expected:
        module, _, rest = line.partition(" ")
        before = f"-m benchmark.run --root {root} --output o o"
        lines.append(
            f"{before} {rest} {pairs}" if module == "run" else f"-m benchmark.report o o {rest}"
        )
    assert done.stdout.splitlines() == lines and done.returncode == 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_help_explains(path, recorder):
    done = call(path, "-h", PYTHON=recorder)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: bash scripts/mmlop/{path.name}")
    assert (
        "DATA" in done.stdout and "OUTPUT" in done.stdout and "-m benchmark.run" not in done.stdout
    )


@pytest.mark.parametrize("name", [name for name, (words, _) in CALLS.items() if words])
def test_too_few_arguments_are_refused(name, recorder):
    done = call(FOLDER / name, "dtd", PYTHON=recorder)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == f"{name}: expected 2 arguments, got 1; -h explains.\n"


def test_no_two_scripts_share_a_body():
    """Neither the same lines, nor two functions that do the same."""
    bodies = {path.name: path.read_text().split('_common.sh"\n', 1)[1] for path in SCRIPTS}
    assert len(set(bodies.values())) == len(bodies)
    code = {re.sub(r'usage ".*?" "\$@"\n', "", body, flags=re.DOTALL) for body in bodies.values()}
    assert len(code) == len(bodies)


@pytest.mark.skipif(CHECKER is None, reason="shellcheck is not installed")
def test_shellcheck_is_content():
    files = [str(path) for path in FOLDER.glob("*.sh")]
    done = subprocess.run(
        [CHECKER, "-x", "-P", str(FOLDER), *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_train_then_test_then_report(tiny_root, tiny_file, tmp_path):
    """The first two scripts at work on the miniature Caltech101, called from another folder."""
    environment = {
        "PYTHON": sys.executable,
        "DATA": str(tiny_root),
        "OUTPUT": str(tmp_path / "out"),
    }
    pairs = ["MODEL.BACKBONE.NAME", tiny_file, "DATALOADER.NUM_WORKERS", "0"]
    pairs += ["OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "2"]
    for name in ("base2new_train.sh", "base2new_test.sh"):
        done = call(FOLDER / name, "caltech101", "1", *pairs, **environment)
        assert done.returncode == 0, done.stderr
    results = Results(tmp_path / "out")
    found = collect(load("base2new"), results)
    assert len(results.all) == 2 and not results.others
    scores = [s for (_, dataset, _, _), s in found.scores.items() if dataset == "caltech101"]
    assert [list(score.by_seed) for score in scores] == [[1], [1]]
