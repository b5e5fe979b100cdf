"""The comparison trainers through train.py: runs, precisions, checkpoints, the family's files."""

import pytest
import torch
import yaml
from dassl.engine import TRAINER_REGISTRY

from experiment import cli
from trainers.promptsrc import epoch_weights

# Options under which each runs on the tiny CLIP, whose towers have 9 layers.
TRAINERS = {
    "ZeroshotCLIP2": (),
    "CoOp": (),
    "CoCoOp": (),
    "KgCoOp": (),
    "ProGrad": (),
    "VPT": ("TRAINER.VPT.PROMPT_DEPTH_VISION", "9"),
    "IVLP": (),
    "MaPLe": (),
    "PromptSRC": (),
    "TCP": (),
    "MultiModalAdapter": ("TRAINER.MMADAPTER.ADAPTER_END", "9"),
    "CLIPLoRA": ("TRAINER.CLIPLORA.EPOCH_STEPS", "2"),
    "CLIPAdapter": (),
    "MMRL": ("TRAINER.MMRL.REP_LAYERS", "[6, 7, 9]"),
    "TwoStage": ("TRAINER.TWOSTAGE.EPOCH_STEPS", "1"),
    "CoPrompt": ("TRAINER.CoPrompt.PROMPT_DEPTH", "9"),
}


# What these learn is for the classes that they were trained on; of TipAdapter nothing is.
PER_CLASS = {
    "LPPlusPlus": (),
    "TaskRes": (),
    "TipAdapter": (),
    "TipAdapterF": (),
}
ALL = {**TRAINERS, **PER_CLASS}
NO_PARAMETERS = ("ZeroshotCLIP2", "TipAdapter")


def state_of(folder, epoch=2):
    path = folder / "prompt_learner" / f"model.pth.tar-{epoch}"
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_train_on_base_then_evaluate_on_new(run, tmp_path, trainer):
    options = TRAINERS[trainer]
    base = run(trainer, "base", "DATASET.SUBSAMPLE_CLASSES", "base", *options)
    assert (base["trainer"], base["classes"], base["total"]) == (trainer, 2, 6)
    load = {"model_dir": str(tmp_path / "base")}
    new = run(trainer, "new", "--eval-only", "DATASET.SUBSAMPLE_CLASSES", "new", *options, **load)
    assert (new["classes"], new["total"], new["epochs"]) == (2, 6, 0)
    assert new["trainable_parameters"] == base["trainable_parameters"]
    if base["trainable_parameters"]:
        state = state_of(tmp_path / "base")
        assert sum(v.numel() for v in state.values()) == base["trainable_parameters"]


