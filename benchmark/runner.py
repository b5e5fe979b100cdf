"""Make many runs, several at a time: processes, GPUs, one progress bar, and what failed.

Every training with its tests is a process of its own, so that its memory is its own; seeds that
are stepped together are one process. All are forked from one that has imported PyTorch, which takes
as long as evaluating the demo world.
"""

import multiprocessing
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from benchmark.worker import BUSY, Call, Outcome, work

PROCESSES = multiprocessing.get_context("forkserver")
# Nothing that imports clip: that asks for GPUs, and what is forked afterwards cannot use any.
PRELOAD = ["torch", "torchvision", "dassl.engine", "torch.utils.tensorboard"]
EPOCH_LINE = re.compile(
    r"epoch \[(\d+)/(\d+)\] batch \[(\d+)/(\d+)\](?:.*? loss \S+ \(([^)\s]+)\))?"
)
TEST_SHARE = 0.1  # what a test costs, of a training
RETRY = 2.0  # seconds until a folder that another runner works on is looked at again
GRACE = 120.0  # seconds for an interrupted run to save
SHOWN = 2  # trainings whose epoch and loss the bar shows


@dataclass
class Active:
    """Hold a process at work on one folder of runs, or one group."""

    process: BaseProcess
    calls: list[Call]
    gpu: str | None
    busy: bool = False


@dataclass
class Runner:
    """Work through calls of train.py.

    Attributes:
        gpus: numbers of the GPUs to use, or [None]: the processes see what this one sees.
        jobs: runs at once, spread evenly over the GPUs.
        aside: set runs of another configuration aside instead of refusing them.
    """

    gpus: Sequence[str | None]
    jobs: int
    aside: bool = False
    outcomes: dict[Path, Outcome] = field(default_factory=dict)

    def run(self, calls: Sequence[Call]) -> dict[Path, Outcome]:
        """Make all calls; a failing one does not stop the others.

        Returns:
            An outcome per folder. After Ctrl-C or SIGTERM those not ended are absent.
        """
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # several runs at once need no more
        PROCESSES.set_forkserver_preload(PRELOAD)
        self._waiting = deque(_chains(calls))
        self._slots = slots(self.gpus, self.jobs)
        self._active: dict[Connection, Active] = {}
        self._alive, self._here = PROCESSES.Pipe(duplex=False)
        self._asleep = 0.0
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self._loop(calls)
        except KeyboardInterrupt:
            self._interrupt()
        finally:
            signal.signal(signal.SIGTERM, before)
            self._here.close()
        return self.outcomes

    def _loop(self, calls: Sequence[Call]) -> None:
        with _Bar(calls) as bar:
            while self._waiting or self._active:
                while self._waiting and self._slots and time.monotonic() >= self._asleep:
                    self._start(self._waiting.popleft())
                for connection in wait(list(self._active), timeout=0.5):
                    self._hear(connection)
                time.sleep(0 if self._active else 0.5)
                bar.show(self.outcomes, [a for a in self._active.values() if not a.busy])

    def _start(self, calls: list[Call]) -> None:
        receiver, sender = PROCESSES.Pipe(duplex=False)
        gpu = self._slots.pop(0)
        # Not a daemon: those may not have the loader's worker processes.
        process = PROCESSES.Process(target=work, args=(calls, gpu, self.aside, sender, self._alive))
        process.start()
        sender.close()
        self._active[receiver] = Active(process, calls, gpu)

    def _hear(self, connection: Connection) -> None:
        active = self._active[connection]
        try:
            message = connection.recv()
        except EOFError:
            self._ended(connection, active)
            return
        if message == BUSY:
            active.busy = True
        elif message.kind == "stopped":  # by somebody else than this runner
            self.outcomes[message.folder] = replace(message, kind="failed")
        else:
            self.outcomes[message.folder] = message

    def _ended(self, connection: Connection, active: Active) -> None:
        del self._active[connection]
        connection.close()
        active.process.join()
        self._slots.append(active.gpu)
        if active.busy:
            self._waiting.append(active.calls)
            self._asleep = time.monotonic() + RETRY
            return
        for call in active.calls:
            reason = f"the process was ended from outside (exit code {active.process.exitcode})"
            self.outcomes.setdefault(call.folder, Outcome(call.folder, "failed", reason))

    def _interrupt(self) -> None:
        """Ask all processes to save and end, and wait for them."""
        print("\nInterrupted: the running ones save and end.", file=sys.stderr)
        for active in self._active.values():
            active.process.terminate()
        end = time.monotonic() + GRACE
        for active in self._active.values():
            active.process.join(max(0.0, end - time.monotonic()))
            if active.process.is_alive():
                active.process.kill()


