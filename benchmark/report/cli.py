"""Tables, figures and a page of all runs below a folder: `python -m benchmark.report OUT`.

Runs are those of `python -m benchmark.run`, of train.py by hand, and of the original code bases'
train.py (their log.txt). html writes OUT/report/index.html and its figures, and prints where.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark import protocol as protocols
from benchmark.cells import Cell, Table
from benchmark.formats import FORMATS, write
from benchmark.results import Collected, Results, collect
from benchmark.run import comma, numbers
from benchmark.tables import tables


def gather(
    results: Results, names: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[Collected]:
    """Protocols with what was found of them, on real data and on the demo world.

    Args:
        names: these protocols, found or not; without names those of which something was found.
        seeds: that there should be; without any the protocol's.
    """
    found = []
    for name in names or protocols.names():
        both = [
            collect(protocols.select(protocols.load(name, demo), seeds=seeds), results)
            for demo in (False, True)
        ]
        there = [collected for collected in both if collected.any]
        found += there or (both[:1] if names else [])
    return found


def other_runs(results: Results) -> Table | None:
    """Runs that are of no protocol."""
    lines = [
        [
            Cell(str(result.folder.relative_to(results.output))),
            Cell(result.data["trainer"]),
            Cell(result.data["dataset"]),
            Cell(result.data["subsample"]),
            Cell(str(result.data["shots"])),
            Cell(str(result.data["seed"])),
            Cell(f"{result.accuracy:.2f}", result.accuracy, kind="own", seeds=1, planned=1),
        ]
        for result in results.others
    ]
    header = ["folder", "method", "data set", "classes", "shots", "seed", "accuracy"]
    return Table("Runs of no protocol", header, lines) if lines else None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="folder of all runs")
    parser.add_argument(
        "--protocol",
        type=comma,
        default=[],
        help=f"{', '.join(protocols.names())}; default: all that were run",
    )
    parser.add_argument(
        "--seeds", type=numbers, default=[], help="that there should be; default: the protocol's"
    )
    parser.add_argument("--format", choices=FORMATS, default="terminal")
    args = parser.parse_args(argv)
    try:
        report(args.output, args.protocol, args.format, args.seeds)
    except (ValueError, OSError) as error:
        print(f"benchmark.report: {error}", file=sys.stderr)
        sys.exit(2)


def report(output: Path, names: Sequence[str], style: str, seeds: Sequence[int] = ()) -> None:
    """Print a report, or write the page.

    Raises:
        FileNotFoundError: nothing to report.
    """
    results = Results(output)
    if not names and not results.all and not results.logs:
        raise FileNotFoundError(
            f"There is no results.json below {output}: python -m benchmark.run makes them."
        )
    found = gather(results, names, seeds)
    named = [(f"{c.protocol.name}{' (demo world)' * c.protocol.demo}", tables(c)) for c in found]
    other = None if names else other_runs(results)
    named += [("other", [other])] if other else []
    if style != "html":
        print(write(named, style))
        return
    from benchmark.page import write_page

    print(write_page(output / "report", results, found, named))


if __name__ == "__main__":
    main()