@pytest.mark.parametrize("precision", ["amp", "bf16"])
@pytest.mark.parametrize("trainer", [t for t in ALL if t not in NO_PARAMETERS])
def test_other_precisions_train(run, tmp_path, trainer, precision):
    """What is trained stays fp32, and so does the optimiser's state."""
    few = ("OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "1", *ALL[trainer])
    run(trainer, "run", *few, f"TRAINER.{TRAINER_REGISTRY.get(trainer).node}.PREC", precision)
    path = tmp_path / "run" / "prompt_learner" / "model.pth.tar-1"
    checkpoint = torch.load(path, weights_only=True)
    momenta = checkpoint["optimizer"]["state"].values()
    kept = [*checkpoint["state_dict"].values(), *(v for s in momenta for v in s.values())]
    kept = [v for v in kept if isinstance(v, torch.Tensor) and v.dtype != torch.long]
    assert all(v.dtype == torch.float32 and v.isfinite().all() for v in kept)


def test_aggregation_weighs_the_epochs_by_a_gaussian():
    weights = epoch_weights(3.0, 2.0, 5)
    expected = torch.tensor([-((e - 3.0) ** 2) / 8 for e in range(1, 6)]).double().exp()
    torch.testing.assert_close(weights, expected / expected.sum())
    assert epoch_weights(500.0, 1.0, 2).isfinite().all()  # where plain densities vanish


def test_promptsrc_ends_with_the_weighted_mean_of_its_epochs(run, tmp_path, monkeypatch):
    from trainers.promptsrc import PromptSRC

    seen, after_epoch = [], PromptSRC.after_epoch

    def recorded(self):
        seen.append({k: v.clone() for k, v in self.model.prompt_learner.state_dict().items()})
        after_epoch(self)

    monkeypatch.setattr(PromptSRC, "after_epoch", recorded)
    gaussian = ("TRAINER.PROMPTSRC.GPA_MEAN", "2", "TRAINER.PROMPTSRC.GPA_STD", "1.5")
    run("PromptSRC", "run", "OPTIM.MAX_EPOCH", "3", *gaussian)
    weights = epoch_weights(2.0, 1.5, 3).float()
    for key, value in state_of(tmp_path / "run", 3).items():
        expected = sum(w * state[key] for w, state in zip(weights, seen, strict=True))
        torch.testing.assert_close(value, expected)
        assert not torch.equal(value, seen[-1][key])


def test_promptsrc_resumes_its_aggregation(run, tmp_path, monkeypatch):
    from trainers.promptsrc import PromptSRC

    epochs = ("TRAIN.CHECKPOINT_FREQ", "1", "OPTIM.MAX_EPOCH", "3")
    wide = ("TRAINER.PROMPTSRC.GPA_MEAN", "1", "TRAINER.PROMPTSRC.GPA_STD", "3")
    run("PromptSRC", "whole", *epochs, *wide)
    after_epoch = PromptSRC.after_epoch

    def stop(self):
        after_epoch(self)
        if self.epoch == 1:
            raise SystemExit(1)

    monkeypatch.setattr(PromptSRC, "after_epoch", stop)
    with pytest.raises(SystemExit):
        run("PromptSRC", "cut", *epochs, *wide)
    monkeypatch.undo()
    run("PromptSRC", "cut", *epochs, *wide, resume=str(tmp_path / "cut"))
    whole, cut = state_of(tmp_path / "whole", 3), state_of(tmp_path / "cut", 3)
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


@pytest.mark.parametrize(
    ("trainer", "lacking"),
    [("MMRL", "config and classnames"), ("TwoStage", "classnames"), ("MMLoP", "epoch")],
)
def test_a_checkpoint_that_lacks_a_key_is_refused(build, tmp_path, trainer, lacking):
    built = build(trainer, *TRAINERS.get(trainer, ()))
    kept = {"state_dict": built.model.prompt_learner.state_dict(), "epoch": 2}
    if trainer == "MMLoP":
        del kept["epoch"]
    torch.save(kept, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=f"a.pth lacks {lacking}, which {trainer} needs: pass"):
        built.read_checkpoint(tmp_path / "a.pth")


def test_another_method_s_checkpoint_is_named_before_its_classes_matter(build, tmp_path):
    built = build("TwoStage")
    kept = {"state_dict": {"classifier": torch.zeros(3)}, "epoch": 2, "classnames": ["cat"]}
    torch.save({**kept, "trainer": "LPPlusPlus"}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="holds prompts of LPPlusPlus: pass --trainer LPPlusPlus"):
        built.read_checkpoint(tmp_path / "a.pth")


# What they keep from step to step, or draw in one, comes back from a checkpoint within an epoch.
RESUMED = ["CLIPAdapter", "CLIPLoRA", "CoPrompt", "LPPlusPlus", "MMRL", "TaskRes", "TwoStage"]
RESUMED += ["TipAdapterF"]


@pytest.mark.parametrize("trainer", RESUMED)
def test_cut_within_an_epoch_it_ends_like_a_whole_run(run, tmp_path, monkeypatch, trainer):
    pairs = ("DATALOADER.TRAIN_X.BATCH_SIZE", "4", "OPTIM.MAX_EPOCH", "3", *ALL[trainer])
    whole = run(trainer, "whole", *pairs)
    method = TRAINER_REGISTRY.get(trainer)
    forward_backward, steps = method.forward_backward, []

    def stop(self, batch):
        steps.append(batch)
        if len(steps) == 3:
            self.request_stop()
        return forward_backward(self, batch)

    monkeypatch.setattr(method, "forward_backward", stop)
    with pytest.raises(KeyboardInterrupt):
        run(trainer, "cut", *pairs)
    monkeypatch.undo()
    assert list((tmp_path / "cut" / "prompt_learner").glob("model.pth.tar-*-*"))
    cut = run(trainer, "cut", *pairs, resume=str(tmp_path / "cut"))
    assert cut["correct"] == whole["correct"]
    found, expected = state_of(tmp_path / "cut", 3), state_of(tmp_path / "whole", 3)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_prompts_are_evaluated_in_the_layer_they_were_trained_for(run, tmp_path, capsys):
    run("TCP", "base", "TRAINER.COOP.TCP_LAYER", "5")
    with pytest.raises(SystemExit):
        run("TCP", "other", "--eval-only", model_dir=str(tmp_path / "base"))
    assert "TRAINER.COOP.TCP_LAYER 5, and this run has 9" in capsys.readouterr().err


def test_class_specific_contexts_are_for_their_classes(run, tmp_path, capsys):
    """Base and new have equally many classes: the shapes alone would fit."""
    options = ("TRAINER.COOP.CSC", "True", "TRAINER.COOP.CTX_INIT", "")
    run("CoOp", "base", "DATASET.SUBSAMPLE_CLASSES", "base", *options)
    load = {"model_dir": str(tmp_path / "base")}
    run("CoOp", "again", "--eval-only", "DATASET.SUBSAMPLE_CLASSES", "base", *options, **load)
    with pytest.raises(SystemExit):
        run("CoOp", "new", "--eval-only", "DATASET.SUBSAMPLE_CLASSES", "new", *options, **load)
    assert "holds a context per class, for other classes" in capsys.readouterr().err


@pytest.mark.parametrize("trainer", PER_CLASS)
def test_what_is_trained_for_each_class_is_for_these(run, tmp_path, capsys, trainer):
    """Base and new have equally many classes: the shapes alone would fit."""
    base = run(trainer, "base", "DATASET.SUBSAMPLE_CLASSES", "base", *PER_CLASS[trainer])
    load = {"model_dir": str(tmp_path / "base")}
    options = ("--eval-only", *PER_CLASS[trainer])
    again = run(trainer, "again", "DATASET.SUBSAMPLE_CLASSES", "base", *options, **load)
    assert again["correct"] == base["correct"]
    with pytest.raises(SystemExit):
        run(trainer, "new", "DATASET.SUBSAMPLE_CLASSES", "new", *options, **load)
    assert "per class, for other classes than these: evaluate on" in capsys.readouterr().err


def test_mmrl_s_representation_is_for_what_it_was_trained_on(run, tmp_path, monkeypatch):
    from trainers.mmrl import RepresentationCLIP

    forward, fused = RepresentationCLIP.forward, []

    def noted(self, images):
        fused.append(self.fused)
        return forward(self, images)

    monkeypatch.setattr(RepresentationCLIP, "forward", noted)
    run("MMRL", "base", "DATASET.SUBSAMPLE_CLASSES", "base", *TRAINERS["MMRL"])
    assert all(fused)
    load = {"model_dir": str(tmp_path / "base")}
    for classes in ("base", "new"):
        options = ("--eval-only", "DATASET.SUBSAMPLE_CLASSES", classes, *TRAINERS["MMRL"])
        fused.clear()
        run("MMRL", classes + "2", *options, **load)
        assert fused and set(fused) == {classes == "base"}


WRONG = {
    ("CoOp", "TRAINER.COOP.CLASS_TOKEN_POSITION", "back"): "choose end, middle, front",
    (
        "CoOp",
        "TRAINER.COOP.CTX_INIT",
        "",
        "TRAINER.COOP.N_CTX",
        "0",
    ): "N_CTX must be at least 1, got 0",
    ("ProGrad", "TRAINER.COOP.N_CTX", "3"): 'N_CTX is 3, and "a photo of a" has 4 tokens',
    (
        "TCP",
        "TRAINER.COOP.TCP_LAYER",
        "1",
    ): "TCP_LAYER is 1: with this backbone it must be",
    ("TCP", "TRAINER.COOP.CSC", "True"): "set TRAINER.COOP.CSC False",
    ("PromptSRC", "TRAINER.PROMPTSRC.GPA_STD", "0"): "GPA_STD must be above 0, got 0.0",
    ("MultiModalAdapter",): "ADAPTER_START 5 and ADAPTER_END 12 must be in this order between 1 "
    "and 9",
    ("VPT",): "TRAINER.VPT.PROMPT_DEPTH_VISION is 12: the vision tower of this "
    "backbone takes 0 to 9",
    ("MultiModalAdapter", "TRAINER.MMADAPTER.ADAPTER_SCALE", "0"): "must be above 0, got 0.0",
    ("CLIPLoRA", "TRAINER.CLIPLORA.DROPOUT", "1"): "must be at least 0 and below 1, got 1.0",
    ("CLIPLoRA", "OPTIM.WARMUP_EPOCH", "1"): 'set OPTIM.LR_SCHEDULER "cosine" and OPTIM.WARMUP',
    (
        "CLIPLoRA",
        "TRAINER.CLIPLORA.EPOCH_STEPS",
        "2",
        "DATALOADER.TRAIN_X.SAMPLER",
        "SequentialSampler",
    ): "EPOCH_STEPS counts steps in random order",
    (
        "CLIPAdapter",
        "TRAINER.CLIPADAPTER.REDUCTION",
        "99",
    ): "REDUCTION is 99: the features are 32 wide",
    ("TipAdapterF", "MODEL.INIT_WEIGHTS", "x.pth"): "INIT_WEIGHTS is read only by methods other",
    ("CLIPAdapter", "TRAINER.CLIPADAPTER.RATIO", "2"): "must be between 0 and 1, got 2.0",
    ("MMRL",): "12]: give layers of this backbone in their order, from 2 to 9",
    ("MMRL", "TRAINER.MMRL.REP_LAYERS", "[]"): "REP_LAYERS is []: give layers",
    ("TwoStage", "TRAINER.TWOSTAGE.FIRST_STAGE", "2"): "must be between 0 and 1, got 2.0",
    ("TaskRes", "TRAINER.TaskRes.RESIDUAL_SCALE", "0"): "must be above 0, got 0.0",
    ("CoPrompt", "TRAINER.CoPrompt.IMAGE_RATIO", "2"): "must be between 0 and 1, got 2.0",
    (
        "CoPrompt",
        "TRAINER.CoPrompt.PROMPT_DEPTH",
        "9",
        "TRAINER.CoPrompt.DESCRIPTIONS",
        "none.json",
    ): "none.json is no file: give one",
    ("LPPlusPlus", "OPTIM.LR", "0.1"): "OPTIM.LR is read only by methods other than LPPlusPlus",
    (
        "TipAdapter",
        "TRAINER.TIPADAPTER.SEARCH_ALPHA",
        "0",
        "TRAINER.TIPADAPTER.SEARCH_BETA",
        "3",
    ): "SEARCH_BETA is read only where TRAINER.TIPADAPTER.SEARCH_ALPHA is above 0",
    (
        "CoPrompt",
    ): "TRAINER.CoPrompt.PROMPT_DEPTH is 12: the text tower of this backbone takes 0 to 9",
    ("CoPrompt", "DATALOADER.K_TRANSFORMS", "3"): "K_TRANSFORMS must be between 1 and 2, got 3",
    ("MaPLe", "DATALOADER.K_TRANSFORMS", "2"): "K_TRANSFORMS is read only by CoPrompt",
    (
        "CoCoOp",
        "TRAINER.COCOOP.PREC",
        "half",
    ): 'PREC must be one of auto, fp32, tf32, amp, bf16, fp16, got "half"',
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_options_are_named(run, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        run(arguments[0], "run", *arguments[1:])
    assert stop.value.code == 2
    assert WRONG[arguments] in capsys.readouterr().err


OF_THE_TEXT = ["CoOp", "CoCoOp", "KgCoOp", "ProGrad", "TCP", "CLIPAdapter", "TaskRes"]


@pytest.mark.parametrize("trainer", OF_THE_TEXT)
def test_text_prompts_take_a_resnet(trainer, tiny_root, tmp_path):
    """Upstream's files name RN50; the image tower is left alone there."""
    from clip.model import CLIP

    resnet = CLIP(32, 32, (1, 1, 1, 1), 64, None, 77, 49408, 64, 1, 9)
    torch.save(resnet.state_dict(), tmp_path / "rn.pth")
    args = cli.parse_args(
        ["--root", str(tiny_root), "--trainer", trainer, "--backbone", str(tmp_path / "rn.pth")]
        + ["--output-dir", str(tmp_path / "run"), "--seed", "1", "DATASET.NAME", "Caltech101"]
        + ["DATALOADER.NUM_WORKERS", "0", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "1"]
    )
    trainer = cli.build(args, cli.setup_cfg(args))
    terms, logits = trainer.loss_terms(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    assert logits.shape == (2, 4) and all(term.isfinite() for term in terms.values())


# What the configuration files of the code bases hold, in the types that they use

FILES = {
    "CoOp": {"COOP": {"CTX_INIT": "a photo of a"}},
    "CoCoOp": {"COCOOP": {"N_CTX": 4, "CTX_INIT": "a photo of a", "PREC": "fp16"}},
    "MaPLe": {"MAPLE": {"N_CTX": 2, "CTX_INIT": "a photo of a", "PREC": "fp16", "PROMPT_DEPTH": 9}},
    "IVLP": {"IVLP": {"N_CTX_VISION": 0, "N_CTX_TEXT": 4, "CTX_INIT": "a photo of a",
                      "PREC": "fp16", "PROMPT_DEPTH_VISION": 0, "PROMPT_DEPTH_TEXT": 9}},
    "VPT": {"VPT": {"N_CTX_VISION": 8, "CTX_INIT": "a photo of a", "PREC": "fp16",
                    "PROMPT_DEPTH_VISION": 9}},
    "PromptSRC": {"PROMPTSRC": {"N_CTX_VISION": 4, "N_CTX_TEXT": 4, "CTX_INIT": "a photo of a",
                                "PREC": "fp16", "PROMPT_DEPTH_VISION": 9, "PROMPT_DEPTH_TEXT": 9,
                                "TEXT_LOSS_WEIGHT": 25, "IMAGE_LOSS_WEIGHT": 10,
                                "GPA_MEAN": 15, "GPA_STD": 1}},
    "KgCoOp": {"COOP": {"CTX_INIT": True}},
    "TCP": {"COOP": {"CTX_INIT": False}},
    "ProGrad": {"COOP": {"CTX_INIT": True}},
    "MultiModalAdapter": {"MMADAPTER": {"TEXT_CTX_INIT": "a photo of a", "ADAPTER_START": 5,
                                        "ADAPTER_END": 9, "ADAPTER_DIM": 32,
                                        "ADAPTER_SCALE": 0.001, "PREC": "amp"}},
}  # fmt: skip


@pytest.mark.parametrize("trainer", FILES)
def test_the_family_s_own_files_merge(run, tmp_path, trainer):
    content = {
        "DATALOADER": {"TRAIN_X": {"BATCH_SIZE": 4}, "TEST": {"BATCH_SIZE": 100}},
        "INPUT": {"SIZE": "(224, 224)", "TRANSFORMS": ["random_resized_crop", "normalize"]},
        "OPTIM": {"NAME": "sgd", "LR": 0.0025, "WARMUP_EPOCH": 1, "WARMUP_CONS_LR": "1e-5"},
        "TRAINER": FILES[trainer],
    }
    if trainer == "ProGrad":
        content["LOSS"] = {"NAME": "prograd", "T": 1.0}
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(content))
    node = TRAINER_REGISTRY.get(trainer).node
    precision = (f"TRAINER.{node}.PREC", "fp32")
    results = run(trainer, "run", *precision, config_file=str(tmp_path / "theirs.yaml"))
    found = results["config"]["TRAINER"][node]
    for key, value in FILES[trainer][node].items():
        expected = str(value) if isinstance(value, bool) else value
        assert found[key] == expected or key == "PREC"
    parameters = {"KgCoOp": 4 * 128, "TCP": 16 * 128 + 32 * 8 + 8 + 8 * 2048 + 2048}
    if trainer in parameters:
        assert results["trainable_parameters"] == parameters[trainer]
