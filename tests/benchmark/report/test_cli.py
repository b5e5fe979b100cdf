"""The command: formats, runs of no protocol, figures, errors."""

import csv
import io
import json

import pytest

from benchmark.plan import expand
from benchmark.protocol import load, select
from benchmark.report import main


@pytest.fixture
def output(tmp_path, result):
    """DTD of table 1 with two of three seeds, and a run of no protocol."""
    runs = expand(select(load("base2new"), datasets=["dtd"], seeds=[1, 2]))
    for run in runs:
        result(tmp_path, run, 80.0 + run.seed)
    result(tmp_path, runs[0], 61.0, "OPTIM.LR", "0.5", folder=tmp_path / "mine")
    return tmp_path


@pytest.mark.parametrize("style", ["terminal", "markdown", "latex", "csv", "json"])
def test_every_format_holds_the_figures_and_the_verdict(output, capsys, style):
    main([str(output), "--protocol", "base2new", "--format", style])
    text = capsys.readouterr().out
    if style == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        (cell,) = (
            r for r in rows if r["row"] == "MMLoP" and r["column"] == "dtd" and "base" in r["table"]
        )
        assert (float(cell["value"]), cell["seeds"], cell["planned"]) == (81.5, "2", "3")
        return
    if style == "json":
        first, base, *_ = json.loads(text)["base2new"]
        assert base["rows"][0]["dtd"]["value"] == 81.5 and base["rows"][0]["dtd"]["planned"] == 3
        assert base["rows"][1]["dtd"] == pytest.approx(81.5 - 82.67)
        assert first["verdict"]["state"] == "incomplete" and "verdict" not in base
        return
    cell = {
        "terminal": "2 of 3",  # below the figure: the table is too wide for one line
        "markdown": "81.50 ± 0.71 (2 of 3)",
        "latex": r"81.50 $\pm$ 0.71 (2 of 3)",
    }
    assert cell[style] in text and "Verdict on table 1: incomplete." in text
    assert (r"\toprule" in text and "$-1.17$ &" in text) == (style == "latex")


def test_other_runs_are_listed(output, capsys):
    main([str(output)])
    text = capsys.readouterr().out
    line = next(ln for ln in text.splitlines() if ln.startswith("mine"))
    assert line.split() == ["mine", "MMLoP", "DescribableTextures", "base", "16", "1", "61.00"]
    assert "Runs of no protocol" in text and "are missing" in text


def test_seeds_that_there_should_be(output, capsys):
    main([str(output), "--protocol", "base2new", "--seeds", "1,2", "--format", "markdown"])
    text = capsys.readouterr().out
    assert "81.50 ± 0.71 (2)" in text
    assert "Verdict on table 1: incomplete." in text  # the paper's figures have three seeds


def test_one_figure_is_drawn_and_its_path_printed(output, capsys):
    main([str(output), "--figures", "figure1_parameters"])
    (path,) = capsys.readouterr().out.splitlines()
    assert path == str(output / "report" / "figures" / "figure1_parameters.png")
    assert [p.name for p in sorted((output / "report" / "figures").iterdir())] == [
        "figure1_parameters.png",
        "figure1_parameters.svg",
    ]


def test_paired_differences_are_compared(output, result, capsys):
    rival = select(load("base2new"), trainers=["IVLP"], datasets=["dtd"], seeds=[1, 2])
    for run in expand(rival):
        result(output, run, 75.0 + 2 * run.seed)
    words = [str(output), "--protocol", "base2new", "--compare", "MMLoP", "--format"]
    main([*words, "json"])
    tables = json.loads(capsys.readouterr().out)["base2new"]
    summary = next(table for table in tables if table["title"].endswith("minus the others"))
    base = summary["rows"][0]
    assert (base["minus"], base["in"], base["wins"], base["p"]) == ("IVLP", "base", 1, None)
    assert base["difference"] == {"value": 3.5, "std": 0.5**0.5, "seeds": 2, "planned": 3}
    for style in ("terminal", "markdown", "latex", "csv", "html"):
        main([*words, style])
    assert "minus the others" in (output / "report" / "index.html").read_text()


def test_a_method_without_a_rival_is_not_compared(output, capsys):
    for name in ("MMLoP", "CoOp"):
        with pytest.raises(SystemExit) as stopped:
            main([str(output), "--compare", name])
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and f"nothing to compare {name} with: --compare" in error
        assert error.rstrip().endswith("rows are MMLoP.")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--figures", "figure2"], "No figure figure2: choose figure1_parameters, "),
        (["--figures", "figure4_few_shot"], "nothing to draw figure4_few_shot from below"),
        (["--figures", "critical_difference"], "docs/tables.md says how many data sets and"),
        (["--protocol", "nothing"], 'No protocol "nothing": choose '),
        (["--figures", "figure4_few_shot", "--check"], "--figures goes with --seeds alone"),
        (["--figures", "figure4_few_shot", "--format", "html"], "--figures goes with --seeds"),
        ([], "There is no results.json below"),
    ],
)
def test_wrong_usage_ends_with_2(tmp_path, capsys, words, text):
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), *words])
    assert stopped.value.code == 2 and text in capsys.readouterr().err
