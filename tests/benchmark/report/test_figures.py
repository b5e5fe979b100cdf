"""The figures: what they show, where, and that they are drawn where there is something to draw."""

import json
import os

import pytest
import torch

import prompting.files
from benchmark.plan import expand
from benchmark.protocol import load, select
from benchmark.report import canvas, figures
from benchmark.report.collect import collect
from benchmark.report.curves import loss_curves, up_projection
from benchmark.report.results import Results

LINE = (
    "epoch [{epoch}/2] batch [20/24] time 0.1 (0.1) data 0.0 (0.0) "
    "loss {loss} ({mean}) acc 50.0 (51.0) loss_ce 1.0 (0.75) loss_text 2.5e-01 (1e-02) "
    "lr 2.5000e-03 eta 0:00:01\n"
)


def save(folder, **state) -> None:
    """Write a checkpoint with these tensors."""
    (folder / "prompt_learner").mkdir(parents=True)
    (folder / "prompt_learner" / "checkpoint").write_text("model.pth.tar-2\n")
    torch.save({"state_dict": state, "epoch": 2}, folder / "prompt_learner" / "model.pth.tar-2")


def test_up_projection_by_hand(tmp_path):
    """The norm over the rank: one figure per layer and token."""
    up = torch.zeros(2, 3, 2)
    up[1, 2] = torch.tensor([3.0, 4.0])
    save(tmp_path, up=up, text_down=torch.ones(2, 2, 8))
    found = up_projection(tmp_path)
    assert found.shape == (2, 3) and found[1, 2] == 5 and found.sum() == 5


def test_without_a_shared_up_projection_there_is_none(tmp_path):
    save(tmp_path / "a", text_up=torch.ones(2, 3, 1), vision_up=torch.ones(2, 3, 1))
    save(tmp_path / "b", ctx=torch.zeros(4, 8))
    for name in ("a", "b", "nothing"):
        assert up_projection(tmp_path / name) is None


def test_loss_curves_take_the_epoch_s_mean_and_the_later_log(tmp_path):
    for age, name in enumerate(("log.txt-2026", "log.txt")):
        epochs = (2,) if age == 0 else (1, 2)  # the first log was broken off in epoch 2
        lines = [LINE.format(epoch=e, loss=9.0, mean=e + age) for e in epochs]
        (tmp_path / name).write_text("".join(["Loading\n", *lines]))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    curves = loss_curves(tmp_path)
    assert curves["loss"] == {1: 2.0, 2: 2.0}
    assert curves["loss_ce"] == {1: 0.75, 2: 0.75}
    assert set(curves) == {"loss", "loss_ce", "loss_text"}


@pytest.fixture
def demo(tmp_path, result):
    """Base-to-new and few-shot on the demo world, with results, logs and checkpoints."""
    collected = []
    for name in ("base2new", "few_shot", "few_shot_vit_b32"):
        protocol = select(load(name, demo=True), seeds=[1])
        for run in expand(protocol):
            if (tmp_path / run.folder).exists():
                continue
            result(tmp_path, run, 60.0 + run.shots)
            if run.trains:
                save(tmp_path / run.folder, up=torch.rand(3, 4, 1))
                text = LINE.format(epoch=1, loss=2.0, mean=2.0)
                (tmp_path / run.folder / "log.txt").write_text(text)
        collected.append(collect(protocol, Results(tmp_path)))
    return collected


