"""A run's classifier is that of its evaluation, of every method, directly and through a folder."""

import pytest
import torch
from PIL import Image

import trainers
from experiment.config import CONFIGS
from inference.run import load_run
from prompting import load_backbone, load_prompts, predict, save_prompts
from trainers.base import PromptTrainer

METHODS = sorted(path.name for path in (CONFIGS / "trainers").iterdir())
NEW = ("DATASET.SUBSAMPLE_CLASSES", "new")
OPTIONS = {
    "CoPrompt": ("TRAINER.CoPrompt.PROMPT_DEPTH", "9"),
    "CoOp": ("TRAINER.COOP.CLASS_TOKEN_POSITION", "middle"),
    "MMRL": ("TRAINER.MMRL.REP_LAYERS", "[6, 7, 9]"),
    "MultiModalAdapter": ("TRAINER.MMADAPTER.ADAPTER_END", "9"),
    "VPT": ("TRAINER.VPT.PROMPT_DEPTH_VISION", "9"),
}
# What these learn is no prompt of the library's: it classifies as a run, and is no folder.
NOT_SHARED = {
    "CLIPAdapter": "ImageAdapter",
    "CLIPLoRA": "LowRankUpdates",
    "CoPrompt": "AdaptedPrompts",
    "LPPlusPlus": "BlendedProbe",
    "MMRL": "RepresentationTokens",
    "TaskRes": "TextResiduals",
    "TipAdapter": "Cache",
    "TipAdapterF": "Cache",
    "TwoStage": "NormsAndClassifier",
}
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def evaluated(trainer):
    """The logits of an evaluation."""
    trainer.set_model_mode("eval")
    with trainer.model.fixed_text():
        return trainer.model(IMAGES)


def test_there_are_twenty_two_methods():
    assert len(METHODS) == 22
    assert set(NOT_SHARED) < set(METHODS)


@pytest.mark.parametrize("method", [name for name in METHODS if trainers.requires_training(name)])
def test_prompts_of_every_method_classify_as_in_the_evaluation(
    checkpoint, tmp_path, tiny_file, method
):
    trainer = checkpoint(method, *OPTIONS.get(method, ()))
    expected = evaluated(trainer)
    assert expected.shape == (2, 2) and expected.std() > 0
    run = load_run(tmp_path / "run")
    assert run.results is None and run.training["trainer"] == method
    with torch.no_grad():
        assert torch.equal(run.model(IMAGES), expected)
    if method in NOT_SHARED:
        with pytest.raises(ValueError, match=f"Prompts of a {NOT_SHARED[method]} cannot be saved"):
            save_prompts(run.model, tmp_path / "prompts", run.training)
        assert not (tmp_path / "prompts").exists()
        return
    folder = save_prompts(run.model, tmp_path / "prompts", run.training)
    model, _ = load_prompts(folder, backbone=tiny_file)
    assert torch.equal(model(IMAGES), expected)


