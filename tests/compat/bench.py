"""What both scripts share: checkouts, a scratch folder of weights and data, processes, a report."""

import argparse
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from world import clip_state, save_archive, write_dataset

OURS = Path(__file__).resolve().parents[2]
ENGINE = OURS / "engine"
DOCUMENT = OURS / "docs" / "compatibility.md"
LAUNCH = Path(__file__).with_name("launch.py")
LIMIT = 900  # seconds a process may take


class Failed(Exception):
    """A check did not hold; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where a train.py runs: the folder it lies in, the folder that holds the package `dassl`, and
    Python to run first."""

    folder: Path
    engine: Path
    before: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a process: its folder, the scores (images, classes) of the last evaluation of
    each run, its shims."""

    folder: Path
    scores: list[torch.Tensor]
    shims: list[str]

    @property
    def first(self) -> Path:
        """The output folder of the first run."""
        return self.folder / "run0"

    def checkpoint(self, epoch: int) -> dict:
        """What the first run saved after an epoch; of plain values, or it is refused."""
        path = next(self.first.glob(f"*/model.pth.tar-{epoch}"), None)
        if path is None:
            raise Failed(f"no checkpoint model.pth.tar-{epoch} was written")
        try:
            return torch.load(path, weights_only=True)
        except pickle.UnpicklingError as error:
            raise Failed(f"{path.name} holds more than plain values") from error

    def forget_after(self, epoch: int) -> None:
        """Leave the first run as if it had been interrupted after this epoch."""
        for path in self.first.glob("*/model.pth.tar-*"):
            if int(path.name.split("-")[-1]) > epoch:
                path.unlink()
        for latest in self.first.glob("*/checkpoint"):
            latest.write_text(f"model.pth.tar-{epoch}\n")
        (self.first / "results.json").unlink()


class Bench:
    """Writes the weights once, the data again for each process."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.count = 0
        # MaPLe's trainer is written for the widths of ViT-B/16, and for images of 224 x 224.
        wide = clip_state(text=512, vision=768, joint=64, layers=2, patch=56, side=224)
        self.wide = scratch / "wide.pt"
        save_archive(wide, 224, self.wide)
        # Deep enough for nine prompted layers; ours opens no archive that OpenAI did not publish.
        deep = clip_state(text=128, vision=192, joint=64, layers=9, patch=8, side=32)
        self.deep = scratch / "deep.pth"
        torch.save(deep, self.deep)

    def folder(self) -> Path:
        """A new empty folder."""
        self.count += 1
        path = self.scratch / str(self.count)
        path.mkdir()
        return path

    def run(
        self, place: Place, weights: Path, *runs: Sequence[str], folder: Path | None = None
    ) -> Outcome:
        """Run train.py once for each list of arguments, in one process.

        Args:
            runs: "{}" in an argument stands for the output folder of the first run.
            folder: that of an earlier process, to resume in; None: a new one with new data.

        Raises:
            Failed: the process failed, or took too long.
        """
        if folder is None:
            folder = self.folder()
            write_dataset(folder / "data")
        fixed = ["--root", str(folder / "data")]
        fixed += ["--dataset-config-file", "configs/datasets/caltech101.yaml"]
        commands = [
            [*fixed, "--output-dir", str(folder / f"run{index}"), *run]
            for index, run in enumerate(runs)
        ]
        commands = [[part.format(folder / "run0") for part in command] for command in commands]
        log = self.launch(place, "train.py", commands, folder, str(weights))
        scores = torch.load(folder / "scores.pt", weights_only=True)
        return Outcome(folder, scores, re.findall(r"^shim: (.*)$", log, re.MULTILINE))

    def launch(
        self, place: Place, script: str, runs: list[list[str]], folder: Path, weights: str = ""
    ) -> str:
        """Run a script by launch.py, in a process of its own; return its output."""
        plan = {
            "path": [str(place.folder), str(place.engine)],
            "script": script,
            "runs": runs,
            "weights": weights,
            "before": place.before,
            "scores": str(folder / "scores.pt"),
        }
        (folder / "plan.json").write_text(json.dumps(plan))
        return execute([sys.executable, LAUNCH, folder / "plan.json"], place.folder)


def execute(command: Sequence[object], folder: Path, **environment: str) -> str:
    """What a command says; it leaves no bytecode in the checkouts.

    Raises:
        Failed: an exit status other than 0, or no end in LIMIT seconds.
    """
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    variables.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env={**variables, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no end in {LIMIT} seconds") from error
    if done.returncode:
        tail = "\n".join(f"     {line}" for line in done.stdout.splitlines()[-15:])
        raise Failed(f"exit status {done.returncode}:\n{tail}")
    return done.stdout


def documented(heading: str) -> str:
    """The first block of code under a heading of docs/compatibility.md, as a reader copies it."""
    section = DOCUMENT.read_text().split(f"\n## {heading}\n", 1)[1]
    return re.search(r"```\w+\n(.*?)```", section, re.DOTALL)[1]


def parse_checkouts(
    description: str, known: Mapping[str, tuple[str, str]], argv: Sequence[str] | None
) -> dict[str, Path]:
    """The checkouts given on the command line, by name.

    Exit status 2 without any, or for a folder that is something else.

    Args:
        known: name -> repository, and a path that it holds.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, (repository, _) in known.items():
        parser.add_argument(f"--{name}", type=Path, help=f"checkout of {repository}")
    options = vars(parser.parse_args(argv))
    given = {name: path.expanduser().resolve() for name, path in options.items() if path}
    if not given:
        parser.error(f"no checkout is given: pass --{', --'.join(known)}.")
    for name, path in given.items():
        repository, marker = known[name]
        if not (path / marker).exists():
            parser.error(f"--{name} {path} holds no {marker}: pass a checkout of {repository}.")
    return given


def report(checks: Iterable[tuple[str, Callable[[], str]]]) -> int:
    """Print a line for each check, which returns what it found or raises Failed; exit status."""
    failures = 0
    for label, check in checks:
        try:
            print(f"ok   {label}: {check()}", flush=True)
        except Failed as error:
            failures += 1
            print(f"FAIL {label}: {error}", flush=True)
    print(f"{failures} failed" if failures else "all passed")
    return int(failures > 0)
