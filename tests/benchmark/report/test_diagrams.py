"""Reliability diagrams and confusion matrices: what is drawn is what was measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.plan import expand
from benchmark.protocol import load, select
from benchmark.report import figures, main
from benchmark.report.collect import collect
from benchmark.report.diagrams import confusion_of, pooled, reliability_of, summed
from benchmark.report.results import Result, Results

ONE = [(0, 0, 0.95), (0, 1, 0.85), (1, 1, 0.35)]
OTHER = [(0, 0, 0.85), (1, 0, 0.85), (1, 1, 0.85)]


@pytest.fixture
def both(metrics):
    return [Result(Path(f"out/{n}"), metrics(*seen)) for n, seen in enumerate((ONE, OTHER))]


def test_bins_of_several_runs_are_those_of_all_their_images(both, metrics):
    found, expected = pooled(both), pooled([Result(Path("all"), metrics(*ONE, *OTHER))])
    for key in ("count", "confidence", "accuracy"):
        assert found[key] == pytest.approx(expected[key]), key
    assert found["count"].tolist() == [1, 4, 1]  # empty bins are not drawn
    assert found["accuracy"] == pytest.approx([100, 50, 100])
    assert found["confidence"] == pytest.approx([35, 85, 95])


def test_confusions_of_several_runs_are_summed(both):
    names, counts = summed(both)
    assert names == ["ant", "bee"]
    assert np.array_equal(counts, [[2, 1], [1, 2]])


def test_axes_show_the_figures(both):
    drawing, section, caption = reliability_of(both)
    (axes,) = drawing.axes
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    assert lines["out/1"].tolist() == [[pytest.approx(85), pytest.approx(200 / 3)]]
    assert len(lines["out/0"]) == 3
    assert section == "other" and caption.endswith(".")

    drawing, *_ = confusion_of(both)
    shown = [axes.images[0].get_array() for axes in drawing.axes if axes.get_xlabel()]
    assert [array.tolist() for array in shown] == [[[50, 50], [0, 100]], [[100, 0], [50, 50]]]
    labels = [label.get_text() for label in drawing.axes[0].get_yticklabels()]
    assert labels == ["ant", "bee"]


def test_many_classes_go_without_their_names(metrics):
    data = metrics(*ONE)
    data["per_class"] = [{"class": f"class {n}", "images": 0} for n in range(40)]
    data["confusion"] += [{}] * 38
    drawing, *_ = confusion_of([Result(Path("out/a"), data)])
    assert "class 1" not in [label.get_text() for label in drawing.axes[0].get_yticklabels()]


def test_older_results_are_left_out(both):
    old = Result(Path("out/old"), {"accuracy": 1.0})
    assert reliability_of([old]) is None and confusion_of([old]) is None
    drawing, *_ = reliability_of([old, *both])
    assert len(drawing.axes[0].get_lines()) == 3  # with the dashed one


@pytest.fixture
def runs():
    return expand(select(load("base2new"), datasets=["dtd", "eurosat"], seeds=[1, 2]))


def test_base_and_new_stand_apart(tmp_path, result, metrics, runs):
    for run in runs:
        result(tmp_path, run, 60.0, **metrics(*(ONE if run.classes == "base" else OTHER)))
    found = collect(load("base2new"), Results(tmp_path))
    first, second = figures.draw_all([found], tmp_path / "figures", ["reliability", "confusion"])
    assert ">base classes<" in first.svg and ">new classes<" in first.svg and ">MMLoP<" in first.svg
    apart = [(replace(run, row=f"its {run.classes}"), own) for run, own in found.runs]
    drawing, *_ = figures.reliability({"base2new": replace(found, runs=apart)})
    assert [text.get_text() for text in drawing.legends[0].texts] == ["its base", "its new"]
    for title in ("dtd, base", "dtd, new", "eurosat, base", "eurosat, new"):
        assert f">{title}<" in second.svg
    assert (tmp_path / "figures" / "confusion.png").read_bytes()[:4] == b"\x89PNG"


def test_the_tables_have_them_for_base_and_new(tmp_path, result, metrics, runs, capsys):
    """Of two data sets the mean, over both seeds; an older result is missing."""
    for run in runs:
        base = metrics(*(ONE if run.classes == "base" else OTHER))
        old = run.seed == 2 and run.dataset == "dtd"
        result(tmp_path, run, 60.0, **({} if old else base))
    main([str(tmp_path), "--protocol", "base2new", "--format", "markdown"])
    text = capsys.readouterr().out
    table = text.partition("macro-F1 and calibration")[2]
    header, _, row, *_ = (line for line in table.splitlines() if line.startswith("|"))
    cells = dict(
        zip(*([c.strip() for c in line.split("|")] for line in (header, row)), strict=True)
    )
    one, other = metrics(*ONE), metrics(*OTHER)
    for name, key in (("macro-F1", "macro_f1"), ("ECE", "ece"), ("adaptive ECE", "adaptive_ece")):
        assert cells[f"{name} base"] == f"{one[key]:.2f} (1 of 3)"
        assert cells[f"{name} new"] == f"{other[key]:.2f} (1 of 3)"
    assert "HM" not in header


def test_the_page_has_them_for_runs_of_no_protocol(tmp_path, result, metrics, runs, capsys):
    folder = tmp_path / "mine" / "a"
    result(tmp_path, runs[0], 60.0, "OPTIM.LR", "0.5", folder=folder, split="val", **metrics(*ONE))
    result(tmp_path, runs[0], 61.0, "OPTIM.LR", "0.6", folder=tmp_path / "mine" / "old")
    main([str(tmp_path), "--format", "html"])
    text = (tmp_path / "report" / "index.html").read_text()
    section = text.partition('<section id="other">')[2]
    assert (
        section.count("<figure>") == 2 and "Reliability: " in section and "Confusion: " in section
    )
    assert "of 2 classes the least accurate: ant 50.0, bee 100.0" in section
    assert "(val split)" in section  # no accuracy on validation images passes for a test
    main([str(tmp_path)])
    line = next(ln for ln in capsys.readouterr().out.splitlines() if ln.startswith("mine/a"))
    assert line.split()[-4:] == ["60.00", "66.67", f"{metrics(*ONE)['ece']:.2f}", "51.67"]
