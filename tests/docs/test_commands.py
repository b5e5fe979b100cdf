"""Every command on the pages is one that runs: its words are parsed by what it calls."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from benchmark import protocol, run, status
from benchmark.gpu import __main__ as gpu
from benchmark.report import cli as report
from benchmark.report.figures import DRAWINGS
from datasets import __main__ as data
from experiment import cli
from inference import cli as inference
from inference import share
from prompting import export
from tests.docs.pages import PAGES, ROOT, blocks, text, without_blocks

# Pages whose commands run in tests of their own.
ELSEWHERE = {
    "docs/own-images.md": "tests/datasets/test_image_folder.py",
    "docs/own-tables.md": "tests/datasets/test_own_tables.py",
    "docs/speed.md": "tests/benchmark/test_speed.py",
}
THEIRS = {"configs/trainers/CoOp/vit_b16_ep50.yaml"}  # in a checkout of the family
IN_A_SENTENCE = r"`((?:make|python -m|pip|bash) [^`]+)`"


def commands() -> list[str]:
    lines = []
    for page in set(PAGES) - set(ELSEWHERE):
        for block in blocks(page, "bash"):
            lines += block.replace("\\\n", " ").splitlines()
        # In a sentence, where it stands alone in its quotes.
        lines += re.findall(IN_A_SENTENCE, without_blocks(page).replace("\n", " "))
    stripped = (line.split(" #")[0].strip() for line in lines)
    return sorted({" ".join(line.split()) for line in stripped if line and line[0] != "#"})


def test_there_are_commands():
    assert {"make demo", "make test", "make smoke-test"} <= set(commands())
    assert len(commands()) > 40


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one_that_runs(command, tmp_path, monkeypatch):
    words = shlex.split(command.partition(" > ")[0])
    while re.match(r"\w+=", words[0]):  # variables of the environment
        words.pop(0)
    check = CHECKS.get(words[0])
    assert check, f"what is {words[0]}?"
    (tmp_path / "DATA").mkdir()
    check(words[1:], tmp_path, monkeypatch)


def check_make(words, *_):
    makefile = text("Makefile")
    for target in words:
        assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), target


def check_python(words, folder, monkeypatch):
    if words[0] == "train.py":
        args = cli.parse_args(words[1:])
        if args.config_file not in THEIRS:
            monkeypatch.chdir(ROOT)
            cli.setup_cfg(args)
    elif words[0] == "predict.py":
        inference.parse_args(words[1:])
    elif words[0] == "-m":
        monkeypatch.chdir(folder)
        MODULES[words[1]](words[2:])
    else:
        check_script(words)


def check_script(words):
    """Find the script, and its flags in it: to run each with --help would take seconds."""
    source = text(words[0])
    compile(source, words[0], "exec")
    for flag in (word for word in words if word.startswith("--")):
        assert f'"{flag}"' in source or f'"{flag[2:]}"' in source, flag


def check_run(words):
    args = run.parse_args(words)
    planned = run.plan(args) if not args.retry_failed else []
    for _, call in planned[:1] + planned[-1:]:
        cli.expected(call.arguments)


def check_report(words):
    args = report._parser().parse_args(words)
    assert set(args.protocol) <= set(protocol.names())
    assert set(args.figures or ()) <= set(DRAWINGS)


def check_pytest(words):
    assert all((ROOT / word).exists() for word in words if word != "-s")


def check_bash(words, *_):
    """Ask the script for its usage, which names its arguments, and the runner about flags."""
    done = subprocess.run(["bash", ROOT / words[0], "-h"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usage = done.stdout.splitlines()[0]  # usage: bash scripts/mmlop/NAME.sh ARGUMENT ... [...]
    arguments = len(usage.partition("[")[0].split()) - 3
    assert len(words[1:]) >= arguments, usage
    run.parse_args(["base2new", "--root", "DATA", "--output", "OUT", *words[1 + arguments :]])


def check_files(words, *_):
    """Leave cp and sed to tests/test_documents.py, which executes their block."""
    assert words


def check_pip(words, *_):
    assert words[0] == "install"
    for option, value in zip(words[1:], words[2:], strict=False):
        assert option not in ("-r", "-e") or (ROOT / value).exists(), value


CHECKS = {
    "make": check_make,
    "python": check_python,
    "bash": check_bash,
    "pip": check_pip,
    **dict.fromkeys(("export", "git", "cd", "cp", "sed", "tar", "sbatch"), check_files),
}
MODULES = {
    "benchmark.run": check_run,
    "benchmark.report": check_report,
    "benchmark.gpu": gpu.parse_args,
    "benchmark.status": lambda words: status.parse_args(words),
    "datasets": data.parse_args,
    "pytest": check_pytest,
    "inference.share": share.parse_args,
    "prompting.export": export.parse_args,
    "benchmark.speed": lambda words: None,  # with its flags in docs/speed.md
}


@pytest.mark.parametrize("page", ELSEWHERE)
def test_other_pages_commands_are_tested_elsewhere(page):
    assert Path(page).name in text(ELSEWHERE[page])
