"""Check and prepare data sets: `python -m datasets check --root DATA`."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.utils.registry import check_availability

from datasets import FAMILY, ON_DISK
from datasets.check import Report, as_dicts, as_table, check
from datasets.prepare import prepare

logger = logging.getLogger("dassl")
ALL = [loader.__name__ for loader in FAMILY]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m datasets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    look = commands.add_parser("check", help="report what is there and what is missing")
    look.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ON_DISK)}")
    look.add_argument("--deep", action="store_true", help="decode every image")
    look.add_argument("--json", action="store_true", help="print JSON instead of a table")
    get = commands.add_parser("prepare", help="download what can be downloaded and put it in place")
    get.add_argument("names", nargs="+", metavar="NAME", help=f"of {', '.join(ALL)}")
    get.add_argument("--mirror", default="", help="address that serves MIRROR/<folder>/<file>")
    for command in (look, get):
        command.add_argument("--root", required=True, type=Path, help="folder of the data sets")
    args = parser.parse_args(argv)
    try:
        for name in args.names:
            known = ON_DISK if args.command == "check" else ALL
            check_availability(name, known, "data set")
    except ValueError as error:
        parser.error(str(error))
    if args.command == "check" and not args.root.is_dir():
        parser.error(f"--root must be a folder, got {args.root}")
    return args


def look_at(args: argparse.Namespace) -> list[Report]:
    """Check the data sets and print the reports as a table or as JSON."""
    level = logger.level
    logger.setLevel(logging.ERROR)  # standard output holds the table or the JSON alone
    try:
        reports = [check(name, args.root, args.deep) for name in args.names or ALL]
    finally:
        logger.setLevel(level)
    print(json.dumps(as_dicts(reports), indent=2) if args.json else as_table(reports))
    return reports


def get(args: argparse.Namespace) -> list[Report]:
    """Prepare one data set after another; a failure does not stop the next one."""
    args.root.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        try:
            prepare(name, args.root, args.mirror)
        except (OSError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
    reports = [check(name, args.root) for name in args.names]
    print(as_table(reports))
    return reports


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 if all data sets asked for are ready, else 1; 2 for wrong calls."""
    args = parse_args(argv)
    reports = look_at(args) if args.command == "check" else get(args)
    return int(any(report.verdict != "ready" for report in reports))


if __name__ == "__main__":
    sys.exit(main())