def test_every_figure_is_drawn_and_labelled(demo, tmp_path):
    drawn = figures.draw_all(demo, tmp_path / "figures")
    labels = {
        "figure1_parameters_demo": ["trainable parameters", "HM of base and new", "Few-shot, 16"],
        "figure3_up_projection_demo": ["layer", "token", "shapeworld", "norm of U over the rank"],
        "figure4_few_shot_demo": ["training images per class", "accuracy, all classes"],
        "figure5_few_shot_vit_b32_demo": ["training images per class", "accuracy, all classes"],
        "training_curves_demo": ["epoch", "loss_text", "mean over the epoch"],
        "efficiency_demo": ["trainable parameters", "seconds of training", "peak memory of"],
    }
    assert [figure.name for figure in drawn] == list(labels)
    # The demo world has too few data sets for one, and these results are of an older version.
    without = ["critical_difference", "reliability", "confusion"]
    assert list(figures.DRAWINGS) == [name.removesuffix("_demo") for name in labels] + without
    for figure in drawn:
        assert figure.demo and figure.caption.endswith(".")
        assert figure.protocol in figures.DRAWINGS[figure.name.removesuffix("_demo")][1]
        assert "published" not in figure.svg  # the demo world is ours alone
        for label in labels[figure.name]:
            assert f">{label}" in figure.svg, (figure.name, label)
        assert (tmp_path / "figures" / f"{figure.name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / "figures" / f"{figure.name}.svg").read_text() == figure.svg


def test_published_points_stand_next_to_ours(found, tmp_path):
    both = [
        found(name, lambda run: 60.0 + run.shots, datasets=["dtd", "eurosat"])
        for name in ("base2new", "few_shot")
    ]
    for each in both:
        each.parameters["MMLoP"] = 11_556
    first, curves = figures.draw_all(both, tmp_path)
    for name in ("MaPLe", "CoPrompt", "2SFS", "MMRL", "MMLoP"):
        assert f">{name}<" in first.svg
    assert first.svg.count(">MMLoP<") == 3  # published in both panels, ours in the legend
    assert ">LP++ (published)<" in curves.svg and ">MMLoP<" in curves.svg
    for name in ("average", "dtd", "eurosat"):
        assert f">{name}<" in curves.svg


def test_the_legend_names_what_any_panel_shows(found):
    """Panels have other rows in another order; the look of a row is the same in all."""
    group = {}
    for name, rows in (("base2new", "CoOp,MMLoP"), ("few_shot", "TipAdapterF,MMLoP,CoOp")):
        group[name] = found(name, lambda run: 60.0, rows.split(","))
        group[name].parameters.update(CoOp=8_192, MMLoP=11_556, TipAdapterF=1_000_000)
    drawing, *_ = figures.trade_off(["trainable parameters"], group)
    shown = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in drawing.axes]
    first, second = ({label: points[0].get_color() for points, label in each} for each in shown)
    assert len(first) == 2 and second == first | {"TipAdapterF": canvas.COLOURS[2]}
    legend = [text.get_text() for text in drawing.legends[0].texts]
    assert sorted(legend) == ["CoOp", "MMLoP", "TipAdapterF"]


def test_seconds_and_memory_are_those_of_trainings_that_had_a_process_each(tmp_path, result):
    protocol = select(load("few_shot", demo=True), seeds=[1, 2, 3], shots=[8, 16])
    for run in expand(protocol):
        result(tmp_path, run, 60.0)
        path = tmp_path / run.folder / "results.json"
        data = json.loads(path.read_text())
        data["seconds"]["training"], data["peak_memory_mb"] = run.shots + run.seed, 100 * run.seed
        path.write_text(json.dumps(data | ({"together": [3, 4]} if run.seed == 3 else {})))
    found = collect(protocol, Results(tmp_path))
    costs = [cost(found, "MMLoP") for cost in figures.COSTS.values()]
    assert costs == [11_556, (17 + 18) / 2, 150]
    assert [cost(found, "CoOp") for cost in figures.COSTS.values()] == [None, None, None]
    found.parameters["ZeroshotCLIP"] = 0
    assert [cost(found, "ZeroshotCLIP") for cost in figures.COSTS.values()] == [0, 0, 0]


def test_a_training_without_parameters_has_its_costs(tmp_path, result):
    """TipAdapter fills a cache, and trains no parameter of it."""
    protocol = select(load("few_shot", demo=True), trainers=["TipAdapter"], seeds=[1], shots=[16])
    for run in expand(protocol):
        result(tmp_path, run, 60.0, trainable_parameters=0)
    found = collect(protocol, Results(tmp_path))
    assert [cost(found, "TipAdapter") for cost in figures.COSTS.values()] == [0, 60.0, 100.0]


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("No space left on device")

    (tmp_path / "a.png").write_bytes(b"old")
    monkeypatch.setattr(prompting.files.os, "replace", fails)
    with pytest.raises(OSError, match="No space left"):
        canvas.write(tmp_path, "a", canvas.panels(1, 1, 1, 1)[0], "base2new", "")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.png": b"old"}


def test_nothing_is_drawn_without_results(found, tmp_path):
    missing = [found(name, lambda run: None) for name in ("base2new", "few_shot")]
    assert figures.draw_all(missing, tmp_path) == []
    assert figures.draw_all([found("components", lambda run: 70.0)], tmp_path) == []


def test_no_two_of_many_lines_look_the_same():
    looks = [tuple(look.values()) for look, _ in zip(canvas.looks(), range(40), strict=False)]
    assert len(set(looks)) == 40
