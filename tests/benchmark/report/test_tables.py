import csv
import io
import json
from pathlib import Path

import pytest

from benchmark.protocol import load, select
from benchmark.published import entries
from benchmark.report import main
from benchmark.runs import expand

PUBLISHED = {entry.trainer: entry for entry in entries("base2new") if entry.datasets}
# Methods whose published averages follow from their data sets to the last digit.
EXACT = ("CoOp", "CoCoOp", "MaPLe", "PromptSRC", "TCP")


def write_table(result, output: Path, name: str, accuracy, **asked) -> None:
    for run in expand(select(load(name), **asked)):
        result(output, run, accuracy(run))


def told(output: Path, capsys, *flags: str) -> str:
    main([str(output), *flags])
    return capsys.readouterr().out


def line(text: str, *starts: str) -> list[str]:
    """The words of the first line that begins with these."""
    return next(ln for ln in text.splitlines() if ln.split()[: len(starts)] == [*starts]).split()


def test_published_figures_come_out_as_published(tmp_path, capsys, result):
    """Runs with five methods' published accuracies: the published averages and HMs, and no gap."""
    halves = {"base": 0, "new": 1}
    write_table(
        result,
        tmp_path,
        "base2new",
        lambda run: PUBLISHED[run.trainer].datasets[run.dataset][halves[run.classes]],
        trainers=EXACT,
    )
    text = told(tmp_path, capsys, "--protocol", "base2new")
    for trainer in EXACT:
        base, new, hm = (f"{figure:.2f}" for figure in PUBLISHED[trainer].average)
        cells = [word for figure in (base, new, hm) for word in (figure, "±", "0.00", "(3)")]
        words = line(text, trainer)
        assert words[1:13] == cells, trainer
        assert words[-2] == hm and abs(float(words[-1])) < 0.01
    assert "missing" in line(text, "MMLoP")
    content = json.loads(told(tmp_path, capsys, "--protocol", "base2new", "--format", "json"))
    average, by_dataset, beside = content["base2new"]
    without = {row["method"]: row["HM without EuroSAT"] for row in average["rows"]}
    own, theirs = without["TCP"]["value"], without["TCP (published)"]
    assert own == pytest.approx(theirs) and own == pytest.approx(79.20, abs=0.005)
    assert len(by_dataset["rows"]) == 11 * 6  # with MMLoP, whose runs are missing
    assert beside["rows"][-2]["TCP (pub.)"] == 79.51 and any("TCP:" in s for s in beside["sources"])


def test_what_is_missing_is_said(tmp_path, capsys, result):
    protocol = select(load("base2new"), datasets=["dtd"], seeds=[1, 2])
    for run in expand(protocol)[:3]:  # seed 2 was not tested on the new classes
        result(tmp_path, run, 80.0 + run.seed)
    text = told(tmp_path, capsys)
    words = line(text, "dtd", "MMLoP")
    assert " ".join(words) == "dtd MMLoP 81.50 ± 0.71 (2 of 3) 81.00 (1 of 3) 81.25 (1 of 3)"
    assert "MMLoP: over 1 of 11 data sets." in text
    assert "63 of 66 evaluations are missing." in text
    assert line(text, "MMLoP")[-1] == "79.70"  # no difference to an average of other data sets
    words = line(told(tmp_path, capsys, "--seeds", "1,2"), "dtd", "MMLoP")
    assert " ".join(words) == "dtd MMLoP 81.50 ± 0.71 (2) 81.00 (1 of 2) 81.25 (1 of 2)"


def test_another_setting_is_told(tmp_path, capsys, result):
    run = expand(load("few_shot"))[0]
    result(tmp_path, run, 50.0, "OPTIM.MAX_EPOCH", "3")
    said = "Not the protocol's setting: OPTIM.MAX_EPOCH is 3, the protocol has 50."
    assert said in told(tmp_path, capsys)


def test_transfer_beside_published(tmp_path, capsys, result):
    own = {"imagenet": 70.0, "imagenetv2": 64.0, "imagenet_sketch": 49.0, "imagenet_a": 51.0}
    write_table(result, tmp_path, "domain_generalization", lambda run: own.get(run.dataset, 77.0))
    text = told(tmp_path, capsys, "--protocol", "domain_generalization")
    words = line(text, "MMLoP")
    assert " ".join(words[1:5]) == "70.00 ± 0.00 (3)"
    assert " ".join(words[-4:]) == "60.25 ± 0.00 (3)"
    assert line(text, "minus", "published")[-1] == "-0.21"  # 60.25 - 60.46
    assert line(text, "PromptSRC")[-1] == "60.65"


def test_few_shot_beside_published(tmp_path, capsys, result):
    write_table(result, tmp_path, "few_shot", lambda run: 70.0 + run.shots, shots=[4, 16])
    text = told(tmp_path, capsys, "--protocol", "few_shot")
    cells = "missing missing 74.00 ± 0.00 (3) missing 86.00 ± 0.00 (3)"
    assert " ".join(line(text, "MMLoP")[1:]) == cells
    assert line(text, "minus", "published")[2:] == ["-3.50", "+4.50"]  # to 77.5 and 81.5
    assert line(text, "average", "without", "EuroSAT")[-4] == "86.00"


