"""Keep OUT/failures.json: the folder of each run that failed, with the reason."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

NAME = "failures.json"


@dataclass(frozen=True)
class Outcome:
    """Say how a call of train.py ended.

    `kind` is finished (now), skipped (finished before), failed or stopped, for a `reason`.
    """

    folder: Path
    kind: str
    reason: str = ""
    detail: str = ""  # the traceback of an unexpected error


def read_failures(output: Path) -> dict[str, dict[str, str]]:
    """Read what failed; empty where nothing did."""
    return read_json(output / NAME)


def record(output: Path, outcomes: Iterable[Outcome]) -> None:
    """Add what failed; remove what has ended well since."""

    def change(failures: dict) -> None:
        for outcome in outcomes:
            name = os.path.relpath(outcome.folder, output.resolve())
            failures.pop(name, None)
            if outcome.kind == "failed":
                failures[name] = {"reason": outcome.reason, "detail": outcome.detail}

    change_json(output / NAME, change)


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def change_json(path: Path, change: Callable[[dict], None]) -> None:
    """Change a file that several processes write to; one that becomes empty is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        content = read_json(path)
        change(content)
        if content:
            write_text(path, json.dumps(content, indent=4))
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a file aside and rename it, without the engine's help: that imports PyTorch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
    return path
