import pytest
import torch

from benchmark import figures
from benchmark.curves import loss_curves, prompt_magnitudes, prompts_of
from benchmark.protocol import load, select
from benchmark.results import Results, collect
from benchmark.runs import expand
from prompting import FullRankPrompts, LowRankPrompts, PromptStart

LINE = (
    "epoch [{epoch}/2] batch [20/24] time 0.1 (0.1) data 0.0 (0.0) "
    "loss {loss} ({mean}) acc 50.0 (51.0) loss_ce 1.0 (0.75) loss_text 2.5e-01 (1e-02) "
    "lr 2.5000e-03 eta 0:00:01\n"
)


def learner(kind: str) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    draw = [torch.randn(3, 4, width, generator=generator) for width in (8, 12)]
    start = PromptStart(*draw)
    if kind == "full":
        return FullRankPrompts(start)
    return LowRankPrompts(start, 2, kind == "shared", "svd", generator)


def save(folder, module) -> None:
    (folder / "prompt_learner").mkdir(parents=True)
    (folder / "prompt_learner" / "checkpoint").write_text("model.pth.tar-2\n")
    state = {"state_dict": module.state_dict(), "epoch": 2}
    torch.save(state, folder / "prompt_learner" / "model.pth.tar-2")


@pytest.mark.parametrize("kind", ["full", "shared", "own"])
def test_prompts_are_those_of_the_learner(kind):
    module = learner(kind)
    found = prompts_of(module.state_dict())
    for tower, expected in zip(("text", "vision"), module(), strict=True):
        torch.testing.assert_close(found[tower], expected.detach())


def test_other_checkpoints_have_no_prompts_by_layer(tmp_path):
    assert prompts_of({"ctx": torch.zeros(4, 8)}) is None
    assert prompt_magnitudes(tmp_path) is None


def test_magnitude_by_hand(tmp_path):
    module = learner("full")
    with torch.no_grad():
        module.text.zero_()
        module.text[1, :, 0] = torch.tensor([1.0, 2.0, 3.0, 6.0])
    save(tmp_path, module)
    assert prompt_magnitudes(tmp_path)["text"] == [0.0, 3.0, 0.0]


def test_loss_curves_take_the_epoch_s_mean_and_the_later_log(tmp_path):
    import os

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
def found(tmp_path, result):
    """Every protocol of the demo world with results, logs and checkpoints."""
    collected = []
    for name in ("base2new", "few_shot", "ablation_components"):
        protocol = select(load(name, demo=True), seeds=[1])
        for run in expand(protocol):
            if (tmp_path / run.folder).exists():
                continue
            result(tmp_path, run, 60.0 + run.shots)
            if run.trains:
                save(tmp_path / run.folder, learner("shared"))
                text = LINE.format(epoch=1, loss=2.0, mean=2.0)
                (tmp_path / run.folder / "log.txt").write_text(text)
        collected.append(collect(protocol, Results(tmp_path)))
    return collected


def test_all_four_figures_are_drawn_and_labelled(found, tmp_path):
    drawn = figures.draw_all(found, tmp_path / "figures")
    labels = {
        "base2new_demo_hm_against_parameters": ["trainable parameters", "HM of base and new"],
        "base2new_demo_training_curves": ["epoch", "loss_text", "mean over the epoch"],
        "few_shot_demo_few_shot_curves": ["training images per class", "accuracy, all classes"],
        "ablation_components_demo_prompt_magnitude": ["layer", "text tower", "shared U"],
    }
    assert {figure.name for figure in drawn} == set(labels)
    for figure in drawn:
        assert figure.caption.endswith(".")
        for label in labels[figure.name]:
            assert f">{label}" in figure.svg, (figure.name, label)
        assert (tmp_path / "figures" / f"{figure.name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / "figures" / f"{figure.name}.svg").read_text() == figure.svg


def test_published_curves_stand_beside_real_data_only(tmp_path, result):
    for run in expand(select(load("few_shot"), datasets=["dtd"], seeds=[1], shots=[4, 16])):
        result(tmp_path, run, 60.0 + run.shots)
    (figure,) = figures.draw_all([collect(load("few_shot"), Results(tmp_path))], tmp_path)
    assert "PromptSRC (published)" in figure.svg


def test_many_lines_can_be_told_apart():
    looks = [tuple(look.values()) for look in figures._looks(14)]
    assert len(set(looks)) == 14
