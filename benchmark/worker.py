"""One process: a training and the tests of its prompts, one call of train.py after the other.

The process holds a lock on the folder of its runs, so that two runners never work on one of them at
a time. When the runner is gone, even by SIGKILL, it asks itself to end; train.py then saves.
"""

import fcntl
import io
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

BUSY = "busy"


@dataclass(frozen=True)
class Call:
    """One call of train.py.

    Attributes:
        arguments: what follows `python train.py`.
        folder: of its output.
        trains: whether it is a training.
        needs: folder of the training whose prompts it tests, if any.
        needed: the arguments of that training.
    """

    arguments: tuple[str, ...]
    folder: Path
    trains: bool
    needs: Path | None = None
    needed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """`kind` is finished (now), skipped (finished before), failed or stopped, for a `reason`."""

    folder: Path
    kind: str
    reason: str = ""
    detail: str = ""  # the traceback of what nobody foresaw


def work(
    calls: Sequence[Call], gpu: str | None, aside: bool, sender: Connection, alive: Connection
) -> None:
    """Make the calls in order; send an Outcome for each, or BUSY if another runner has them.

    Args:
        calls: those of one folder, the training first.
        gpu: its number, the only one that the process will see; None: leave them as they are.
        aside: lay runs of another configuration aside instead of refusing.
        alive: a pipe that ends when the runner does.
    """
    # Or each process of a loader would be started anew by this one's server, importing PyTorch.
    multiprocessing.set_start_method("fork", force=True)
    os.setpgid(0, 0)  # Ctrl-C reaches the runner alone, which then asks once for an orderly end
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    # A runner that is gone hears nothing; what was done stays done.
    with claim(calls[0].folder.parent) as mine, suppress(BrokenPipeError):
        if not mine:
            sender.send(BUSY)
            return
        for call in calls:
            outcome = _perform(call, aside)
            sender.send(outcome)
            if outcome.kind == "stopped":
                return


def _end_with(alive: Connection) -> None:
    try:
        alive.recv()
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Hold FOLDER/.lock, if nobody does: the system frees it when its holder ends, however."""
    from trainers.locks import UNSUPPORTED

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:  # a file system without locks: train.py's own must do
            if error.errno not in UNSUPPORTED:
                raise
        yield True


def _perform(call: Call, aside: bool) -> Outcome:
    # Imported here and below, for clip asks for GPUs: that must come after CUDA_VISIBLE_DEVICES.
    from benchmark.state import clear, examine, expected
    from trainers import locks

    try:
        state = examine(call.folder, expected(call.arguments))
        outdated = state.kind == "finished" and call.needs and _is_older(call.folder, call.needs)
        if state.kind == "finished" and not outdated:
            return Outcome(call.folder, "skipped")
        if call.needs and examine(call.needs, expected(call.needed)).kind != "finished":
            reason = f"its training in {call.needs} is not finished, or of another configuration"
            return Outcome(call.folder, "failed", reason)
        if state.kind == "changed" and not aside:
            return Outcome(call.folder, "failed", refusal(call.folder, state.differing))
        _make_room(call, "changed" if outdated else state.kind)
        if state.kind == "begun":
            with locks.claim(call.folder):  # or what a run there has just begun would be deleted
                clear(call.folder)
    except (ValueError, TypeError, OSError) as error:
        return Outcome(call.folder, "failed", str(error))
    return _train(call, resume=state.kind == "resumable")


def _is_older(folder: Path, training: Path) -> bool:
    """Whether a test is from before the training that lies there now."""
    tested, trained = (path / "results.json" for path in (folder, training))
    return trained.exists() and tested.stat().st_mtime < trained.stat().st_mtime


def _make_room(call: Call, state: str) -> None:
    """Lay aside a run of another configuration, and what was tested with prompts not there now."""
    from benchmark.state import ASIDE, set_aside
    from trainers import locks

    old = [call.folder] if state == "changed" else []
    if call.trains and state != "resumable":
        old += [f for f in call.folder.parent.glob("test_*") if not ASIDE.search(f.name)]
    for folder in old:
        with locks.claim(folder):
            set_aside(folder)


def refusal(folder: Path, differing: str) -> str:
    return (
        f"{folder} holds a run of another configuration ({differing}): pass another --output, or "
        "--set-aside to keep that run under a dated name and run anew."
    )


def _train(call: Call, resume: bool) -> Outcome:
    """`python train.py ...` in this process; what it says is in the folder's log.txt."""
    import train
    from trainers.lifecycle import STOPPED

    arguments = _resuming(call) if resume else list(call.arguments)
    sys.argv = ["train.py", *arguments]  # results.json records the command
    kind, said, reason, detail = "failed", io.StringIO(), "", ""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(said):
        try:
            train.main(arguments)
        except SystemExit as error:
            if error.code:
                lines = said.getvalue().strip().splitlines() or ["train.py said nothing"]
                reason = f"{lines[-1]} (exit status {error.code})"
                kind = "stopped" if error.code == STOPPED else kind
        except Exception as error:
            reason, detail = f"{type(error).__name__}: {error}", traceback.format_exc()
    if not reason and not (call.folder / "results.json").exists():
        reason = "train.py ended without results.json"
    return Outcome(call.folder, kind if reason else "finished", reason, detail)


def _resuming(call: Call) -> list[str]:
    """The same call, going on: --resume takes the place of --output-dir."""
    return ["--resume" if word == "--output-dir" else word for word in call.arguments]
