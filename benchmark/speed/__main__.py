"""How long training steps, evaluation and start-up take, and beside it how much they have to.

    python -m benchmark.speed --output speed.json
    python -m benchmark.speed --against PROMPTSRC_CHECKOUT --dassl DASSL_CHECKOUT --classes 50,500

Timed is a whole MMLoP trainer, built as train.py builds it, on pictures that lie in memory: loading
data is not measured. With --against PromptSRC's own trainer on upstream's Dassl does the same, in
turn with ours, on the same weights, class names, pictures, precision and number of threads.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from dassl.utils import write_json
from tqdm import tqdm

from benchmark.run import comma, numbers
from benchmark.speed import flops, reference
from benchmark.speed.bench import IMAGES, REFERENCE, SEEDS, Bench, Checkouts
from benchmark.speed.projection import project
from benchmark.speed.table import text
from benchmark.speed.world import RANDOM, class_names
from prompting.cache import processor
from prompting.precision import WEIGHT_DTYPES
from trainers.results import commit, versions

MEASURES = ("step", "seeds", "evaluation", "start")
LAUNCH = 20  # seconds for new processes and their trainers, roughly
ABOUT = """\
Seconds are medians. needed: FLOPs of the matrix products that the work needs at least
(benchmark/speed/flops.py); of peak: at which share of a large matrix product's rate ours did them.
memory of a step: the peak of the first steps, less what was held before them (on a CPU the resident
memory of the process, on a GPU the memory that PyTorch allocated)."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.speed",
        usage="%(prog)s [options] [KEY VALUE ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--classes", type=numbers, default=[10, 50, 100, 500, 1000])
    parser.add_argument("--batch", type=numbers, default=[4, 32], help="images in a training step")
    parser.add_argument(
        "--measure", type=comma, default=list(MEASURES), help=f"some of {','.join(MEASURES)}"
    )
    parser.add_argument("--batches", type=int, default=1, help=f"of {IMAGES} images, to evaluate")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of each side")
    parser.add_argument("--precision", choices=tuple(WEIGHT_DTYPES), default="fp32")
    parser.add_argument(
        "--backbone",
        default=RANDOM,
        help='"random" (the shape of ViT-B/16), a name such as "ViT-B/16", "demo", or a file',
    )
    parser.add_argument("--against", type=Path, help="checkout of muzairkhattak/PromptSRC")
    parser.add_argument("--dassl", type=Path, help="checkout of KaiyangZhou/Dassl.pytorch")
    parser.add_argument("--project", action="store_true", help="hours that the paper's tables take")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    parser.add_argument("pairs", nargs="*", metavar="KEY VALUE", help="options of our trainer")
    return parser.parse_intermixed_args(argv)


def check(args: argparse.Namespace) -> Checkouts | None:
    """The checkouts that are given.

    Raises:
        ValueError, FileNotFoundError: options that cannot be, or cannot be together.
    """
    for count in args.classes:
        class_names(count)
    wrong = [name for name in args.measure if name not in MEASURES]
    if wrong:
        raise ValueError(f"--measure {wrong[0]} is unknown: choose {', '.join(MEASURES)}.")
    for name in ("batches", "repeats", "threads"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}.")
    needed = {"step", "evaluation", "start"}
    if args.project and (len(set(args.classes)) < 2 or not needed <= set(args.measure)):
        raise ValueError(
            "--project needs step, evaluation, start at two numbers of classes or more: "
            "drop --measure, and pass --classes 10,100, for example."
        )
    if (args.against is None) != (args.dassl is None):
        raise ValueError("--against and --dassl go together: PromptSRC runs on upstream's Dassl.")
    if args.against is None:
        return None
    if args.precision not in reference.PRECISIONS:
        known = " or ".join(reference.PRECISIONS)
        raise ValueError(f"PromptSRC does not run in {args.precision}: pass --precision {known}.")
    return Checkouts(
        reference.check_checkout(
            args.against, reference.MARKER, "muzairkhattak/PromptSRC", "--against"
        ),
        reference.check_checkout(
            args.dassl, reference.ENGINE_MARKER, "KaiyangZhou/Dassl.pytorch", "--dassl"
        ),
    )