def test_the_ablation_beside_the_paper(tmp_path, capsys, result):
    """Rank by rank the paper gives the new accuracy alone."""
    accuracy = {"base": 80.0, "new": 70.0}
    write_table(result, tmp_path, "ablation_rank", lambda run: accuracy[run.classes], seeds=[1])
    text = told(tmp_path, capsys, "--protocol", "ablation_rank")
    assert "published new" in text
    assert line(text, "rank", "2")[-2:] == ["75.01", "-5.01"]


def test_runs_by_hand_count_where_they_are_the_protocol_s(tmp_path, capsys, result):
    output = tmp_path / "out"
    train, test = expand(select(load("base2new"), datasets=["dtd"], seeds=[1]))
    result(output, train, 61.0, folder=output / "mine" / "base")
    result(output, test, 62.0, folder=output / "mine" / "new")
    path = output / "mine" / "new" / "results.json"
    data = json.loads(path.read_text())
    data["evaluated_checkpoint"]["path"] = str(output / "mine/base/prompt_learner/model.pth.tar-30")
    path.write_text(json.dumps(data))
    assert line(told(output, capsys), "dtd", "MMLoP")[2::4] == ["61.00", "62.00", "61.50"]

    (output / "mine/base/results.json").unlink()  # now nobody knows what it was trained on
    text = told(output, capsys)
    assert "Runs of no protocol" in text and line(text, "mine/new")[-1] == "62.00"


def test_other_runs_are_listed(tmp_path, capsys, result):
    run = expand(select(load("base2new"), datasets=["dtd"], seeds=[1]))[0]
    result(tmp_path, run, 61.0, "OPTIM.LR", "0.5", folder=tmp_path / "mine")
    text = told(tmp_path, capsys)
    assert " ".join(line(text, "mine")[1:]) == "MMLoP DescribableTextures base 16 1 61.00"


def test_a_folder_laid_aside_is_not_read(tmp_path, capsys, result):
    run = expand(load("base2new"))[0]
    result(tmp_path, run, 61.0, folder=tmp_path / "seed1" / "train-20260101-120000")
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "There is no results.json below" in capsys.readouterr().err


def test_the_demo_world_stands_beside_no_published_figure(tmp_path, capsys, result):
    for run in expand(load("base2new", demo=True)):
        result(tmp_path, run, 70.0)
    assert "published" not in told(tmp_path, capsys)


@pytest.mark.parametrize("style", ["terminal", "markdown", "latex", "csv", "json"])
def test_every_format_holds_the_figures(tmp_path, capsys, result, style):
    for run in expand(select(load("base2new"), datasets=["dtd"], seeds=[1, 2])):
        result(tmp_path, run, 80.0 + run.seed)
    text = told(tmp_path, capsys, "--format", style)
    if style == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        (cell,) = (r for r in rows if r["row"] == "dtd / MMLoP" and r["column"] == "base")
        assert (float(cell["value"]), cell["seeds"], cell["planned"]) == (81.5, "2", "3")
    elif style == "json":
        (row,) = (r for r in json.loads(text)["base2new"][1]["rows"] if r["data set"] == "dtd")
        assert row["new"]["value"] == 81.5 and row["published HM"] is None
    else:
        plus_minus = r"$\pm$" if style == "latex" else "±"
        assert f"81.50 {plus_minus} 0.71 (2 of 3)" in text


def test_an_average_over_some_data_sets_says_so(tmp_path, capsys, result):
    for name in ("few_shot", "domain_generalization"):
        protocol = select(load(name), seeds=[1])
        for run in expand(protocol)[:2]:  # one data set, or the source and one target
            result(tmp_path, run, 80.0)
    text = told(tmp_path, capsys)
    assert "MMLoP, 1 shots: over 1 of 11 data sets." in text
    assert "MMLoP: over 1 of 4 data sets." in text


def test_prompts_of_an_earlier_epoch_are_no_result_of_a_protocol(tmp_path, capsys, result):
    """Evaluations by hand, with --load-epoch 3 and without."""
    base, new = expand(select(load("base2new"), datasets=["dtd"], seeds=[1]))
    result(tmp_path, base, 50.0)
    for name, epoch, accuracy in (("a", 3, 11.0), ("b", 30, 66.0)):
        for part, run in (("base", base), ("new", new)):
            path = tmp_path / name / part
            result(tmp_path, run, accuracy, folder=path)
            data = json.loads((path / "results.json").read_text())
            data["evaluated_checkpoint"] = {
                "path": str(tmp_path / base.folder / "prompt_learner" / "model.pth.tar"),
                "epoch": epoch,
            }
            (path / "results.json").write_text(json.dumps(data))
    words = line(told(tmp_path, capsys, "--seeds", "1"), "dtd", "MMLoP")
    assert (words[2], words[4]) == ("50.00", "66.00")


def test_zero_shot_is_found_whatever_the_seeds(tmp_path, capsys, result):
    asked = {"trainers": ["ZeroshotCLIP"], "datasets": ["dtd"], "seeds": [2, 3]}
    write_table(result, tmp_path, "base2new", lambda run: 53.0, **asked)
    write_table(result, tmp_path, "base2new", lambda run: 80.0, datasets=["dtd"], seeds=[2, 3])
    text = told(tmp_path, capsys, "--seeds", "2,3")
    assert "53.00 (1)" in " ".join(line(text, "dtd", "ZeroshotCLIP"))
    assert "80.00 ± 0.00 (2)" in " ".join(line(text, "dtd", "MMLoP"))
