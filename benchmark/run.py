"""Run protocols: `python -m benchmark.run base2new --root DATA --output OUT [KEY VALUE ...]`.

A protocol is a name of configs/protocols or a YAML of your own; "--root demo" runs it on the demo
world. Lists are written 1,2,3. Finished runs are skipped, interrupted ones resumed, runs of another
configuration refused. KEY VALUE pairs at the end go to every run. OUT/failures.json records what
failed, and --retry-failed repeats it; `python -m benchmark.report OUT` makes the tables.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from dassl.utils import write_json
from filelock import FileLock

from benchmark import protocol as protocols
from benchmark.plan import Run, expand
from benchmark.protocol import Protocol, comma, numbers
from benchmark.runner import Runner
from benchmark.summary import findings, relative, workload_table
from benchmark.worker import Call, Outcome
from experiment.cli import expected
from experiment.multi_seed import is_multi_seed
from experiment.run_state import examine
from trainers import requires_training

RETRY = "add --retry-failed"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.run",
        usage="%(prog)s PROTOCOL [...] --root DATA --output OUT [options] [KEY VALUE ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    parser.add_argument("--jobs", type=int, help="runs at once; default: one per GPU, or 2")
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
    args = parser.parse_intermixed_args(argv)
    args.protocols, args.pairs = _split(args.words)
    return args


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split names of protocols from KEY VALUE pairs; keys are written SECTION.KEY."""
    for index, word in enumerate(words):
        if word.split(".")[0].isupper():
            return list(words[:index]), list(words[index:])
    return list(words), []


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
        failed = read_failures(args.output)
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
        needed = run.of_training().arguments(args.root, output, args.pairs)
        call = replace(call, needs=output / run.training, needed=tuple(needed))
    return call


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        planned = plan(args)
        for _, call in planned:
            expected(call.arguments)  # a wrong key is reported now, and once
        if args.dry_run:
            dry_run(planned, args)
            return
    except (ValueError, TypeError, OSError) as error:
        print(f"benchmark.run: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(execute(planned, args))


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
    print(f"{takes}\n{count(planned)}; {_state(planned)}", file=sys.stderr)


def execute(
    planned: Sequence[tuple[Run, Call]], args: argparse.Namespace, retry: str = RETRY
) -> int:
    """Run what is not finished; print what was found and what failed.

    Args:
        planned: runs and their calls.
        args: output, gpus, jobs, set_aside.
        retry: what a user does to repeat just the failed runs.

    Returns:
        The exit status: 0, 1 with failures, 130 interrupted.
    """
    print(f"{count(planned)}; {_state(planned)}", file=sys.stderr)
    gpus = chosen_gpus(args.gpus) or [None]
    jobs = args.jobs or (len(gpus) if gpus[0] is not None else 2)
    outcomes = Runner(gpus, jobs, args.set_aside).run([call for _, call in planned])
    failed = [outcome for outcome in outcomes.values() if outcome.kind == "failed"]
    record(args.output, outcomes)
    print(findings(planned, outcomes, args.output))
    if failed:
        print(f"\n{len(failed)} of {len(planned)} runs failed:", file=sys.stderr)
    for outcome in failed:
        print(f"  {relative(outcome.folder)}: {outcome.reason}", file=sys.stderr)
    if len(outcomes) < len(planned):
        print("Interrupted. To resume, repeat the command.", file=sys.stderr)
        return 130
    if failed:
        print(f"To repeat just these: {retry}", file=sys.stderr)
    return 1 if failed else 0


def count(planned: Sequence[tuple[Run, Call]]) -> str:
    """Count trainings and evaluations; each training ends with an evaluation."""
    trainings = sum(run.trains for run, _ in planned)
    return f"trainings: {trainings}, evaluations: {len(planned)} (a training ends with one)"


def _state(planned: Sequence[tuple[Run, Call]]) -> str:
    kinds = [examine(call.folder, expected(call.arguments)).kind for _, call in planned]
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
        ValueError: a number beyond those.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return list(asked or map(str, range(torch.cuda.device_count())))
    visible = comma(given)
    beyond = [number for number in asked or () if int(number) >= len(visible)]
    if beyond:
        raise ValueError(
            f"--gpus {beyond[0]}: CUDA_VISIBLE_DEVICES is {given}, so numbers go from 0 to "
            f"{len(visible) - 1}."
        )
    return [visible[int(number)] for number in asked] if asked else visible


def read_failures(output: Path) -> dict[str, dict[str, str]]:
    """Read OUT/failures.json: the folder of each failed run, with the reason."""
    path = output / "failures.json"
    return json.loads(path.read_text()) if path.exists() else {}


def record(output: Path, outcomes: dict[Path, Outcome]) -> None:
    """Write OUT/failures.json: what failed, less what has ended well since."""
    output.mkdir(parents=True, exist_ok=True)
    with FileLock(output / ".failures.lock"):
        failures = read_failures(output)
        for folder, outcome in outcomes.items():
            name = os.path.relpath(folder, output.resolve())
            failures.pop(name, None)
            if outcome.kind == "failed":
                failures[name] = {"reason": outcome.reason, "detail": outcome.detail}
        if failures:
            write_json(failures, str(output / "failures.json"))
        else:
            (output / "failures.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