@pytest.mark.parametrize("method", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_zero_shot_runs_need_no_checkpoint(run, tmp_path, tiny_file, method):
    results = run(
        method, "run", "DATASET.SUBSAMPLE_CLASSES", "new", "TRAINER.ZSCLIP.TEMPLATE", "a {}."
    )
    found = load_run(tmp_path / "run")
    assert found.results == results and found.training == {"trainer": method}
    assert found.model.classnames == ("motorbike", "accordion")
    folder = save_prompts(found.model, tmp_path / "prompts", found.training)
    model, _ = load_prompts(folder, backbone=tiny_file)
    with torch.no_grad():
        assert torch.equal(model(IMAGES), found.model(IMAGES))
    other = load_run(tmp_path / "run", ["owl"]).model
    assert other(IMAGES).shape == (2, 1)


def test_logits_are_those_of_eval_only_image_by_image(
    run, tmp_path, tiny_file, photos, monkeypatch
):
    """`train.py`, then `train.py --eval-only`, whose logits are recorded on their way."""
    run("MMLoP", "base", "DATASET.SUBSAMPLE_CLASSES", "base")
    recorded, inference = [], PromptTrainer.model_inference
    monkeypatch.setattr(
        PromptTrainer,
        "model_inference",
        lambda self, images: recorded.append(inference(self, images)) or recorded[-1],
    )
    run(
        "MMLoP",
        "new",
        "--eval-only",
        "DATASET.SUBSAMPLE_CLASSES",
        "new",
        model_dir=str(tmp_path / "base"),
    )
    expected = torch.cat(recorded)
    files, names = photos[6:], ["motorbike", "accordion"]
    assert len(expected) == len(files)
    loaded = load_run(tmp_path / "base", names)
    folder = save_prompts(loaded.model, tmp_path / "prompts")
    models = [loaded.model, load_prompts(folder, names, tiny_file)[0]]
    preprocess = load_backbone(tiny_file).preprocess
    batch = torch.stack([preprocess(Image.open(file)) for file in files])
    for model in models:
        with torch.no_grad():
            assert torch.equal(model(batch), expected)
            for image, logits in zip(batch, expected, strict=True):
                torch.testing.assert_close(model(image[None])[0], logits, rtol=0, atol=1e-4)
        for prediction, logits in zip(predict(model, files, topk=2), expected, strict=True):
            probs = torch.tensor(prediction.probs)
            torch.testing.assert_close(probs, logits.softmax(0).sort(descending=True)[0])
            assert prediction.labels[0] == names[logits.argmax()]


def test_results_belong_to_the_epoch_that_was_evaluated(run, tmp_path):
    results = run("MMLoP", "run", "TRAIN.CHECKPOINT_FREQ", "1")
    assert load_run(tmp_path / "run").results == results
    first = load_run(tmp_path / "run", epoch=1)
    assert first.results is None and first.training["epochs"] == 1
    file = tmp_path / "run" / "prompt_learner" / "model.pth.tar-1"
    with pytest.raises(
        ValueError, match="tar-1 is one checkpoint: give an epoch with a run's fold"
    ):
        load_run(file, epoch=2)
    assert first.training["options"]["RANK"] == 1 and first.training["shots"] == 2


def test_a_context_per_class_is_of_its_own_classes(checkpoint, tmp_path):
    checkpoint("CoOp", "TRAINER.COOP.CSC", "True")
    load_run(tmp_path / "run", ["face", "leopard"])
    for other in (["owl", "cat"], ["face"]):
        with pytest.raises(ValueError, match=r"a context for each of the 2 classes"):
            load_run(tmp_path / "run", other)


def test_an_old_checkpoint_without_a_later_option(checkpoint, tmp_path):
    trainer = checkpoint("MMLoP")
    expected = evaluated(trainer)
    path = tmp_path / "run" / "prompt_learner" / "model.pth.tar-3"
    old = torch.load(path, weights_only=True)
    config = [line for line in old["config"].splitlines() if "KEEP_TEMPLATE" not in line]
    assert len(config) == len(old["config"].splitlines()) - 1
    torch.save({**old, "config": "\n".join(config)}, tmp_path / "old.pth.tar")
    with torch.no_grad():
        assert torch.equal(load_run(tmp_path / "old.pth.tar").model(IMAGES), expected)


def test_what_is_no_run(checkpoint, tmp_path, tiny_file):
    with pytest.raises(FileNotFoundError, match=f"No checkpoint in source {tmp_path}: give the"):
        load_run(tmp_path)
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "theirs.pth.tar")
    with pytest.raises(ValueError, match="theirs.pth.tar is no checkpoint of this code base"):
        load_run(tmp_path / "theirs.pth.tar")
    checkpoint("MMLoP")
    (tmp_path / "run" / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="results.json: it has no accuracy or no conf"):
        load_run(tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(ValueError, match='holds prompts for backbone ".*", and these weights are'):
        load_run(tmp_path / "run", backbone="demo")


def test_an_unfinished_run_is_named(checkpoint, tmp_path, capsys):
    """Unless this epoch was asked for."""
    checkpoint("CoOp", "OPTIM.MAX_EPOCH", "5")
    load_run(tmp_path / "run", epoch=3)
    assert "is of an unfinished run" not in capsys.readouterr().out
    load_run(tmp_path / "run")
    shown = capsys.readouterr().out
    assert "tar-3 is of an unfinished run: 3 of 5 epochs are trained" in shown
