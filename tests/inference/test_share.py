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

    other = tmp_path / "other.json"
    call = [str(tmp_path / "base"), str(tmp_path / "again"), "--results", str(other)]
    for change, differing in (
        ({"backbone": {"name": "x", "sha256": "1" * 64}}, f"(backbone {'1' * 64} and not "),
        ({"seed": 2}, "(seed 2 and not 1)"),
        ({"trainer": "CoOp", "shots": 4}, "(trainer CoOp and not MMLoP, shots 4 and not 2)"),
    ):
        other.write_text(json.dumps({**new, **change}))
        assert main(call) == 2
        assert f"other.json has figures of other prompts {differing}" in capsys.readouterr().err
    keys = ("backbone", "dataset", "subsample", "split", "correct", "total")
    damaged = [{k: v for k, v in new.items() if k != key} for key in keys]
    for content in [*damaged, {**new, "backbone": {}}, {**new, "backbone": "demo"}]:
        other.write_text(json.dumps(content))
        assert main(call) == 2
        found = capsys.readouterr().err
        assert "other.json is damaged, or no results.json of this code base" in found
        assert found.count("\n") == 1 and not (tmp_path / "again").exists()
    for path in (tmp_path / "none.json", tmp_path):
        assert main([*call[:-1], str(path)]) == 2
        message = f"--results takes the results.json of evaluations, and {path} is no file.\n"
        assert capsys.readouterr().err == f"inference.share: {message}"
    for path in (other, other / "deep"):
        assert main([call[0], str(path)]) == 2
        assert f"{other} is a file and no folder: name another" in capsys.readouterr().err
    other.write_text(json.dumps({**new, "seed": -1, "shots": -1}))  # an evaluation without them
    assert main(call) == 0


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


def test_a_push_that_fails_leaves_the_folder_and_says_how_to_push_it(
    checkpoint, tmp_path, monkeypatch, capsys
):
    def fail(*_):
        raise ValueError("There is no network.")

    checkpoint("MMLoP")
    monkeypatch.setattr(inference.share, "push_to_hub", fail)
    folder = tmp_path / "prompts"
    call = [str(tmp_path / "run"), str(folder), "--push-to-hub", "me/it", "--private"]
    assert main(call) == 2
    later = f'push it later by prompting.push_to_hub("{folder}", "me/it", private=True).'
    assert capsys.readouterr().err.endswith(f"no network; the folder is written, {later}\n")
    load_prompts(folder, backbone=load_run(tmp_path / "run").model.backbone)


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        main([str(tmp_path), str(tmp_path / "out"), "--debug"])


@pytest.mark.parametrize("epoch", [(), ("--load-epoch", "7")])
def test_what_is_no_run(tmp_path, capsys, epoch):
    assert main([str(tmp_path), str(tmp_path / "out"), *epoch]) == 2
    assert capsys.readouterr().err == (
        f"inference.share: No checkpoint in RUN {tmp_path}: give the output folder of a training "
        "run, or one of its checkpoints.\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_not_there_and_an_epoch_that_it_has_not(checkpoint, tmp_path, capsys):
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 2
    assert f"No checkpoint in RUN {tmp_path / 'nowhere'}: give the" in capsys.readouterr().err
    checkpoint("MMLoP")
    capsys.readouterr()
    assert main([str(tmp_path / "run"), str(tmp_path / "out"), "--load-epoch", "7"]) == 2
    assert capsys.readouterr().err.endswith(
        "tar-7; the folder holds model.pth.tar-3: --load-epoch takes one of these epochs.\n"
    )