def slots(gpus: Sequence[str | None], jobs: int) -> list[str | None]:
    """Return the GPU of each of so many runs at once."""
    return [gpus[number % len(gpus)] for number in range(jobs)]


def _chains(calls: Sequence[Call]) -> list[list[Call]]:
    """Group calls by their group, or the folder above theirs.

    Trainings come first, so that no long one is left to the end.
    """
    chains: dict[Path, list[Call]] = {}
    for call in calls:
        chains.setdefault(call.group or call.folder.parent, []).append(call)
    return sorted(chains.values(), key=lambda chain: not chain[0].trains)


class _Line(tqdm):
    """Show tqdm's usual form, but count whole runs while moving by parts of one."""

    ended = 0

    @property
    def format_dict(self) -> dict:
        return {**super().format_dict, "ended": self.ended}


class _Bar:
    """Show one progress bar; read from the logs how far the trainings are."""

    def __init__(self, calls: Sequence[Call]) -> None:
        weights = {call.folder: 1.0 if call.trains else TEST_SHARE for call in calls}
        scale = len(weights) / sum(weights.values())  # so that all weigh as much as there are runs
        self.weights = {folder: weight * scale for folder, weight in weights.items()}
        self.begun: dict[Path, float] = {}  # how far a training was when this runner saw it first
        # A terminal redraws one line; a log file gets a line only now and then.
        self.bar = _Line(
            total=len(weights),
            unit="run",
            bar_format="{l_bar}{bar}| {ended}/{total_fmt} "
            "[{elapsed}<{remaining}, {rate_fmt}{postfix}]",
            dynamic_ncols=True,
            smoothing=0,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
        )

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, outcomes: dict[Path, Outcome], active: Sequence[Active]) -> None:
        calls = [call for each in active for call in each.calls if call.trains]
        at_work = {c.folder: progress(c.folder) for c in calls if c.folder not in outcomes}
        shares = {folder: now.share for folder, now in at_work.items()}
        # What was done before costs no time, and must not make the estimate brighter.
        self.begun = {**shares, **self.begun}
        before = {f: 1.0 for f, outcome in outcomes.items() if outcome.kind == "skipped"}
        self.bar.initial = self._weigh({**self.begun, **before})
        failed = sum(outcome.kind == "failed" for outcome in outcomes.values())
        words = [f"{failed} failed"] * bool(failed)
        words += [now.text for now in at_work.values() if now.text][:SHOWN]
        self.bar.ended = len(outcomes)
        self.bar.set_postfix_str(", ".join(words), refresh=False)
        done = self._weigh({**shares, **dict.fromkeys(outcomes, 1.0)})
        self.bar.update(min(done, self.bar.total) - self.bar.n)

    def _weigh(self, shares: dict[Path, float]) -> float:
        return sum(self.weights[folder] * share for folder, share in shares.items())


class Progress(NamedTuple):
    """Say how much of a training is done, and its epoch and loss as text."""

    share: float = 0.0
    text: str = ""


def progress(folder: Path) -> Progress:
    """Read from the last line of a training's log how far it is."""
    logs = sorted(folder.glob("log.txt*"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return Progress()
    with logs[-1].open("rb") as file:
        file.seek(max(0, logs[-1].stat().st_size - 4096))
        lines = EPOCH_LINE.findall(file.read().decode(errors="replace"))
    if not lines:
        return Progress()
    *numbers, loss = lines[-1]
    epoch, epochs, batch, batches = map(int, numbers)
    text = f"epoch {epoch}/{epochs}" + (f" loss {float(loss):.2f}" if loss else "")
    return Progress((epoch - 1 + batch / batches) / epochs, text)
