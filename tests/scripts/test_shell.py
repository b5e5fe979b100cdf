"""The shell scripts: what they call, what they say, and that no two are the same."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import run
from benchmark.protocol import load
from benchmark.report.collect import collect
from benchmark.report.results import Results
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
    "table1_base2new.sh": ("", ["run base2new", "report --protocol base2new"]),
    "table2_domain_generalization.sh": (
        "",
        ["run domain_generalization", "report --protocol domain_generalization"],
    ),
    "table3_few_shot.sh": ("", ["run few_shot --shots 4,8,16", "report --protocol few_shot"]),
    "table4_components.sh": ("", ["run components", "report --protocol components"]),
    "table5_sensitivity.sh": (
        "",
        [
            "run sensitivity_rank sensitivity_length sensitivity_depth",
            "report --protocol sensitivity_rank,sensitivity_length,sensitivity_depth",
        ],
    ),
    "table6_few_shot_vit_b32.sh": (
        "",
        ["run few_shot_vit_b32 --shots 4,8,16", "report --protocol few_shot_vit_b32"],
    ),
    "table7_logits_loss.sh": ("", ["run logits_loss", "report --protocol logits_loss"]),
    "figure1_parameters.sh": (
        "",
        ["run base2new few_shot --shots 16", "report --figures figure1_parameters"],
    ),
    "figure3_up_projection.sh": ("", ["run base2new", "report --figures figure3_up_projection"]),
    "figures4_5_curves.sh": (
        "",
        [
            "run few_shot few_shot_vit_b32",
            "report --figures figure4_few_shot,figure5_few_shot_vit_b32",
        ],
    ),
    "reproduce_all.sh": (
        "",
        [
            "run base2new domain_generalization cross_dataset few_shot components "
            "sensitivity_rank sensitivity_length sensitivity_depth few_shot_vit_b32 logits_loss",
            "report --format html",
        ],
    ),
    "demo.sh": ("", ["run base2new --seeds 1", "report --protocol base2new"]),
}
# Script of a table or figure: its commands on the demo world, of one seed.
ON_DEMO = {
    "table1_base2new.sh": 2,
    "table2_domain_generalization.sh": 5,
    "table3_few_shot.sh": 3,
    "table4_components.sh": 10,
    "table5_sensitivity.sh": 14,  # seven configurations
    "table6_few_shot_vit_b32.sh": 3,
    "table7_logits_loss.sh": 8,
    "figure1_parameters.sh": 3,
    "figure3_up_projection.sh": 2,
    "figures4_5_curves.sh": 5,  # the demo world has one backbone
    "reproduce_all.sh": 37,  # few-shot with 16 shots is the training of table 2
}
FULL = os.environ.get("SURVIVAL") == "full"
ALWAYS = ("table1_base2new.sh", "figure3_up_projection.sh")  # the others take minutes
SMALLEST = ["--seeds", "1", "OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "1"]


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


def test_without_python_that_of_the_environment_is_called(tmp_path, recorder):
    scripts = shutil.copytree(FOLDER, tmp_path / "scripts" / "mmlop")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "basename", "dirname", "sh"):
        (tools / name).symlink_to(shutil.which(name))
    own = tmp_path / ".venv" / "bin" / "python"
    alone = {"PATH": str(tools), "PYTHON": ""}
    done = call(scripts / "demo.sh", **alone)
    message = f"demo.sh: {own} is not there: run make install, or set PYTHON.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
    done = call(scripts / "demo.sh", PATH=str(tools), PYTHON="nothing")
    assert (done.returncode, done.stderr) == (2, message.replace(str(own), "nothing"))
    own.parent.mkdir(parents=True)
    own.symlink_to(recorder)
    done = call(scripts / "demo.sh", **alone)
    assert done.returncode == 0 and done.stdout.startswith("-m benchmark.run --root demo")
    (tools / "python").symlink_to("/bin/echo")
    assert call(scripts / "demo.sh", **alone).stdout.startswith("-m benchmark.run --root demo")


@pytest.mark.parametrize("name", ON_DEMO)
def test_a_dry_run_of_each_table_and_figure(name, recorder, capsys):
    words = ["--seeds", "1", "--dry-run"]
    done = call(FOLDER / name, *words, PYTHON=recorder, DATA="demo", OUTPUT="out")
    (line,) = done.stdout.splitlines()  # and no report
    run.main(line.split()[2:])
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == len(set(commands)) == ON_DEMO[name]


@pytest.mark.parametrize("words", ["--launcher print", "--launcher=slurm", "--launcher slurm"])
def test_what_a_cluster_is_to_run_is_not_reported_yet(recorder, words):
    """The script for sbatch stands alone on stdout."""
    done = call(FOLDER / "figure3_up_projection.sh", *words.split(), PYTHON=recorder)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1
    done = call(FOLDER / "figure3_up_projection.sh", "--launcher", "local", PYTHON=recorder)
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(("status", "reports"), [(0, True), (1, True), (2, False), (130, False)])
def test_a_table_is_printed_after_failures_but_not_of_what_was_refused_or_interrupted(
    tmp_path, status, reports
):
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\necho "$2"\n[ "$2" = benchmark.report ] || exit {status}\n')
    path.chmod(0o755)
    done = call(FOLDER / "table1_base2new.sh", PYTHON=str(path))
    assert done.returncode == status
    assert done.stdout.split() == ["benchmark.run"] + ["benchmark.report"] * reports


def test_table_5_says_that_it_runs_without_drift_correction(recorder):
    done = call(FOLDER / "table5_sensitivity.sh", PYTHON=recorder)
    assert "without drift correction (TRAINER.MMLOP.UDC False)" in done.stderr
    assert "With it: TRAINER.MMLOP.UDC True." in done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_help_explains(path, recorder):
    done = call(path, "-h", PYTHON=recorder)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: bash scripts/mmlop/{path.name}")
    assert "DATA" in done.stdout and "OUTPUT" in done.stdout
    assert "-m benchmark.run --root" not in done.stdout  # nothing was run


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
    for name, folder in (("base2new_train.sh", "train"), ("base2new_test.sh", "test_new")):
        done = call(FOLDER / name, "caltech101", "1", *pairs, **environment)
        assert done.returncode == 0, done.stderr
        found = done.stdout.splitlines()[-1].split()  # method, data set, classes, seed, accuracy
        record = json.loads((Path(found[-1]) / "results.json").read_text())
        assert Path(found[-1]).name == folder and found[4] == f"{record['accuracy']:.2f}"
    results = Results(tmp_path / "out")
    found = collect(load("base2new"), results)
    assert len(results.all) == 2 and not results.others
    scores = [s for (_, dataset, _, _), s in found.scores.items() if dataset == "caltech101"]
    assert [list(score.by_seed) for score in scores] == [[1], [1]]


def test_scripts_of_tables_and_figures_run_on_the_demo_world(tmp_path):
    """At the smallest size, in one folder; SURVIVAL=full runs them all."""
    environment = {"PYTHON": sys.executable, "DATA": "demo", "OUTPUT": str(tmp_path / "out")}
    for name in (name for name in ON_DEMO if FULL or name in ALWAYS):
        done = call(FOLDER / name, *SMALLEST, **environment)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        if name.startswith("figure"):
            paths = [Path(line) for line in done.stdout.splitlines() if line.endswith(".png")]
            assert paths and all(path.is_file() for path in paths)
        elif name.startswith("table"):
            assert "(1 of 3)" in done.stdout and "OPTIM.MAX_EPOCH is 1" in done.stdout, name
