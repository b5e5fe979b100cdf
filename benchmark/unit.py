"""Run one unit of a plan in its own process: `python -m benchmark.unit PLAN NUMBER`.

A unit is a training with the tests of its prompts, or the trainings of several seeds that are
stepped together, with theirs. Its process holds the locks of its seed folders, so that whoever else
works on the output folder leaves it alone. Nothing that takes time is imported before.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from subprocess import PIPE, Popen

from benchmark.calls import Call, read_plan
from benchmark.failures import Outcome, record
from experiment.lock import InUse, claim

ROOT = Path(__file__).resolve().parents[1]
STOPPED, BUSY = 4, 75  # exit statuses: saved after a signal, another process has the unit


def start(plan: Path, number: int, **environment: str) -> Popen:
    """Start a process for a unit; CUDA needs its environment set before it exists."""
    given = {**os.environ, **environment}
    given["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), given.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "benchmark.unit", str(plan), str(number)]
    # Its own session: Ctrl-C reaches the scheduler alone, which asks once for an orderly end.
    return Popen(command, env=given, stdout=PIPE, text=True, start_new_session=True)


def follow(process: Popen, calls: Sequence[Call]) -> Iterator[Outcome]:
    """Yield the outcomes of a unit as they come, then of those calls that its process lost."""
    left = {str(call.folder): call.folder for call in calls}
    for line in process.stdout:
        if line.startswith("{"):  # else somebody's print
            sent = json.loads(line)
            yield Outcome(**{**sent, "folder": left.pop(sent["folder"])})
    if process.wait() not in (BUSY, STOPPED):
        reason = f"the process was ended from outside (exit code {process.returncode})"
        yield from (Outcome(folder, "failed", reason) for folder in left.values())


def main() -> int:
    """Print an outcome per line; return 0, 1 with failures, STOPPED or BUSY."""
    path, number = sys.argv[1:]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch: several at once need no more
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))  # while train.py has no handler
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm's, for the process above: see slurm.py
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    plan = read_plan(Path(path))
    calls, sent = plan.units[int(number)], []
    with ExitStack() as held:
        try:
            for folder in dict.fromkeys(call.folder.parent for call in calls):
                held.enter_context(claim(folder))
        except InUse as error:
            print(error)  # for the log of a job; `follow` passes over it
            return BUSY
        held.callback(record, plan.output, sent)
        # Imported here because it imports PyTorch, which takes seconds.
        from benchmark.worker import work

        for outcome in work(calls, plan):
            sent.append(outcome)
            with suppress(BrokenPipeError):  # whoever started this is gone; what is done stays done
                print(json.dumps(asdict(outcome), default=str), flush=True)
            if outcome.kind == "stopped":
                return STOPPED
    return int(any(outcome.kind == "failed" for outcome in sent))


def _end_with(parent: int) -> None:
    """Ask this process to save and end when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
