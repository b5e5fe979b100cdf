"""The sides of a speed comparison, each in a process of its own, asked in turn.

In turn, so that whatever else the machine does meets all sides alike.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

WORKER = Path(__file__).with_name("worker.py")


class Failed(Exception):
    """A side could not do what it was asked for; the message says why."""


class Side(Protocol):
    """What answers questions."""

    def ask(self, do: str, **arguments) -> dict: ...

    def close(self) -> None: ...


class Process:
    """A process of worker.py.

    Args:
        plan: for the worker.
        folder: that it runs in.
        log: file for what it says.
    """

    def __init__(self, plan: dict, folder: Path, log: Path) -> None:
        self.log = log
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",  # a checkout stays as it is
            "OMP_NUM_THREADS": str(plan["threads"]),
        }
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(WORKER), json.dumps(plan)],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ask(self, do: str, **arguments) -> dict:
        """The answer to a question.

        Raises:
            Failed: it could not be done.
        """
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise Failed(self._end())
        answer = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _end(self) -> str:
        status = self.process.wait()
        if status == -signal.SIGKILL:
            return "not enough memory"  # nobody else kills it
        last = (self.log.read_text().strip().splitlines() or ["nothing"])[-1]
        return f"ended with status {status}, and said: {last[:300]}"


class Comparison:
    """The sides by name; one that fails is closed, and left out of what follows.

    Attributes:
        failed: why, by name.
    """

    def __init__(self, sides: Mapping[str, Side]) -> None:
        self.sides, self.failed = dict(sides), {}

    def __enter__(self) -> "Comparison":
        return self

    def __exit__(self, *_) -> None:
        for side in self.sides.values():
            side.close()

    def ask(self, do: str, only: str = "", **arguments) -> dict[str, dict]:
        """The answers of the sides that are left, or of one of them, each asked in turn."""
        answers = {}
        for name, side in list(self.sides.items()):
            if only not in ("", name):
                continue
            try:
                answers[name] = side.ask(do, **arguments)
            except Failed as error:
                self.failed[name] = str(error)
                self.sides.pop(name).close()
        return answers

    def repeat(self, count: int, do: str, **arguments) -> dict[str, list[dict]]:
        """The `count` answers of each that gives them all; one is asked again after the others."""
        rounds = [self.ask(do, **arguments) for _ in range(count)]
        return {name: [answers[name] for answers in rounds] for name in self.sides}
