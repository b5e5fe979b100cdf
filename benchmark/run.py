"""Run protocols: `python -m benchmark.run base2new --root DATA --output OUT [KEY VALUE ...]`.

A protocol is a name of configs/protocols or a YAML of your own; "--root demo" runs it on the demo
world. Lists are written 1,2,3. Finished runs are skipped, interrupted ones go on, a run of another
configuration is refused. KEY VALUE pairs at the end go to every run. OUT/failures.json records what
failed; `python -m benchmark.report OUT` makes the tables.
"""

import argparse
import fcntl
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dassl.utils import write_json

from benchmark import protocol as protocols
from benchmark.protocol import Protocol
from benchmark.runner import Runner
from benchmark.runs import Run, expand, learns
from benchmark.state import examine, expected
from benchmark.worker import Call, Outcome
from trainers.together import steps_together


def comma(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def numbers(text: str) -> list[int]:
    return [int(part) for part in comma(text)]


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
        help="keep runs of another configuration under a dated name, and run anew",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    args = parser.parse_intermixed_args(argv)
    args.protocols, args.pairs = _split(args.words)
    return args


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of protocols, then KEY VALUE pairs; keys are written SECTION.KEY."""
    for index, word in enumerate(words):
        if word.split(".")[0].isupper():
            return list(words[:index]), list(words[index:])
    return list(words), []


def select(args: argparse.Namespace) -> list[Protocol]:
    """The protocols asked for, or the part of each."""
    asked = (args.trainers, args.datasets, args.seeds, args.shots)
    found = [protocols.load(name, demo=args.root == "demo") for name in args.protocols]
    for protocol in found:
        own = {pair for _, options in protocol.rows.values() for pair in options[::2]}
        taken = sorted(own & set(args.pairs[::2]))
        if taken:
            raise ValueError(f"{taken[0]} is what the rows of {protocol.name} differ in: drop it.")
    return [protocols.select(protocol, *asked) for protocol in found]


def plan(args: argparse.Namespace) -> list[tuple[Run, Call]]:
    """All runs and their calls of train.py; one that several protocols need stands once.

    Raises:
        ValueError, FileNotFoundError: what was asked for is not there.
    """
    output = args.output.resolve()
    runs: dict[Path, tuple[Run, Call]] = {}
    for run in (run for protocol in select(args) for run in expand(protocol)):
        if args.only and (run.training is None) != (args.only == "train"):
            continue
        arguments = tuple(run.arguments(args.root, output, args.pairs))
        call = Call(arguments, output / run.folder, run.trains)
        if args.together and args.only != "test" and steps_together(run.trainer):
            call = replace(call, group=call.folder.parents[1])
        if run.training and learns(run.trainer):
            needed = run.of_training().arguments(args.root, output, args.pairs)
            call = replace(call, needs=output / run.training, needed=tuple(needed))
        runs.setdefault(run.folder, (run, call))
    if not runs:
        raise ValueError("There is nothing to run: no protocol asked for has such a step.")
    return list(runs.values())


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        planned = plan(args)
        for _, call in planned:
            expected(call.arguments)  # a wrong key is said now, and once
    except (ValueError, TypeError, OSError) as error:
        sys.exit(_stop(error))
    if args.dry_run:
        for _, call in planned:
            print(shlex.join(["python", "train.py", *map(_relative, call.arguments)]))
        print(f"# {count(planned)}; {_state(planned)}", file=sys.stderr)
        return
    sys.exit(execute(planned, args, lambda runs: _command(args, runs)))


def _stop(error: Exception) -> int:
    print(f"benchmark.run: {error}", file=sys.stderr)
    return 2


def execute(
    planned: Sequence[tuple[Run, Call]],
    args: argparse.Namespace,
    again: Callable[[Sequence[Run]], str],
) -> int:
    """Run what is not finished, and say what failed.

    Args:
        planned: runs and their calls.
        args: output, gpus, jobs, set_aside.
        again: the command that repeats some runs, all without any.

    Returns:
        The exit status: 0, 1 with failures, 130 interrupted.
    """
    print(f"{count(planned)}; {_state(planned)}", file=sys.stderr)
    gpus = chosen_gpus(args.gpus) or [None]
    jobs = args.jobs or (len(gpus) if gpus[0] is not None else 2)
    outcomes = Runner(gpus, jobs, args.set_aside).run([call for _, call in planned])
    failed = [outcome for outcome in outcomes.values() if outcome.kind == "failed"]
    record(args.output, outcomes)
    if len(outcomes) < len(planned):
        print(f"Interrupted. To go on: {again(())}", file=sys.stderr)
        return 130
    if not failed:
        return 0
    print(f"\n{len(failed)} of {len(planned)} runs failed:", file=sys.stderr)
    for outcome in failed:
        print(f"  {_relative(str(outcome.folder))}: {outcome.reason}", file=sys.stderr)
    runs = [run for run, call in planned if outcomes[call.folder].kind == "failed"]
    print(f"To repeat just these: {again(runs)}", file=sys.stderr)
    return 1


def count(planned: Sequence[tuple[Run, Call]]) -> str:
    """How many trainings and evaluations; each training ends with an evaluation."""
    trainings = sum(run.trains for run, _ in planned)
    return f"trainings: {trainings}, evaluations: {len(planned)} (a training ends with one)"


def _state(planned: Sequence[tuple[Run, Call]]) -> str:
    kinds = [examine(call.folder, expected(call.arguments)).kind for _, call in planned]
    said = {"finished": "finished", "resumable": "to go on", "changed": "of another configuration"}
    parts = [f"{kinds.count(kind)} {word}" for kind, word in said.items() if kind in kinds]
    return ", ".join(parts) or "none finished"


def chosen_gpus(asked: Sequence[str] | None) -> list[str]:
    """The GPUs asked for, or all; where CUDA_VISIBLE_DEVICES is set, numbers count within it.

    Raises:
        ValueError: a number beyond those.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        import torch

        return list(asked or map(str, range(torch.cuda.device_count())))
    visible = comma(given)
    beyond = [number for number in asked or () if int(number) >= len(visible)]
    if beyond:
        raise ValueError(
            f"--gpus {beyond[0]}: CUDA_VISIBLE_DEVICES is {given}, so numbers go from 0 to "
            f"{len(visible) - 1}."
        )
    return [visible[int(number)] for number in asked] if asked else visible


def record(output: Path, outcomes: dict[Path, Outcome]) -> None:
    """Write OUT/failures.json: what failed, less what has ended well since."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / "failures.json"
    with open(output / ".lock", "a") as lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        failures = json.loads(path.read_text()) if path.exists() else {}
        for folder, outcome in outcomes.items():
            name = os.path.relpath(folder, output.resolve())
            failures.pop(name, None)
            if outcome.kind == "failed":
                failures[name] = {"reason": outcome.reason, "detail": outcome.detail}
        if failures:
            write_json(failures, str(path))
        else:
            path.unlink(missing_ok=True)


def _command(args: argparse.Namespace, runs: Sequence[Run] = ()) -> str:
    """This command again, narrowed down to some runs as far as its flags can say it."""
    names, datasets, shots = args.protocols, args.datasets, args.shots
    if runs:
        chosen = dict(zip(names, select(args), strict=True))
        folders = {run.folder for run in runs}
        names = [n for n, p in chosen.items() if folders & {r.folder for r in expand(p)}]
        columns, counts = _once(r.dataset for r in runs), _once(r.shots for r in runs if r.shots)
        datasets = columns if all(set(columns) <= set(chosen[n].columns) for n in names) else []
        shots = counts if all(set(counts) <= set(chosen[n].shots) for n in names) else []
    asked = {
        "--trainers": _once(run.trainer for run in runs if args.trainers) or args.trainers,
        "--datasets": datasets,
        "--seeds": _once(run.seed for run in runs) or args.seeds,
        "--shots": shots,
        "--only": [args.only] if args.only else [],
        "--jobs": [args.jobs] if args.jobs else [],
        "--gpus": args.gpus or [],
    }
    words = ["python", "-m", "benchmark.run", *names, "--root", args.root]
    words += ["--output", str(args.output)]
    for flag, values in asked.items():
        words += [flag, ",".join(map(str, values))] if values else []
    words += ["--together"] if args.together else []
    return shlex.join([*words, *args.pairs])


def _once(values) -> list:
    return list(dict.fromkeys(values))


def _relative(word: str) -> str:
    """A path below the current folder without what is above it."""
    here = f"{Path.cwd()}{os.sep}"
    return word.removeprefix(here)


if __name__ == "__main__":
    main()
