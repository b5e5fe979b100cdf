"""The verdict on made-up results: equal, a little off, far off, missing, of another setting."""

import json

import pytest

from benchmark.plan import expand
from benchmark.protocol import load
from benchmark.report import main
from benchmark.report.published import entries
from benchmark.report.verdict import verdict

FIGURES = {
    name: {entry["trainer"]: entry["figures"] for entry in entries(name)}
    for name in ("base2new", "domain_generalization", "few_shot", "components")
}


def as_published(run, name: str = "base2new", off: dict | None = None):
    """Return the published accuracy of a run, plus `off` by data set or (data set, classes)."""
    column = {"few_shot": str(run.shots), "domain_generalization": "accuracy"}.get(
        name, run.classes
    )
    figures = FIGURES[name][run.row]
    gap = (off or {}).get(run.dataset, (off or {}).get((run.dataset, run.classes), 0.0))
    return None if gap is None else figures.get((run.dataset, column), 50.0) + gap


def test_equal_results_are_inside(found):
    judged = verdict(found("base2new", as_published))
    assert (judged.state, judged.cells, judged.planned) == ("inside", 36, 36)
    assert judged.mean < 0.005 and judged.largest < 0.01  # HMs are printed with two decimals
    assert judged.text.startswith("Verdict on table 1: inside. 36 cells compared: mean absolute")
    assert "average 0.5, a data set 1.5, EuroSAT and DTD 4" in judged.text


@pytest.mark.parametrize(
    ("off", "state", "largest", "where"),
    [
        ({("food101", "base"): 1.45}, "inside", 1.45, "MMLoP, food101, base"),
        ({("food101", "new"): -1.55}, "outside", 1.55, "MMLoP, food101, new"),
        ({("eurosat", "base"): 3.9}, "inside", 3.9, "MMLoP, eurosat, base"),
        ({("dtd", "new"): 4.1}, "outside", 4.1, "MMLoP, dtd, new"),
    ],
)
def test_one_cell_that_is_off(found, off, state, largest, where):
    judged = verdict(found("base2new", lambda run: as_published(run, off=off)))
    assert (judged.state, judged.where) == (state, where)
    assert judged.largest == pytest.approx(largest, abs=0.01)
    assert f"{off[next(iter(off))]:+.2f} ({where})" in judged.text
    assert ("Outside: MMLoP" in judged.text) == (state == "outside")


def test_an_average_that_is_off_though_every_data_set_is_inside(found):
    off = dict.fromkeys(load("base2new").columns, 0.6)
    judged = verdict(found("base2new", lambda run: as_published(run, off=off)))
    assert judged.state == "outside"
    assert judged.text.count("MMLoP, average, ") == 3 and "Outside: MMLoP, average" in judged.text


@pytest.mark.parametrize(
    ("name", "cells"), [("domain_generalization", 6), ("few_shot", 36), ("components", 180)]
)
def test_the_other_tables(found, name, cells):
    """1 and 2 shots are not in the paper's table: they do not count."""
    judged = verdict(
        found(
            name,
            lambda run: None if run.shots in (1, 2) else as_published(run, name),
        )
    )
    assert (judged.state, judged.cells) == ("inside", cells)


def test_a_missing_seed_is_named(found):
    def accuracy(run):
        return None if run.dataset == "dtd" and run.seed == 2 else as_published(run)

    judged = verdict(found("base2new", accuracy))
    assert (judged.state, judged.cells, judged.planned) == ("incomplete", 30, 36)
    assert judged.text.endswith("Missing: dtd (seed 2).")


def test_missing_data_sets_are_named(found):
    off = {"dtd": None, "eurosat": None}
    judged = verdict(found("base2new", lambda run: as_published(run, off=off)))
    assert judged.state == "incomplete" and judged.text.endswith("Missing: dtd; eurosat.")
    assert verdict(found("base2new", lambda run: None)).text.startswith(
        "Verdict on table 1: incomplete. None of 36 cells can be compared yet. Missing: imagenet; "
    )


def test_a_missing_row_of_a_study_is_named(found):
    def accuracy(run):
        missing = (run.row, run.dataset) == ("+ low rank", "dtd")
        return None if missing else as_published(run, "components")

    assert verdict(found("components", accuracy)).text.endswith("Missing: dtd (+ low rank).")


def test_another_setting_voids_it(found):
    deviating = {"MMLoP": {"OPTIM.MAX_EPOCH": {("5", "30")}}}
    judged = verdict(found("base2new", as_published, deviating=deviating))
    assert (judged.state, judged.cells) == ("not the paper's setting", 0)
    assert judged.text.endswith("OPTIM.MAX_EPOCH is 5, the protocol has 30.")


def test_another_method_s_setting_does_not(found):
    trainers, deviating = ("CoOp", "MMLoP"), {"CoOp": {"OPTIM.MAX_EPOCH": {("5", "50")}}}
    judged = verdict(found("base2new", as_published, trainers, deviating))
    assert (judged.state, judged.cells) == ("inside", 36)


def test_the_precision_is_named_but_voids_nothing(found):
    deviating = {"MMLoP": {"TRAINER.MMLOP.PREC": {("fp16", "fp32")}}}
    judged = verdict(found("base2new", as_published, deviating=deviating))
    assert judged.state == "inside"
    assert judged.text.endswith("TRAINER.MMLOP.PREC is fp16, the protocol has fp32.")


def test_no_verdict_where_nothing_is_published(found):
    assert verdict(found("base2new", lambda run: 70.0, demo=True)).state == "none"
    assert verdict(found("cross_dataset", lambda run: 70.0)).state == "none"


def test_check_is_an_exit_status(tmp_path, capsys, result):
    runs = expand(load("domain_generalization"))
    for run in runs:
        result(tmp_path, run, as_published(run, "domain_generalization"))
    arguments = [str(tmp_path), "--protocol", "domain_generalization"]
    main([*arguments, "--check"])
    assert "Verdict on table 2: inside." in capsys.readouterr().out
    main([*arguments, "--check", "--format", "json"])
    (table,) = json.loads(capsys.readouterr().out)["domain_generalization"]
    assert (table["verdict"]["state"], table["verdict"]["cells"]) == ("inside", 6)

    (tmp_path / runs[-1].folder / "results.json").unlink()
    main(arguments)  # without the flag it ends well
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--check"])
    assert stopped.value.code == 1
    assert "Missing: imagenet_r (seed 3)." in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "nothing"), "--check"])
    assert stopped.value.code == 2


def test_check_passes_over_tables_without_published_figures(tmp_path, capsys, result):
    """Nothing is published of cross_dataset, which reproduce_all.sh runs as well."""
    for run in expand(load("domain_generalization")):
        result(tmp_path, run, as_published(run, "domain_generalization"))
    result(tmp_path, expand(load("cross_dataset"))[1], 70.0)
    main([str(tmp_path), "--check"])
    printed = capsys.readouterr().out
    assert "Verdict on table 2: inside." in printed and "Verdict: none." in printed


def test_check_fails_where_nothing_was_checked(tmp_path, capsys, result):
    run = expand(load("domain_generalization"))[0]
    result(tmp_path, run, 60.0, "OPTIM.LR", "0.5", folder=tmp_path / "mine")
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "--check"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 1 and "Runs of no protocol" in printed
    assert "Verdict" not in printed
