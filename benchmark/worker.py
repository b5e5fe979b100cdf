"""Run in one process a training and the tests of its prompts, one call of train.py after another.

Or the trainings of several seeds, which are stepped together, and then the tests of them all.

The process holds a lock on the folder of its runs, so that two runners never work on one of them at
a time. When the runner is gone, even by SIGKILL, it asks itself to end; train.py then saves.
"""

import io
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from experiment.exit_status import STOPPED
from experiment.lock import InUse, claim

BUSY = "busy"


@dataclass(frozen=True)
class Call:
    """Hold one call of train.py.

    Attributes:
        arguments: what follows `python train.py`.
        folder: of its output.
        trains: whether it is a training.
        needs: folder of the training whose prompts it tests, if any.
        needed: the arguments of that training.
        group: the folder that holds those of all seeds, where these are to be stepped together.
    """

    arguments: tuple[str, ...]
    folder: Path
    trains: bool
    needs: Path | None = None
    needed: tuple[str, ...] = ()
    group: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """Say how a call ended.

    `kind` is finished (now), skipped (finished before), failed or stopped, for a `reason`.
    """

    folder: Path
    kind: str
    reason: str = ""
    detail: str = ""  # the traceback of an unexpected error


def work(
    calls: Sequence[Call], gpu: str | None, aside: bool, sender: Connection, alive: Connection
) -> None:
    """Make the calls in order; send an Outcome per call, or BUSY if another runner has them.

    Args:
        calls: those of one folder, the training first; or of several in one group.
        gpu: its number, the only one that the process will see; None: leave them as they are.
        aside: set runs of another configuration aside instead of refusing them.
        alive: a pipe that ends when the runner does.
    """
    # Or each process of a loader would be forked by this one's server, which imports PyTorch again.
    multiprocessing.set_start_method("fork", force=True)
    os.setpgid(0, 0)  # Ctrl-C reaches the runner alone, which then asks once for an orderly end
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    # A runner that is gone receives nothing; what was done stays done.
    with ExitStack() as held, suppress(BrokenPipeError):
        try:
            for folder in dict.fromkeys(call.folder.parent for call in calls):
                held.enter_context(claim(folder))
        except InUse:
            sender.send(BUSY)
            return
        for outcome in _outcomes(calls, aside):
            sender.send(outcome)
            if outcome.kind == "stopped":
                return


def _end_with(alive: Connection) -> None:
    try:
        alive.recv()
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)


def _outcomes(calls: Sequence[Call], aside: bool) -> Iterator[Outcome]:
    """Make the calls: first what goes together, then the others, and what that left unfinished."""
    done = set()
    for state, group in _groups(calls, aside):
        for outcome in _train_together(group, state):
            done.add(outcome.folder)
            yield outcome
    yield from (_perform(call, aside) for call in calls if call.folder not in done)


def _groups(calls: Sequence[Call], aside: bool) -> list[tuple[str, list[Call]]]:
    """Return the trainings of a group, two or more at a time, that are new or at the same step."""
    from experiment.run_state import latest  # imports clip: see _prepare

    groups = defaultdict(list)
    for call in calls:
        if call.group and call.trains:
            ready = _prepare(call, aside)
            if not isinstance(ready, Outcome):  # that is for `_perform` to say
                checkpoint = latest(call.folder)
                groups[ready, checkpoint and checkpoint.name].append(call)
    return [(state, group) for (state, _), group in groups.items() if len(group) > 1]


def _perform(call: Call, aside: bool) -> Outcome:
    ready = _prepare(call, aside)
    return ready if isinstance(ready, Outcome) else _train(call, ready)


def _prepare(call: Call, aside: bool) -> Outcome | str:
    """Prepare a call: return its outcome if nothing is to be done, else "new" or "resumable"."""
    # Imported in functions: clip asks for GPUs, which must come after CUDA_VISIBLE_DEVICES is set.
    from experiment.cli import expected
    from experiment.run_state import clear, examine

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
            with claim(call.folder):  # or what a run there has just begun would be deleted
                clear(call.folder)
    except (ValueError, TypeError, OSError) as error:
        return Outcome(call.folder, "failed", str(error))
    return "resumable" if state.kind == "resumable" else "new"


def _is_older(folder: Path, training: Path) -> bool:
    """Return whether a test is from before the training that lies there now."""
    tested, trained = (path / "results.json" for path in (folder, training))
    return trained.exists() and tested.stat().st_mtime < trained.stat().st_mtime


def _make_room(call: Call, state: str) -> None:
    """Set aside a run of another configuration, and tests of prompts that are not there now."""
    from experiment.run_state import ASIDE, set_aside  # imports clip: see _prepare

    old = [call.folder] if state == "changed" else []
    if call.trains and state != "resumable":
        old += [f for f in call.folder.parent.glob("test_*") if not ASIDE.search(f.name)]
    for folder in old:
        with claim(folder):
            set_aside(folder)


def refusal(folder: Path, differing: str) -> str:
    return (
        f"{folder} holds a run of another configuration ({differing}): pass another --output, or "
        "--set-aside to keep that run under a dated name and run again."
    )


def _train(call: Call, state: str) -> Outcome:
    """Call `python train.py ...` in this process; its output is in the folder's log.txt."""
    from experiment import cli  # imports clip: see _prepare

    arguments = _arguments(call, state)
    kind, reason, detail = _ending(cli.main, arguments)
    if not reason and not _is_finished(call):
        kind, reason = "failed", "train.py ended without results.json"
    return Outcome(call.folder, kind, reason, detail)


def _train_together(calls: Sequence[Call], state: str) -> list[Outcome]:
    """Train what is at the same step; return outcomes of those that are finished, or stopped.

    After a failure the others are left to be trained separately, and then report what is wrong.
    """
    from experiment import cli  # imports clip: see _prepare

    kind, reason, detail = _ending(cli.main_multi_seed, [_arguments(call, state) for call in calls])
    finished = [call for call in calls if _is_finished(call)]
    left = [call for call in calls if call not in finished]
    if left and kind == "failed":
        names = ", ".join(call.folder.parent.name for call in left)
        print(f"\n{calls[0].group}: {names} are trained separately. {reason}", file=sys.stderr)
    outcomes = [Outcome(call.folder, "finished") for call in finished]
    if kind == "stopped":
        outcomes += [Outcome(call.folder, kind, reason, detail) for call in left]
    return outcomes


def _ending(main: Callable[[Sequence], None], arguments: Sequence) -> tuple[str, str, str]:
    """Call a main of train.py; return the kind, reason and detail of an Outcome."""
    errors = io.StringIO()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(errors):
        try:
            main(arguments)
        except SystemExit as error:
            if error.code:
                lines = errors.getvalue().strip().splitlines() or ["train.py printed nothing"]
                kind = "stopped" if error.code == STOPPED else "failed"
                return kind, f"{lines[-1]} (exit status {error.code})", ""
        except Exception as error:
            return "failed", f"{type(error).__name__}: {error}", traceback.format_exc()
    return "finished", "", ""


def _is_finished(call: Call) -> bool:
    # Imported here, because clip asks for GPUs at import.
    from experiment.run_state import is_finished

    return is_finished(call.folder)


def _arguments(call: Call, state: str) -> list[str]:
    """Return those of the call; to resume, --resume takes the place of --output-dir."""
    flag = "--resume" if state == "resumable" else "--output-dir"
    return [flag if word == "--output-dir" else word for word in call.arguments]
