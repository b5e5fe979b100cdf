"""Make the calls of one unit: a training and the tests of its prompts, one after another.

Or the trainings of several seeds, which are stepped together, and then the tests of them all.
"""

import io
import os
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from benchmark.calls import Call, Plan
from benchmark.failures import Outcome
from benchmark.stage import staged
from experiment import cli, run_state
from experiment.exit_status import STOPPED
from experiment.lock import claim
from experiment.run_state import examine

REFUSAL = (
    "{folder} holds a run of another configuration ({differing}): pass another --output "
    "(OUTPUT of the scripts), or --set-aside to keep that run under a dated name and run again."
)


def work(calls: Sequence[Call], plan: Plan) -> Iterator[Outcome]:
    """Make the calls: first what goes together, then the others, and what that left unfinished."""
    try:
        calls = [staged(call, Path(plan.stage)) if plan.stage else call for call in calls]
    except (ValueError, OSError) as error:
        yield from (Outcome(call.folder, "failed", f"--stage: {error}") for call in calls)
        return
    done = set()
    for state, group in _groups(calls, plan.aside):
        for outcome in _train_together(group, state):
            done.add(outcome.folder)
            yield outcome
    for call in (call for call in calls if call.folder not in done):
        ready = _prepare(call, plan.aside)
        yield ready if isinstance(ready, Outcome) else _train(call, ready)


def _groups(calls: Sequence[Call], aside: bool) -> list[tuple[str, list[Call]]]:
    """Return the trainings of a group, two or more at a time, that are new or at the same step."""
    groups = defaultdict(list)
    for call in calls:
        if call.group and call.trains:
            ready = _prepare(call, aside)
            if not isinstance(ready, Outcome):  # that is for `work` to say
                checkpoint = run_state.latest(call.folder)
                groups[ready, checkpoint and checkpoint.name].append(call)
    return [(state, group) for (state, _), group in groups.items() if len(group) > 1]


def _prepare(call: Call, aside: bool) -> Outcome | str:
    """Prepare a call: return its outcome if nothing is to be done, else "new" or "resumable"."""
    try:
        state = examine(call.folder, cli.expected(call.arguments))
        outdated = state.kind == "finished" and run_state.is_outdated(call.folder, call.needs)
        if state.kind == "finished" and not outdated:
            return Outcome(call.folder, "skipped")
        if call.needs and examine(call.needs, cli.expected(call.needed)).kind != "finished":
            reason = (
                f"its training in {call.needs} is not finished, or of another configuration: train "
                "it first, with the same settings"
            )
            return Outcome(call.folder, "failed", reason)
        if state.kind == "changed" and not aside:
            reason = REFUSAL.format(folder=call.folder, differing=state.differing)
            return Outcome(call.folder, "failed", reason)
        _make_room(call, "changed" if outdated else state.kind)
        if state.kind == "begun":
            with claim(call.folder):  # or what a run there has just begun would be deleted
                run_state.clear(call.folder)
    except (ValueError, TypeError, OSError) as error:
        return Outcome(call.folder, "failed", str(error))
    return "resumable" if state.kind == "resumable" else "new"


def _make_room(call: Call, state: str) -> None:
    """Set aside a run of another configuration, and tests of prompts that are not there now."""
    old = [call.folder] if state == "changed" else []
    if call.trains and state != "resumable":
        old += [f for f in call.folder.parent.glob("test_*") if not run_state.ASIDE.search(f.name)]
    for folder in old:
        with claim(folder):
            run_state.set_aside(folder)


def _train(call: Call, state: str) -> Outcome:
    """Call `python train.py ...` in this process; its output is in the folder's log.txt."""
    arguments = _arguments(call, state)
    kind, reason, detail = _ending(cli.main, arguments)
    if not reason and not run_state.is_finished(call.folder):
        kind, reason = "failed", "train.py ended without results.json"
    return Outcome(call.folder, kind, reason, detail)


def _train_together(calls: Sequence[Call], state: str) -> list[Outcome]:
    """Train what is at the same step; return outcomes of those that are finished, or stopped.

    After a failure the others are left to be trained separately, and then report what is wrong.
    """
    kind, reason, detail = _ending(cli.main_multi_seed, [_arguments(call, state) for call in calls])
    finished = [call for call in calls if run_state.is_finished(call.folder)]
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


def _arguments(call: Call, state: str) -> list[str]:
    """Return those of the call; to resume, --resume takes the place of --output-dir."""
    flag = "--resume" if state == "resumable" else "--output-dir"
    return [flag if word == "--output-dir" else word for word in call.arguments]
