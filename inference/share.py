"""Make a folder of prompts of a run or checkpoint: `python -m inference.share RUN FOLDER`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dassl.utils.logger import own_handlers

from experiment.exit_status import explain
from experiment.run_state import read_results
from inference.cli import warnings_only
from inference.run import Run, load_run
from prompting.hub import push_to_hub, save_prompts

OF_CARD = ("dataset", "subsample", "split", "correct", "total")  # of a results.json


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m inference.share", description=__doc__)
    parser.add_argument("run", type=Path, help="output folder of a run, or a checkpoint")
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument("--load-epoch", type=int, help="epoch; default: best, else last")
    parser.add_argument("--backbone", default="", help="where the run's own is not there any more")
    parser.add_argument(
        "--results", type=Path, nargs="+", default=[], metavar="FILE",
        help="results.json of other evaluations of these prompts, for the model card",
    )  # fmt: skip
    parser.add_argument("--push-to-hub", default="", metavar="USER/NAME", help="put it on the Hub")
    parser.add_argument("--private", action="store_true", help="for yourself alone, on the Hub")
    parser.add_argument("--debug", action="store_true", help="show errors with their traceback")
    return parser.parse_args(argv)


def share(args: argparse.Namespace) -> None:
    """Save the prompts with a model card, and print where they are."""
    run = load_run(args.run, None, args.backbone, args.load_epoch, argument="RUN")
    own = [run.results] if run.results else []
    others = [_of_these(path, run) for path in args.results]
    print(save_prompts(run.model, args.folder, run.training, [*own, *others]))
    if args.push_to_hub:
        print(_push(args))


def _push(args: argparse.Namespace) -> str:
    """Put the folder on the Hub and return its address; an error says how to do that later."""
    try:
        return push_to_hub(args.folder, args.push_to_hub, args.private)
    except ValueError as error:
        private = ", private=True" if args.private else ""
        raise ValueError(
            f"{str(error).rstrip('.')}; the folder is written, push it later by "
            f'prompting.push_to_hub("{args.folder}", "{args.push_to_hub}"{private}).'
        ) from error


def _of_these(path: Path, run: Run) -> Mapping[str, Any]:
    """Read the results of another evaluation; refuse those of other prompts, as far as is known."""
    if not path.is_file():
        raise FileNotFoundError(
            f"--results takes the results.json of evaluations, and {path} is no file."
        )
    results = read_results(path)
    try:
        backbone, *_ = results["backbone"]["sha256"], *(results[key] for key in OF_CARD)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or no results.json of this code base.") from error
    own = _origin(run.training, run.model.backbone.sha256)
    found = _origin(results, backbone)
    other = [key for key in own if found.get(key, own[key]) != own[key]]
    if other:
        differing = ", ".join(f"{key} {found[key]} and not {own[key]}" for key in other)
        raise ValueError(
            f"{path} has figures of other prompts ({differing}): give evaluations of these."
        )
    return results


def _origin(facts: Mapping[str, Any], backbone: str) -> Mapping[str, Any]:
    """Return which prompts these are, without a seed or shots of -1, which say nothing."""
    known = {key: facts.get(key, -1) for key in ("trainer", "seed", "shots")}
    return {key: value for key, value in known.items() if value != -1} | {"backbone": backbone}


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status, see docs/failures.md."""
    args = parse_args(argv)
    try:
        with own_handlers([warnings_only()]):
            share(args)
    except Exception as error:
        if args.debug:
            raise
        status, text = explain(error, running=False)
        print(f"inference.share: {text}", file=sys.stderr)
        return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
