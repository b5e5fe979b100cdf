"""Run protocols: `python -m benchmark.run base2new --root DATA --output OUT [KEY VALUE ...]`.

A protocol is a name of configs/protocols or a YAML of your own; "--root demo" runs it on the demo
world. Lists are written 1,2,3. Finished runs are skipped, interrupted ones resumed, runs of another
configuration refused. KEY VALUE pairs at the end go to every run. OUT/failures.json records what
failed, and --retry-failed repeats it; `python -m benchmark.status OUT` shows how far they are, and
`python -m benchmark.report OUT` makes the tables.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from benchmark import command_line, slurm
from benchmark import protocol as protocols
from benchmark.calls import Call, Plan, unit_name, units
from benchmark.failures import Outcome, read_failures, record
from benchmark.plan import Run, config_of, expand
from benchmark.protocol import Protocol, comma, numbers, positive
from benchmark.scheduler import Scheduler
from benchmark.status import submitted, survey
from benchmark.summary import count, relative, report, workload_table
from benchmark.workload import schedule
from experiment.cli import split_pairs
from experiment.multi_seed import is_multi_seed
from experiment.run_state import RunState, examine, is_outdated
from trainers import requires_training

RETRY = "add --retry-failed"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = "%(prog)s PROTOCOL [...] --root DATA --output OUT [options] [KEY VALUE ...]"
    parser = command_line("benchmark.run", __doc__, usage)
    parser.add_argument(
        "words", nargs="+", metavar="PROTOCOL", help=f"{', '.join(protocols.names())}, or a YAML"
    )
    parser.add_argument("--root", required=True, help='folder that holds the data sets, or "demo"')
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--trainers", type=comma, default=[], help="other methods, or all")
    parser.add_argument("--datasets", type=comma, default=[], help="only these columns")
    parser.add_argument("--seeds", type=numbers, default=[])
    parser.add_argument("--shots", type=numbers, default=[])
    parser.add_argument("--only", choices=("train", "test"), help="one of the two steps")
    parser.add_argument("--jobs", type=positive, help="runs at once; default: one per GPU, or 2")
    parser.add_argument(
        "--together", action="store_true", help="train the seeds in one process, stepped together"
    )
    parser.add_argument("--gpus", type=comma, help="numbers of GPUs; default: all that are visible")
    parser.add_argument(
        "--set-aside",
        action="store_true",
        help="keep runs of another configuration under a dated name, and run again",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="only what OUT/failures.json lists"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands and what they take, run nothing"
    )
    parser.add_argument(
        "--stage", default="", metavar="DIR", help="copy data sets to this disk of a node first"
    )
    _add_launchers(parser)
    args = parser.parse_intermixed_args(argv)
    args.protocols, args.pairs = split_pairs(args.words)
    return args


def _add_launchers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Slurm")
    group.add_argument(
        "--launcher",
        choices=("local", "slurm", "print"),
        default="local",
        help="this machine; an array of jobs, by submitit; or a script for sbatch on stdout",
    )
    group.add_argument("--partition", default="")
    group.add_argument("--gpus-per-job", type=int, default=1)
    group.add_argument("--time", type=slurm.minutes, default=240, help="limit of a job, 4:00:00")
    group.add_argument("--array", type=int, default=64, help="jobs that run at once")
    group.add_argument(
        "--sbatch",
        type=slurm.option,
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="another option of sbatch, such as account=A or exclusive; may be repeated",
    )


def select(args: argparse.Namespace) -> list[Protocol]:
    """Return the protocols asked for, or the part of each."""
    asked = (args.trainers, args.datasets, args.seeds, args.shots)
    found = [protocols.load(name, demo=args.root == "demo") for name in args.protocols]
    for protocol in found:
        own = {pair for _, options in protocol.rows.values() for pair in options[::2]}
        taken = sorted(own & set(args.pairs[::2]))
        if taken:
            raise ValueError(f"{taken[0]} is what the rows of {protocol.name} differ in: drop it.")
    return [protocols.select(protocol, *asked) for protocol in found]


def plan(args: argparse.Namespace) -> list[tuple[Run, Call]]:
    """Return all runs and their calls of train.py; one that several protocols need stands once.

    Raises:
        ValueError, FileNotFoundError: what was asked for is not there.
    """
    runs: dict[Path, Run] = {}
    for run in (run for protocol in select(args) for run in expand(protocol)):
        if not args.only or (run.training is None) == (args.only == "train"):
            runs.setdefault(run.folder, run)
    if not runs:
        raise ValueError("There is nothing to run: no protocol asked for has such a step.")
    if args.retry_failed:
        failed = _failed(args.output)
        runs = {folder: run for folder, run in runs.items() if str(folder) in failed}
        if not runs:
            raise ValueError(
                f"There is nothing to retry: {args.output / 'failures.json'} lists no run of "
                "what was asked for."
            )
    return [(run, _call(run, args)) for run in runs.values()]


def _call(run: Run, args: argparse.Namespace) -> Call:
    output = args.output.resolve()
    arguments = tuple(run.arguments(args.root, output, args.pairs))
    call = Call(arguments, output / run.folder, run.trains)
    if args.together and args.only != "test" and is_multi_seed(run.trainer):
        call = replace(call, group=call.folder.parents[1])
    if run.training and requires_training(run.trainer):
        needed = run.training.arguments(args.root, output, args.pairs)
        call = replace(call, needs=output / run.training.folder, needed=tuple(needed))
    return call


def _failed(output: Path) -> set[str]:
    """Return the folders of the runs that failed, with those of jobs that are gone."""
    failed = set(read_failures(output))
    with suppress(FileNotFoundError):
        failed |= {run for run, state in survey(output).items() if state.kind == "failed"}
    return failed


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        planned = plan(args)
        for _, call in planned:
            config_of(call.arguments)  # a wrong key is reported now, and once
        if args.dry_run:
            dry_run(planned, args)
            return
        sys.exit(execute(planned, args))
    except (ValueError, TypeError, OSError) as error:
        print(f"benchmark.run: {error}", file=sys.stderr)
        sys.exit(2)


def dry_run(planned: Sequence[tuple[Run, Call]], args: argparse.Namespace) -> None:
    """Print the commands, then on stderr what each protocol takes."""
    for _, call in planned:
        print(shlex.join(["python", "train.py", *map(relative, call.arguments)]))
    parts = {}
    for protocol in select(args):
        own = {run.folder for run in expand(protocol)}
        label = f"{protocol.name} ({protocol.paper})" if protocol.paper else protocol.name
        parts[label] = [(run, call) for run, call in planned if run.folder in own]
    try:
        takes = workload_table(parts)
    except ValueError as error:
        takes = str(error)
    print(f"{takes}\n{count(planned)}; {_words(states(planned))}", file=sys.stderr)


def execute(
    planned: Sequence[tuple[Run, Call]],
    args: argparse.Namespace,
    retry: str = RETRY,
    resume: str = "repeat the command",
) -> int:
    """Run what is not finished, here or on a cluster.

    Args:
        planned: runs and their calls.
        args: output, gpus, jobs, set_aside, stage, launcher and Slurm's options.
        retry: what a user does to repeat just the failed runs.
        resume: what a user does after an interruption.

    Returns:
        The exit status: 0, 1 with failures, 130 interrupted.
    """
    found = states(planned)
    print(f"{count(planned)}; {_words(found)}", file=sys.stderr)
    outcomes = {
        call.folder: Outcome(call.folder, "skipped")
        for _, call in planned
        if found[call.folder].kind == "finished" and not is_outdated(call.folder, call.needs)
    }
    calls = [replace(call, steps=_steps(call)) for _, call in planned]
    whole = Plan(args.output.resolve(), units(calls), args.set_aside, args.stage)
    left = [n for n, unit in enumerate(whole.units) if any(c.folder not in outcomes for c in unit)]
    if args.launcher != "local":
        return _submit(whole, left, args)
    gpus = chosen_gpus(args.gpus) or [None]
    jobs = args.jobs or (len(gpus) if gpus[0] is not None else 2)
    places = [gpus[number % len(gpus)] for number in range(jobs)]
    Scheduler(whole, left, places, outcomes).run()
    record(whole.output, outcomes.values())
    return report(planned, outcomes, args.output, retry, resume)


def _submit(plan: Plan, left: Sequence[int], args: argparse.Namespace) -> int:
    queued = {unit for unit, (_, state) in submitted(plan.output).items() if state}
    numbers = [number for number in left if unit_name(plan, number) not in queued]
    if len(numbers) < len(left):
        print(f"{len(left) - len(numbers)} are in the queue already", file=sys.stderr)
    if not numbers:
        print("nothing is left to submit", file=sys.stderr)
    elif args.launcher == "print":
        print(slurm.script(plan, numbers, args))
    else:
        jobs = slurm.submit(plan, numbers, args)
        print(f"submitted {len(jobs)} jobs, {jobs[0]} to {jobs[-1]}")
    print(f"How far they are: python -m benchmark.status {args.output} --watch", file=sys.stderr)
    return 0


def _steps(call: Call) -> int:
    """Return the steps of a training; 0 for a test, or a data set of unknown size."""
    try:
        return schedule(config_of(call.arguments))[0] if call.trains else 0
    except ValueError:
        return 0


def states(planned: Sequence[tuple[Run, Call]]) -> dict[Path, RunState]:
    """Return what the folder of each run holds."""
    return {
        call.folder: examine(call.folder, {**config_of(call.arguments), "SEED": run.seed})
        for run, call in planned
    }


def _words(found: Mapping[Path, RunState]) -> str:
    kinds = [state.kind for state in found.values()]
    words = {
        "finished": "finished",
        "resumable": "to be resumed",
        "changed": "of another configuration",
    }
    parts = [f"{kinds.count(kind)} {word}" for kind, word in words.items() if kind in kinds]
    return ", ".join(parts) or "none finished"


def chosen_gpus(asked: Sequence[str] | None) -> list[str]:
    """Return the GPUs asked for, or all; numbers count within CUDA_VISIBLE_DEVICES, if it is set.

    Raises:
        ValueError: a number beyond those that are visible.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = list(map(str, range(torch.cuda.device_count()))) if given is None else comma(given)
    for number in asked or ():
        if not number.isdecimal() or int(number) >= len(visible):
            raise ValueError(
                f"--gpus {number}: {len(visible)} GPUs are visible here, numbered from 0."
            )
    return [visible[int(number)] for number in asked] if asked else visible


if __name__ == "__main__":
    main()
