"""Show how far the runs of an output folder are: `python -m benchmark.status OUT [--watch]`.

It reads the plans that `benchmark.run` left there, results, locks and logs, and asks Slurm for its
queue where runs were submitted. Whoever started them may have logged out.
"""

import argparse
import getpass
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark import command_line
from benchmark.calls import JOBS, Call, read_plan, seconds_of, unit_name
from benchmark.failures import read_failures, read_json
from benchmark.progress import progress
from experiment.lock import NAME, may_be_alive, read_owner

KINDS = ("done", "running", "waiting", "failed")
REFRESH = 10  # seconds
RECORD = Path(JOBS, "jobs.json")  # unit to job, below the output folder


@dataclass
class State:
    """Say how far a run is.

    Attributes:
        kind: one of KINDS.
        trains: whether it is a training.
        where: who runs it, or is to.
        text: epoch and loss, or why it failed.
        log: what to read.
        seconds: that it took, if it is done.
        steps: of a training; of one that runs, those that are left.
    """

    kind: str
    trains: bool
    where: str = ""
    text: str = ""
    log: str = ""
    seconds: float = 0.0
    steps: float = 0.0


def survey(output: Path) -> dict[str, State]:
    """Return the state of each planned run, by its folder below the output folder.

    Raises:
        FileNotFoundError: no plan is there.
    """
    plans = sorted((output / JOBS).glob("plan-*.json"), key=lambda path: path.stat().st_mtime)
    if not plans:
        raise FileNotFoundError(f"{output} holds no plan: benchmark.run writes one.")
    units: dict[str, dict[str, Call]] = {}
    for plan in map(read_plan, plans):
        for number, calls in enumerate(plan.units):
            unit = units.setdefault(unit_name(plan, number), {})
            unit.update({str(call.folder.relative_to(plan.output)): call for call in calls})
    failures, jobs, found = read_failures(output), submitted(output), {}
    queue = dict(jobs.values())
    for name, calls in units.items():
        job, queued = jobs.get(name, ("", ""))
        free = True
        for run, call in calls.items():
            held = _holder((output / run).parent / NAME, queue) if free else ""
            log = f"{output / JOBS / job}_0_log.err" if job else f"{output / run / 'log.txt'}"
            state = found[run] = State("waiting", call.trains, log=log, steps=call.steps)
            if run in failures and not held and not queued:
                state.kind, state.text = "failed", failures[run]["reason"]
            elif record := read_json(output / run / "results.json"):
                state.kind, state.seconds = "done", seconds_of(record)
            elif held:
                share, state.text = progress(output / run)
                state.kind, state.where, free = "running", held, False
                state.steps *= 1 - share
            elif queued:
                state.where = f"job {job}, {queued.lower()}"
            elif job:
                state.kind, state.text = "failed", f"job {job} is gone, and left no result"
    return found


def submitted(output: Path) -> dict[str, tuple[str, str]]:
    """Return job and state of each unit that was submitted; "" once it is gone, "?" if unknown."""
    jobs = read_json(output / RECORD)
    states = ask("-u", getpass.getuser()) if jobs else {}
    unknown = "?" if states is None else ""
    return {unit: (job, (states or {}).get(job, unknown)) for unit, job in jobs.items()}


def ask(*flags: str) -> dict[str, str] | None:
    """Return the states of jobs in the queue; None where Slurm does not answer."""
    command = ["squeue", "--noheader", "--array", "--format=%i %T", *flags]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split() for line in found.stdout.splitlines())


def cancel(output: Path) -> list[str]:
    """Cancel the jobs of an output folder that are in the queue; return them."""
    there = [job for job, state in submitted(output).values() if state]
    if there:
        subprocess.run(["scancel", *there], check=True)
    return there


def _holder(lock: Path, queue: Mapping[str, str]) -> str:
    """Return who is at work in a folder, if anybody is; jobs of the queue are not asked for."""
    try:
        owner = read_owner(lock)
    except FileNotFoundError:
        return ""
    if not owner or not (queue.get(owner["job"]) == "RUNNING" or may_be_alive(owner)):
        return ""
    who = f"job {owner['job']}" if owner["job"] else f"process {owner['pid']}"
    return f"{who} on {owner['host']}"


def summarize(states: dict[str, State]) -> dict:
    """Count the runs; estimate what remains from the seconds that a step, with all else, took."""
    runs = list(states.values())
    counts = Counter(state.kind for state in runs)
    done = [state for state in runs if state.kind == "done"]
    trained = [state.seconds for state in done if state.trains]
    steps = sum(state.steps for state in done)
    left = sum(state.steps for state in runs if state.kind in ("running", "waiting"))
    total = sum(state.seconds for state in done)
    rate = total / steps / counts["running"] if steps and counts["running"] else None
    return {
        **{kind: counts[kind] for kind in KINDS},
        "seconds_per_training": sum(trained) / len(trained) if trained else None,
        "seconds_left": None if rate is None else left * rate,
    }


def show(output: Path, states: dict[str, State]) -> Iterator[str]:
    """Yield the lines of the page."""
    found = summarize(states)
    counts = ", ".join(f"{found[kind]} {kind}" for kind in KINDS)
    yield f"{output}: {counts} of {len(states)} runs"
    if found["seconds_per_training"] is not None:
        yield f"seconds per training, with its evaluation: {found['seconds_per_training']:.0f}"
    if found["seconds_left"] is not None:
        end = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + found["seconds_left"]))
        hours = found["seconds_left"] / 3600
        yield f"about {hours:.1f} hours left with {found['running']} runs at work, done by {end}"
    for run, state in states.items():
        if state.kind == "running":
            yield f"running  {run}  {state.where}  {state.text}".rstrip()
    for run, state in states.items():
        if state.kind == "failed":
            yield f"failed   {run}: {state.text}; see {state.log}"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("benchmark.status", __doc__)
    parser.add_argument("output", type=Path, metavar="OUT", help="folder of all runs")
    parser.add_argument(
        "--watch", action="store_true", help=f"every {REFRESH} s, while any run is left"
    )
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument("--cancel", action="store_true", help="cancel its jobs in Slurm's queue")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        if args.cancel:
            print(f"cancelled: {', '.join(cancel(args.output)) or 'no job was in the queue'}")
        while True:
            states = survey(args.output)
            if args.json:
                runs = {run: asdict(state) for run, state in states.items()}
                print(json.dumps({**summarize(states), "runs": runs}))
            else:
                print("\n".join(show(args.output, states)), flush=True)
            if not args.watch or all(state.kind in ("done", "failed") for state in states.values()):
                return
            time.sleep(REFRESH)
            print()
    except (OSError, ValueError) as error:
        print(f"benchmark.status: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
