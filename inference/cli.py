"""Classify images: `python predict.py --prompts RUN_OR_FOLDER_OR_HUB_ID SOURCE ...`.

Sources are files, folders, patterns in quotes ("photos/*.jpg"), and .txt files with a path per
line. Without --prompts CLIP classifies as it is, into the --classes of a file.
"""

import argparse
import codecs
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from dassl.utils import atomic_write
from dassl.utils.logger import own_handlers
from tqdm import tqdm

from experiment.exit_status import INCOMPLETE, MACHINE, STOPPED, Stop, explain
from inference.formats import FORMATS, check_format, write
from inference.page import write_page
from inference.run import load_run
from prompting import PromptedCLIP, load_backbone
from prompting.files import check_folder
from prompting.hub import is_prompts, load_prompts
from prompting.prediction import Prediction, image_files, predict, read_classes, zero_shot

# What a terminal or pipe cannot show is written as in JSON (\u72ac), which stays JSON.
codecs.register_error("json", lambda e: (json.dumps(e.object[e.start : e.end])[1:-1], e.end))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="predict.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder, pattern, list")
    parser.add_argument(
        "--prompts", default="", help="output folder of a run, checkpoint, folder of prompts, Hub"
    )
    parser.add_argument("--classes", type=Path, help="file with a class name per line")
    parser.add_argument("--backbone", default="", help="default: the prompts' own, else ViT-B/16")
    parser.add_argument("--topk", type=int, default=1, help="classes per image (default: 1)")
    parser.add_argument("-b", "--batch-size", type=int, default=64, help="default: 64")
    parser.add_argument(
        "--format", "--results-format", choices=FORMATS, help="default: by the file's name, table"
    )
    parser.add_argument("--results-file", type=Path, help="default: standard output")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page with thumbnails")
    parser.add_argument("--debug", action="store_true", help="show errors with their traceback")
    args = parser.parse_args(argv)
    suffix = args.results_file.suffix[1:] if args.results_file else ""
    args.format = args.format or (suffix if suffix in FORMATS else "table")
    return args


def check(args: argparse.Namespace) -> None:
    """Refuse what could only fail after the work is done.

    Raises:
        ValueError: a number below 1, no class names, a file that cannot be written.
    """
    for name in ("topk", "batch_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1.")
    if not args.prompts and not args.classes:
        raise ValueError("Without --prompts there are no class names: pass --classes FILE.")
    check_format(args.format)
    if args.format == "parquet" and not args.results_file:
        raise ValueError("Parquet is not for a terminal: pass --results-file.")
    for path in filter(None, (args.results_file, args.html)):
        if path.is_dir():
            raise ValueError(f"{path} is a folder: give the name of a file to write.")
        check_folder(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise ValueError(f"{path.parent} cannot be written: give a file somewhere else.")


def load_model(args: argparse.Namespace) -> PromptedCLIP:
    """Return the classifier that --prompts, --classes and --backbone ask for."""
    names = read_classes(args.classes) if args.classes else None
    path = Path(args.prompts).expanduser()
    if args.prompts and path.exists() and not is_prompts(path):
        return load_run(path, names, args.backbone, argument="--prompts").model
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.prompts:
        return load_prompts(args.prompts, names, args.backbone or None, device=device)[0]
    return zero_shot(load_backbone(args.backbone or "ViT-B/16", device=device), names)


def warnings_only() -> logging.Handler:
    """Return what prints warnings to standard error: standard output is for the results."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    return handler


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status, see docs/failures.md."""
    args = parse_args(argv)
    with own_handlers([warnings_only()]):
        status, text = _run(args)
    if text:
        print(f"predict.py: {text}", file=sys.stderr)
    return status


def _run(args: argparse.Namespace) -> tuple[int, str]:
    """Return the exit status, and what went wrong."""
    running = False
    try:
        check(args)
        files = image_files(args.sources)
        model = load_model(args)
        running = True
        done, status = _predict(args, model, files)
        _write(args, model, done)
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        return MACHINE, f"The memory is used up ({error}): lower --batch-size."
    except Exception as error:
        if args.debug:
            raise
        return explain(error, running)
    return status, ""


def _predict(
    args: argparse.Namespace, model: PromptedCLIP, files: Sequence[Path]
) -> tuple[list[Prediction], int]:
    """Return the predictions and the exit status; Ctrl-C ends with those that are done."""
    done: list[Prediction] = []
    start = time.monotonic()
    progress = tqdm(total=len(files), unit=" images", disable=None, file=sys.stderr)
    with Stop(), progress, suppress(KeyboardInterrupt):
        for prediction in predict(model, files, args.topk, args.batch_size):
            done.append(prediction)
            progress.update()
    seconds = time.monotonic() - start
    broken = [prediction for prediction in done if prediction.error]
    speed = f"{len(done) / seconds:.1f} images/s"
    print(f"{len(done)} of {len(files)} images, {speed}, {len(broken)} skipped", file=sys.stderr)
    for prediction in broken:
        print(f"skipped {prediction.filename}: {prediction.error}", file=sys.stderr)
    if len(done) < len(files):
        return done, STOPPED
    return done, INCOMPLETE if broken else 0


def _write(args: argparse.Namespace, model: PromptedCLIP, done: Sequence[Prediction]) -> None:
    content = write(done, args.format)
    if args.results_file:
        with atomic_write(args.results_file) as file:
            file.write(content)
    elif not args.html or args.format != "table":
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(content.decode().encode(encoding, "json").decode(encoding))
    if args.html:
        write_page(args.html, done, model.classnames)
