"""Print tables, figures and a page of all runs below a folder: `python -m benchmark.report OUT`.

Runs are those of `python -m benchmark.run`, of train.py by hand, and of the original code bases'
train.py (their log.txt). Next to ours stand published figures, and under each table of the paper
the verdict: do they agree? html writes OUT/report/index.html and its figures, and prints where.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark import command_line
from benchmark import protocol as protocols
from benchmark.report.cells import BLANK, Cell, Table
from benchmark.report.collect import FURTHER, Collected, collect, reported
from benchmark.report.results import Results
from benchmark.report.tables import tables
from benchmark.report.text import FORMATS, write
from benchmark.report.verdict import INSIDE, NONE, Verdict


def main(argv: Sequence[str] | None = None) -> None:
    """Report as the command line says; exit with 2 for wrong usage, 1 where --check fails."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.figures and (args.check or args.compare or args.protocol or args.format != FORMATS[0]):
        parser.error("--figures goes with --seeds alone: a figure has its own protocols and files.")
    try:
        if args.figures:
            draw(args.output, args.figures, args.seeds)
            return
        verdicts = report(args.output, args.protocol, args.format, args.seeds, args.compare)
    except (ValueError, OSError) as error:
        print(f"benchmark.report: {error}", file=sys.stderr)
        sys.exit(2)
    if args.check and {v.state for v in verdicts if v.state != NONE} != {INSIDE}:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = command_line("benchmark.report", __doc__)
    parser.add_argument("output", type=Path, metavar="OUT", help="folder of all runs")
    parser.add_argument(
        "--protocol",
        type=protocols.comma,
        default=[],
        help=f"{', '.join(protocols.names())}; default: all that were run",
    )
    parser.add_argument(
        "--seeds",
        type=protocols.numbers,
        default=[],
        help="expected; default: the protocol's",
    )
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0])
    parser.add_argument(
        "--figures",
        type=protocols.comma,
        metavar="NAME[,NAME]",
        help="draw these, and print their paths",
    )
    parser.add_argument(
        "--compare", metavar="METHOD", help="add its paired differences to the others, with tests"
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless there are verdicts, all inside"
    )
    return parser


def report(
    output: Path,
    names: Sequence[str],
    style: str,
    seeds: Sequence[int] = (),
    compare: str | None = None,
) -> list[Verdict]:
    """Print a report, or write the page and print its path; return the verdict on each table.

    Args:
        output: the folder of all runs.
        names: report these protocols, found or not; without names those of which there are runs.
        style: one of FORMATS.
        seeds: expected; without any the protocol's.
        compare: add tables of this row minus the others of its protocol.

    Raises:
        FileNotFoundError: nothing to report.
        ValueError: nothing to compare.
    """
    results = Results(output)
    if not names and not results.all and not results.logs:
        raise FileNotFoundError(
            f"There is no results.json below {output}: python -m benchmark.run makes them."
        )
    found = gather(results, names, seeds)
    named = [(f"{c.protocol.name}{' (demo world)' * c.protocol.demo}", tables(c)) for c in found]
    if compare:
        from benchmark.report.significance import comparisons  # scipy takes a second to import

        further = [comparisons(each, compare) for each in found]
        if not any(further):
            rows = dict.fromkeys(row for each in found for row in each.rows)
            raise ValueError(
                f"There is nothing to compare {compare} with: --compare takes a method that has "
                f"results next to another's; rows are {', '.join(rows)}."
            )
        named = [(name, own + more) for (name, own), more in zip(named, further, strict=True)]
    other = None if names else other_runs(results)
    verdicts = [first.verdict for _, (first, *_) in named]
    named += [("other", [other])] if other else []
    if style == "html":
        from benchmark.report.html import write_page  # matplotlib takes a second to import

        print(write_page(output / "report", results, found, named))
    else:
        print(write(named, style))
    return verdicts


def draw(output: Path, names: Sequence[str], seeds: Sequence[int] = ()) -> None:
    """Draw figures by name into OUT/report/figures, and print the path of each PNG.

    Raises:
        ValueError: no such figure, or no runs for it.
    """
    from benchmark.report.figures import DRAWINGS, draw_all  # matplotlib takes a second to import

    wrong = [name for name in names if name not in DRAWINGS]
    if wrong:
        raise ValueError(f"No figure {', '.join(wrong)}: choose {', '.join(DRAWINGS)}.")
    results, folder = Results(output), output / "report" / "figures"
    for name in names:
        protocol_names = DRAWINGS[name][1]
        drawn = draw_all(gather(results, protocol_names, seeds), folder, [name])
        if not drawn:
            needed = " or ".join(protocol_names)
            raise ValueError(
                f"There is nothing to draw {name} from below {output}: run {needed}; "
                "docs/tables.md says how many data sets and methods a figure needs."
            )
        print(*(folder / f"{figure.name}.png" for figure in drawn), sep="\n")


def gather(
    results: Results, names: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[Collected]:
    """Return protocols, as `report` takes them, with what was found, on real data and the demo."""
    both = [
        collect(protocols.load(name, demo), results, seeds)
        for name in names or protocols.names()
        for demo in (False, True)
    ]
    if not names:
        return reported(both)
    found = [each for each in both if each.found]
    there = {each.asked.name for each in found}
    return found + [each for each in both[::2] if each.asked.name not in there]


def other_runs(results: Results) -> Table | None:
    """Return a table of the runs that are of no protocol."""
    lines = []
    for result in results.others:
        data = result.data
        split = f" ({data['split']} split)" if data.get("split", "test") != "test" else ""
        figures = [data.get(key) for key in ("accuracy", *FURTHER)]
        words = [result.folder.relative_to(results.output), data["trainer"]]
        words += [data["dataset"] + split, data["subsample"], data["shots"], data["seed"]]
        cells = [
            BLANK if f is None else Cell(f"{f:.2f}", f, kind="own", seeds=1, planned=1)
            for f in figures
        ]
        lines.append([*(Cell(str(word)) for word in words), *cells])
    header = ["folder", "method", "data set", "classes", "shots", "seed", "accuracy"]
    header += FURTHER.values()
    return Table("Runs of no protocol", header, lines) if lines else None
