import json

import pytest
import torch

import inference.share
from inference.run import load_run
from inference.share import main
from prompting import load_prompts
from prompting.hub import CARD


def test_a_run_becomes_a_folder_with_its_figures(run, tmp_path, tiny_file, capsys):
    base = run("MMLoP", "base", "DATASET.SUBSAMPLE_CLASSES", "base")
    new = run(
        "MMLoP", "new", "--eval-only", "DATASET.SUBSAMPLE_CLASSES", "new",
        model_dir=str(tmp_path / "base"),
    )  # fmt: skip
    capsys.readouterr()
    results = str(tmp_path / "new" / "results.json")
    folder = tmp_path / "prompts"
    assert main([str(tmp_path / "base"), str(folder), "--results", results]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    card = (folder / CARD).read_text(encoding="utf-8")
    for found, classes in ((base, "base"), (new, "new")):
        figures = f"{found['accuracy']:.2f} % | {found['correct']} | {found['total']} |"
        assert f"| Caltech101, {classes} classes | test | {figures}" in card
    assert "| seed | 1 |" in card and "| shots | 2 |" in card and "| epochs | 2 |" in card
    model, _ = load_prompts(folder, backbone=tiny_file)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), load_run(tmp_path / "base").model(images))

    other = {**new, "backbone": {"name": "x", "sha256": "1" * 64}}
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert main([str(tmp_path / "base"), "p", "--results", str(tmp_path / "other.json")]) == 2
    assert "other.json has figures of MMLoP with the backbone 1111" in capsys.readouterr().err


def test_a_checkpoint_without_figures_and_the_hub(checkpoint, tmp_path, monkeypatch, capsys):
    checkpoint("MMLoP")
    pushed = []
    monkeypatch.setattr(inference.share, "push_to_hub", lambda *a: pushed.append(a) or "address")
    file = tmp_path / "run" / "prompt_learner" / "model.pth.tar-3"
    folder = tmp_path / "prompts"
    assert main([str(file), str(folder), "--push-to-hub", "me/it", "--private"]) == 0
    assert pushed == [(folder, "me/it", True)]
    assert capsys.readouterr().out.endswith(f"{folder}\naddress\n")
    assert "No figures" in (folder / CARD).read_text()


@pytest.mark.parametrize("epoch", [(), ("--load-epoch", "7")])
def test_what_is_no_run(tmp_path, capsys, epoch):
    assert main([str(tmp_path), str(tmp_path / "out"), *epoch]) == 2
    assert capsys.readouterr().err.startswith("inference.share: No checkpoint ")
    assert not (tmp_path / "out").exists()
