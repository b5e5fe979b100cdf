"""Check and prepare data sets: `python -m datasets check --root DATA`.

KEY VALUE pairs behind the names, as those of train.py, say what a run would read.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml
from dassl.config import get_cfg_default
from dassl.utils.registry import check_availability
from yacs.config import CfgNode

from datasets import FAMILY, ON_DISK, add_config
from datasets.check import Report, as_table, check
from datasets.prepare import prepare
from prompting.files import check_folder, read_text

logger = logging.getLogger("dassl")
ALL = [loader.__name__ for loader in FAMILY]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m datasets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    look = commands.add_parser("check", help="report what is there and what is missing")
    look.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(ON_DISK)}; then KEY VALUE pairs"
    )
    look.add_argument("--deep", action="store_true", help="decode every image")
    look.add_argument("--json", action="store_true", help="print JSON instead of a table")
    look.add_argument("--dataset-config-file", type=Path, help="YAML of a run's data set")
    get = commands.add_parser("prepare", help="download what can be downloaded and put it in place")
    get.add_argument("names", nargs="+", metavar="NAME", help=f"of {', '.join(ALL)}")
    get.add_argument("--mirror", default="", help="address that serves MIRROR/<folder>/<file>")
    for command in (look, get):
        command.add_argument("--root", required=True, type=Path, help="folder of the data sets")
    args, more = parser.parse_known_args(argv)
    words = [*args.names, *more]  # argparse leaves the names behind a flag to us
    keys = [i for i, word in enumerate(words) if "." in word and word.split(".")[0].isupper()]
    first = keys[0] if keys and args.command == "check" else len(words)
    args.names, args.pairs = words[:first], words[first:]
    try:
        for word in words:
            if word.startswith("--"):
                raise ValueError(f"unrecognized argument {word}; flags come before KEY VALUE pairs")
        if args.command == "check" and not os.path.isdir(args.root):
            raise ValueError(f"--root must be a folder, got {args.root}")
        file = getattr(args, "dataset_config_file", None)
        args.cfg = read_cfg(file, args.pairs)
        args.cfg.DATASET.ROOT = str(args.root)
        args.names = args.names or ([args.cfg.DATASET.NAME] if file else [])
        for name in args.names:
            check_availability(name, ON_DISK if args.command == "check" else ALL, "data set")
        if args.command == "prepare":
            check_folder(args.root)
            args.root.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return args


def read_cfg(file: Path | None, pairs: Sequence[str]) -> CfgNode:
    """Return the configuration of a run's data set: from its YAML, then from KEY VALUE pairs.

    Raises:
        ValueError, OSError: a file that is no YAML, an unknown key, or a value of another type.
    """
    cfg = get_cfg_default()
    add_config(cfg)
    if file and not file.is_file():
        raise FileNotFoundError(f"--dataset-config-file must be a YAML file, {file} is no file")
    if file:
        try:
            section = CfgNode(yaml.safe_load(read_text(file))["DATASET"])
            cfg.DATASET.merge_from_other_cfg(section)
        except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
            text = " ".join(str(error).split())
            raise ValueError(f"{file} must be YAML with a section DATASET: {text}") from error
    if len(pairs) % 2:
        raise ValueError(f"options come as KEY VALUE pairs, {pairs[-1]} has no value")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        *above, name = key.split(".")
        node = cfg
        for part in above:
            node = node.get(part) if isinstance(node, CfgNode) else None
        if not isinstance(node, CfgNode) or name not in node:
            raise ValueError(f"unknown key {key}: check takes those of DATASET, as train.py does")
        if isinstance(node[name], str):
            node[name] = value
        else:
            node.merge_from_list([name, value])
    return cfg


def look_at(args: argparse.Namespace) -> list[Report]:
    """Check the data sets and print the reports as a table or as JSON."""
    level = logger.level
    logger.setLevel(logging.ERROR)  # standard output holds the table or the JSON alone
    try:
        reports = [check(name, args.cfg, args.deep) for name in args.names or ALL]
    finally:
        logger.setLevel(level)
    text = json.dumps(list(map(asdict, reports)), indent=2) if args.json else as_table(reports)
    print(text.encode(errors="backslashreplace").decode())  # a path may be no UTF-8
    return reports


def get(args: argparse.Namespace) -> list[Report]:
    """Prepare one data set after another; a failure does not stop the next one."""
    failed = set()
    for name in args.names:
        try:
            prepare(name, args.root, args.mirror)
        except (OSError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.add(name)
    reports = [check(name, args.cfg) for name in args.names]
    for report in reports:
        if report.name in failed and report.verdict != "ready":  # not this command again
            by_hand = ON_DISK[report.name].by_hand.format(folder=report.folder)
            report.action = "see above, by hand" if by_hand else "see above"
            report.todo = f"by hand: {by_hand}" if by_hand else ""
    print(as_table(reports))
    return reports


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 if all data sets asked for are ready, else 1; 2 for wrong calls."""
    args = parse_args(argv)
    reports = look_at(args) if args.command == "check" else get(args)
    return int(any(report.verdict != "ready" for report in reports))


if __name__ == "__main__":
    sys.exit(main())