@dataclass(frozen=True)
class Part:
    """One measurement: what it is called, roughly how long it takes, in FLOPs, what makes it."""

    label: str
    cost: float
    measure: Callable[[], dict]


def plan(args: argparse.Namespace, bench: Bench) -> list[Part]:
    """What to measure. More of it is a method of Bench that returns a record, and a Part here."""
    parts = []
    for classes in args.classes:
        if "step" in args.measure:
            parts += [
                Part(
                    f"step, {classes} classes, batch {batch}",
                    flops.plain_step(bench.shape, batch, classes),
                    partial(bench.step, classes, batch),
                )
                for batch in args.batch
            ]
        if "seeds" in args.measure:
            parts += [
                Part(
                    f"{SEEDS} seeds, {classes} classes, batch {batch}",
                    4 * flops.needed_step(bench.shape, batch, bench.words(classes)),
                    partial(bench.seeds, classes, batch),
                )
                for batch in args.batch
            ]
        if "evaluation" in args.measure:
            cost = flops.plain_evaluation(bench.shape, IMAGES * args.batches, classes, args.batches)
            measure = partial(bench.evaluation, classes, args.batches)
            parts.append(Part(f"evaluation, {classes} classes", cost, measure))
        if "start" in args.measure:
            cost = flops.plain_frozen_text(bench.shape, classes, 10)  # as long as ours with all
            parts.append(Part(f"start, {classes} classes", cost, partial(bench.start, classes)))
    return parts


def run(args: argparse.Namespace, checkouts: Checkouts | None, scratch: Path) -> dict:
    """Measure everything; --output is written after every part, so that nothing is lost."""
    torch.set_num_threads(args.threads)
    bench = Bench(
        args.backbone, args.precision, args.threads, args.repeats, checkouts, scratch, args.pairs
    )
    content = {
        "about": ABOUT,
        "machine": machine(args, bench.peak),
        "repeats": args.repeats,
        "records": [],
        "sides": bench.told,
    }
    parts = plan(args, bench)
    constant = LAUNCH * bench.peak / args.repeats
    total = sum(part.cost + constant for part in parts)
    form = "{desc} {percentage:.0f}% [{elapsed}<{remaining}]"
    with tqdm(total=total, bar_format=form, disable=None) as bar:
        for part in parts:
            bar.set_description(part.label)
            content["records"].append(part.measure())
            bar.update(part.cost + constant)
            write(args.output, content)
    if checkouts and REFERENCE in bench.told:
        bench.told[REFERENCE]["shims"].append(shortened(bench.told[REFERENCE], args.repeats))
        bench.told[REFERENCE]["commits"] = {
            "PromptSRC": checked_out(checkouts.promptsrc),
            "Dassl.pytorch": checked_out(checkouts.dassl),
        }
    if args.project:
        content["projection"] = project(content["records"], list(bench.told))
    write(args.output, content)
    return content


def machine(args: argparse.Namespace, peak: float) -> dict:
    """Where and with what it was measured."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else processor(),
        "threads": args.threads,
        "precision": args.precision,
        "peak": peak,
        "backbone": args.backbone,
        "options": args.pairs,
        "versions": versions(),
        "commit": commit(),
    }


def shortened(told: dict, repeats: int) -> str:
    """How the reference's frozen text features were timed."""
    of = told["of_templates"]
    return (
        f"1 of its {of} templates; at the start {repeats} times, and the median counted {of} times"
    )


def checked_out(folder: Path) -> str | None:
    """The commit of a checkout; None outside git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run([*command, "--exclude=*"], capture_output=True, text=True)
    return done.stdout.strip() or None


def write(path: Path | None, content: dict) -> None:
    if path is not None:
        write_json(content, str(path))


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        checkouts = check(args)
        with tempfile.TemporaryDirectory() as scratch:
            content = run(args, checkouts, Path(scratch))
    except (ValueError, OSError) as error:
        print(f"benchmark.speed: {error}", file=sys.stderr)
        sys.exit(2)
    print(text(content))


if __name__ == "__main__":
    main()
