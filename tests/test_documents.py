"""What the README and CONTRIBUTING say is so: commands parse, files exist, the example runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from dassl.engine import TRAINER_REGISTRY

import trainers
from experiment import cli

ROOT = Path(cli.__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md")


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def commands() -> list[str]:
    lines = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            lines += block.replace("\\\n", " ").splitlines()
    stripped = (line.split(" #")[0].strip() for line in lines)
    return sorted({line for line in stripped if line and not line.startswith("#")})


def test_there_are_commands():
    assert {"make demo", "make test"} <= set(commands())


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one_that_runs(command):
    words = shlex.split(command)
    while re.match(r"\w+=", words[0]):  # variables of the environment
        words.pop(0)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in words[1:]:
            assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), target
    elif words[:2] == ["python", "train.py"]:
        cli.setup_cfg(cli.parse_args(words[2:]))
    elif words[:2] == ["python", "-m"] or words[0] == "python":
        script = words[1:3] if words[1] == "-m" else words[1:2]
        done = subprocess.run([sys.executable, *script, "--help"], cwd=ROOT, capture_output=True)
        assert done.returncode == 0, done.stderr
    elif words[0] == "bash":
        done = subprocess.run(["bash", ROOT / words[1], "-h"], capture_output=True)
        assert done.returncode == 0, done.stderr
    else:
        assert words[0] in ("export", "git", "cd", "pip", ".venv/bin/pip"), f"what is {words[0]}?"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_files_exist(page):
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    named = re.findall(r"`((?:\w+/)+[\w.]+\.(?:py|yaml|md|sh|json|txt))`", text)
    for name in [link for link in links if "://" not in link] + named:
        if not name.startswith("output/"):
            assert (ROOT / name).exists(), name


def test_the_readme_s_example_of_the_library_runs():
    (source,) = blocks("README.md", "python")
    scope = {}
    exec(compile(source, "README.md", "exec"), scope)
    assert scope["logits"].shape == (5, 2)


def test_the_example_method_runs(run, monkeypatch, tmp_path):
    """The page's own text, registered and trained."""
    source = next(
        block for block in blocks("CONTRIBUTING.md", "python") if "class Shallow" in block
    )
    scope = {"__name__": "shallow"}
    try:
        exec(compile(source, "CONTRIBUTING.md", "exec"), scope)
        everything = trainers.add_config

        def add_config(cfg):
            everything(cfg)
            scope["add_config"](cfg)

        monkeypatch.setattr(trainers, "add_config", add_config)
        results = run("Shallow", "shallow")
    finally:
        TRAINER_REGISTRY._obj_map.pop("Shallow", None)
    assert results["trainable_parameters"] == 4 * 128
