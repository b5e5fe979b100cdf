"""Make a folder of prompts of a run or checkpoint: `python -m inference.share RUN FOLDER`."""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from experiment.exit_status import explain
from inference.run import Run, load_run, read_results
from prompting.hub import push_to_hub, save_prompts


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
    return parser.parse_args(argv)


def share(args: argparse.Namespace) -> None:
    """Save the prompts with a model card, and print where they are."""
    with redirect_stdout(sys.stderr):  # warnings: the other one says where things are
        run = load_run(args.run, backbone=args.backbone, epoch=args.load_epoch)
    own = [run.results] if run.results else []
    others = [_of_these(path, run) for path in args.results]
    print(save_prompts(run.model, args.folder, run.training, [*own, *others]))
    if args.push_to_hub:
        print(push_to_hub(args.folder, args.push_to_hub, args.private))


def _of_these(path: Path, run: Run) -> Mapping[str, Any]:
    """Read the results of another evaluation; refuse those of another method or backbone."""
    results = read_results(path)
    found = results["trainer"], results["backbone"]["sha256"]
    if found != (run.training["trainer"], run.model.backbone.sha256):
        raise ValueError(
            f"{path} has figures of {found[0]} with the backbone {found[1][:12]}..., and these "
            f"prompts are of {run.training['trainer']} with "
            f"{run.model.backbone.sha256[:12]}...: give evaluations of these prompts."
        )
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status, see docs/failures.md."""
    args = parse_args(argv)
    logging.getLogger("dassl").setLevel(logging.WARNING)
    try:
        share(args)
    except Exception as error:
        status, text = explain(error, running=False)
        print(f"inference.share: {text}", file=sys.stderr)
        return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
