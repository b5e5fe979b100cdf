"""Whole runs through train.py: what they learn, what they leave alone, what they write."""

import json

import pytest
import torch
from clip.model import CLIP
from PIL import Image

from experiment import cli
from experiment.config import CONFIGS
from prompting.backbone import load_backbone


def read(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("trainer", ["MMLoP", "IVLP"])
def test_train_on_base_then_evaluate_on_new(run, tmp_path, trainer, tiny_file):
    base = run(trainer, "base", "DATASET.SUBSAMPLE_CLASSES", "base")
    assert (base["classes"], base["total"], base["training_images"]) == (2, 6, 4)
    assert base["accuracy"] == 100 * base["correct"] / base["total"]
    assert base["seed"] == 1 and base["shots"] == 2 and base["subsample"] == "base"
    assert base["seconds"]["training"] > 0 and base["peak_memory_mb"] > 100
    assert base["config"]["TRAINER"]["NAME"] == trainer and base["versions"]["torch"]

    folder = tmp_path / "base"
    for name in ("config.yaml", "log.txt", "tensorboard", "prompt_learner/model.pth.tar-2"):
        assert (folder / name).exists(), name
    assert "* accuracy: " in (folder / "log.txt").read_text()
    assert (folder / "prompt_learner" / "checkpoint").read_text().strip() == "model.pth.tar-2"

    new = run(
        trainer, "new", "--eval-only", "DATASET.SUBSAMPLE_CLASSES", "new", model_dir=str(folder)
    )
    assert (new["classes"], new["total"], new["epochs"]) == (2, 6, 0)
    assert new["trainable_parameters"] == base["trainable_parameters"]


def test_a_checkpoint_holds_the_prompts_and_their_origin(run, tmp_path, tiny_file):
    run("MMLoP", "run")
    checkpoint = read(tmp_path / "run" / "prompt_learner" / "model.pth.tar-2")
    assert set(checkpoint["state_dict"]) == {"up", "text_down", "vision_down"}
    assert checkpoint["epoch"] == 2 and checkpoint["trainer"] == "MMLoP"
    assert checkpoint["classnames"] == ["face", "leopard", "motorbike", "accordion"]
    assert checkpoint["backbone"] == {
        "name": tiny_file,
        "sha256": load_backbone(tiny_file).sha256,
    }
    assert "MMLOP" in checkpoint["config"]
    assert (tmp_path / "run/prompt_learner/model.pth.tar-2").stat().st_size < 100_000


def test_the_same_seed_gives_the_same_run(run, tmp_path):
    first, again, other = (
        run("MMLoP", name, seed=seed) for name, seed in (("a", "1"), ("b", "1"), ("c", "2"))
    )
    states = [
        read(tmp_path / name / "prompt_learner" / "model.pth.tar-2")["state_dict"]
        for name in ("a", "b", "c")
    ]
    assert first["accuracy"] == again["accuracy"]
    for key in states[0]:
        assert torch.equal(states[0][key], states[1][key])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert other["seed"] == 2


def test_a_resumed_run_ends_like_an_uninterrupted_one(run, tmp_path, monkeypatch):
    run("MMLoP", "whole", "TRAIN.CHECKPOINT_FREQ", "1", "OPTIM.MAX_EPOCH", "4")

    from trainers.base import PromptTrainer

    after_epoch = PromptTrainer.after_epoch

    def stop(self):
        after_epoch(self)
        if self.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(PromptTrainer, "after_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        run("MMLoP", "cut", "TRAIN.CHECKPOINT_FREQ", "1", "OPTIM.MAX_EPOCH", "4")
    monkeypatch.undo()
    resumed = str(tmp_path / "cut")
    run("MMLoP", "cut", "TRAIN.CHECKPOINT_FREQ", "1", "OPTIM.MAX_EPOCH", "4", resume=resumed)
    whole, cut = (
        read(tmp_path / name / "prompt_learner" / "model.pth.tar-4")["state_dict"]
        for name in ("whole", "cut")
    )
    for key in whole:
        assert torch.equal(whole[key], cut[key])


def test_tensorboard_gets_a_point_with_each_line_of_the_log(run, monkeypatch):
    from trainers.base import PromptTrainer

    points = []
    monkeypatch.setattr(PromptTrainer, "write_scalar", lambda self, *point: points.append(point))
    batches = ("DATALOADER.TRAIN_X.BATCH_SIZE", "1", "OPTIM.MAX_EPOCH", "1")
    run("CoOp", "run", "TRAIN.PRINT_FREQ", "3", *batches)
    assert [step for tag, _, step in points if tag == "train/loss"] == [2, 5, 7]
    rates = {step: rate for tag, rate, step in points if tag == "train/lr"}
    assert rates == dict.fromkeys([2, 5, 7], 1e-5)  # that of the warm-up, also at the last step


def build(tmp_path, tiny_file, tiny_root, *pairs, trainer="MMLoP"):
    args = cli.parse_args(
        ["--root", str(tiny_root), "--trainer", trainer, "--seed", "1", "--backbone", tiny_file]
        + ["--output-dir", str(tmp_path / "built"), "DATASET.NAME", "Caltech101"]
        + ["DATALOADER.NUM_WORKERS", "0", "DATASET.NUM_SHOTS", "2", *pairs]
    )
    return cli.build(args, cli.setup_cfg(args))


def test_training_changes_the_prompts_and_nothing_else(tmp_path, tiny_file, tiny_root):
    trainer = build(tmp_path, tiny_file, tiny_root, "OPTIM.MAX_EPOCH", "2")
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    frozen_text = trainer.model.frozen_text.clone()
    trainer.train()
    after = trainer.model.state_dict()
    for key in before:
        trained = key.startswith("prompt_learner.")
        assert torch.equal(before[key], after[key]) != trained, key
    assert torch.equal(frozen_text, trainer.model.frozen_text)
    for name, parameter in trainer.model.named_parameters():
        assert parameter.requires_grad == name.startswith("prompt_learner."), name


def test_mmlop_with_everything_off_is_ivlp(run, tmp_path):
    off = [p if i % 2 else f"TRAINER.MMLOP.{p}" for i, p in enumerate(IVLP)]
    tokens = ("TRAINER.IVLP.N_CTX_TEXT", "4", "TRAINER.IVLP.N_CTX_VISION", "4")

    def depths(node):
        towers = [f"TRAINER.{node}.PROMPT_DEPTH_{tower}" for tower in ("TEXT", "VISION")]
        return [part for key in towers for part in (key, "4")]

    run("MMLoP", "mmlop", *off, *depths("MMLOP"))
    run("IVLP", "ivlp", *tokens, *depths("IVLP"))
    states = [
        read(tmp_path / name / "prompt_learner" / "model.pth.tar-2")["state_dict"]
        for name in ("mmlop", "ivlp")
    ]
    for key in ("text", "vision"):
        assert torch.equal(states[0][key], states[1][key])


@pytest.mark.parametrize("precision", ["amp", "bf16"])
def test_other_precisions_train(run, precision, tmp_path):
    run("MMLoP", "run", "TRAINER.MMLOP.PREC", precision)
    state = read(tmp_path / "run" / "prompt_learner" / "model.pth.tar-2")
    assert all(v.dtype == torch.float32 for v in state["state_dict"].values())
    momenta = [s["momentum_buffer"] for s in state["optimizer"]["state"].values()]
    assert all(m.dtype == torch.float32 for m in momenta)


def test_initial_weights_fit_whole_or_not_at_all(run, tmp_path, capsys):
    """Dassl's engine warns where nothing fits, and trains on where a part does."""
    from dassl.utils import load_checkpoint

    run("MMLoP", "before", "OPTIM.MAX_EPOCH", "1")
    path = tmp_path / "before" / "prompt_learner" / "model.pth.tar-1"
    state = load_checkpoint(path)["state_dict"]
    begin = ("OPTIM.MAX_EPOCH", "1", "OPTIM.LR", "1e-30", "OPTIM.WARMUP_EPOCH", "-1")
    run("MMLoP", "after", *begin, "MODEL.INIT_WEIGHTS", str(path))
    found = read(tmp_path / "after" / "prompt_learner" / "model.pth.tar-1")["state_dict"]
    assert all(torch.equal(found[key], state[key]) for key in state)

    part = {key: state[key] for key in ("up", "text_down")}
    wrong = {
        "nothing": {"ctx": torch.zeros(4, 128)},
        "part": part,
        "more": {**state, "ctx": torch.zeros(4, 128)},
        "shape": {**state, "up": state["up"][:3]},
        "numbers": {"epoch": 3},
        "list": [torch.zeros(1)],
    }
    for name, content in wrong.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(SystemExit) as end:
            run("MMLoP", name, "MODEL.INIT_WEIGHTS", str(tmp_path / f"{name}.pth"))
        printed = capsys.readouterr().err
        assert end.value.code == 2, name
        assert f"{name}.pth holds other prompts than this configuration asks for" in printed, name
    torch.save({f"module.{k}": v for k, v in state.items()} | {"token_prefix": torch.ones(1)}, path)
    assert run("MMLoP", "module", *begin, "MODEL.INIT_WEIGHTS", str(path))


def test_nothing_is_initialised_where_nothing_is_trained(run, tmp_path, capsys):
    torch.save({"ctx": torch.zeros(4, 128)}, tmp_path / "a.pth")
    with pytest.raises(SystemExit):
        run("ZeroshotCLIP", "zs", "MODEL.INIT_WEIGHTS", str(tmp_path / "a.pth"))
    assert "expected nothing; found ctx [4, 128]" in capsys.readouterr().err


TEMPLATES = {
    "ZeroshotCLIP": "ZSCLIP", "ZeroshotCLIP2": "ZSCLIP",
    "KgCoOp": "COOP", "ProGrad": "COOP", "TCP": "COOP",
}  # fmt: skip


@pytest.mark.parametrize("trainer", TEMPLATES)
def test_a_template_of_one_s_own_is_read(tmp_path, tiny_file, tiny_root, trainer):
    """By the frozen features that guide, or classify, and by ProGrad's and TCP's own texts."""
    given = f"TRAINER.{TEMPLATES[trainer]}.TEMPLATE"
    models = [
        build(tmp_path / str(n), tiny_file, tiny_root, given, text, trainer=trainer).model
        for n, text in enumerate(("", "a photo of a {}.", "a blurry {}, a type of pet."))
    ]
    features = [
        model.frozen_text if model.frozen_text is not None else model._fixed_text
        for model in models
    ]
    if trainer == "ZeroshotCLIP":
        features = [model.text_features(()) for model in models]
    assert torch.equal(features[0], features[1])  # the data set's own
    assert not torch.allclose(features[0], features[2], atol=1e-3)
    if trainer == "TCP":  # ", a type of pet." stands behind its class names
        lengths = [model.tokenized_prompts.end.tolist() for model in models]
        assert [b - a for a, b in zip(*lengths[1:], strict=True)] == [5] * 4


def test_tcp_s_prompts_are_evaluated_with_their_template(run, tmp_path, capsys):
    """They are made of its features; KgCoOp's and ProGrad's are not."""
    own = ("TRAINER.COOP.TEMPLATE", "a blurry {}.")
    few = ("OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "1")
    for trainer in ("TCP", "KgCoOp"):
        run(trainer, trainer, *few, *own)
    load = {"model_dir": str(tmp_path / "TCP")}
    with pytest.raises(SystemExit):
        run("TCP", "other", "--eval-only", **load)
    assert "was trained with TRAINER.COOP.TEMPLATE a blurry {}." in capsys.readouterr().err
    assert run("TCP", "same", "--eval-only", *own, **load)
    assert run("KgCoOp", "any", "--eval-only", model_dir=str(tmp_path / "KgCoOp"))


def test_zero_shot_uses_the_data_set_s_template_and_trains_nothing(run, tmp_path):
    results = run("ZeroshotCLIP", "zs")
    assert results["trainable_parameters"] == 0 and results["epochs"] == 0
    assert 'Template: "a photo of a {}."' in (tmp_path / "zs" / "log.txt").read_text()


def test_best_val_evaluates_the_best(run, tmp_path, monkeypatch):
    """Of three epochs the second is the best on validation data."""
    from trainers.base import PromptTrainer

    test, scores = PromptTrainer.test, iter([50.0, 70.0, 60.0])

    def scripted(self, split=None):
        return next(scores) if split == "val" else test(self, split)

    monkeypatch.setattr(PromptTrainer, "test", scripted)
    results = run("MMLoP", "best", "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", "3")
    assert results["evaluated_checkpoint"]["epoch"] == 2
    assert results["evaluated_checkpoint"]["path"].endswith("model-best.pth.tar")


@pytest.mark.parametrize(
    "words",
    [("TEST.FINAL_MODEL", "best_val"), ("TEST.SPLIT", "val"), ("--eval-only", "TEST.SPLIT", "val")],
)
def test_no_choice_is_made_on_test_images(run, tmp_path, capsys, words):
    """Test accuracies of 50, 60, 40 are no validation, whichever of them is best."""
    for part in ("train", "test"):
        for index, name in enumerate(("ant", "bee")):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            Image.new("RGB", (32, 32), (90 * index, 0, 0)).save(
                tmp_path / "data" / part / name / "a.png"
            )
    config = str(CONFIGS / "datasets" / "image_folder.yaml")
    trainer = "ZeroshotCLIP" if "--eval-only" in words else "MMLoP"
    with pytest.raises(SystemExit) as end:
        run(trainer, "best", *words, root=str(tmp_path / "data"), dataset_config_file=config)
    printed = capsys.readouterr().err
    assert end.value.code == 2 and "needs validation images, and ImageFolder has none" in printed
    assert "set TEST.FINAL_MODEL last_step and TEST.SPLIT test." in printed


def test_a_run_without_a_test_leaves_none(run, tmp_path, capsys):
    assert run("MMLoP", "none", "TEST.NO_TEST", "True", "OPTIM.MAX_EPOCH", "1") is None
    with pytest.raises(SystemExit):
        run("ZeroshotCLIP", "zs", "TEST.NO_TEST", "True")
    assert "does nothing but test, and TEST.NO_TEST is True" in capsys.readouterr().err


def test_a_run_writes_its_metrics(run):
    """Confidences are the softmax of the logits at the model's own scale."""
    results = run("ZeroshotCLIP", "zs")
    assert sum(b["count"] for b in results["bins"]) == results["total"] == 12
    assert sum(b["count"] for b in results["adaptive_bins"]) == 12
    right = [results["confusion"][n].get(str(n), 0) for n in range(4)]
    assert sum(right) == results["correct"]
    assert [entry["images"] for entry in results["per_class"]] == [3] * 4
    assert [entry["class"] for entry in results["per_class"]][0] == "face"
    mean = sum(b["count"] * b["confidence"] for b in results["bins"] if b["count"]) / 12
    assert 25 <= mean <= 100 and 0 <= results["ece"] <= 100
    assert "OPTIM" not in results["config"]  # nothing was trained
    assert results["config"]["TRAINER"] == {
        "NAME": "ZeroshotCLIP",
        "ZSCLIP": {"PREC": "auto", "TEMPLATE": ""},
    }


IVLP = ("LOW_RANK", "False", "SCL", "False", "UDC", "False")
DEPTH_3 = ("PROMPT_DEPTH_TEXT", "3", "PROMPT_DEPTH_VISION", "3")
VIT_B_16 = {
    (): 11_556,
    DEPTH_3: 3_852,
    ("SHARED_UP", "False"): 11_592,
    ("LOW_RANK", "False"): 46_080,
}


@pytest.fixture(scope="module")
def vit_b_16(tmp_path_factory):
    """Random weights in the shapes of ViT-B/16."""
    torch.manual_seed(0)
    model = CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12)
    path = tmp_path_factory.mktemp("vit") / "vit_b_16.pth"
    torch.save(model.half().state_dict(), path)
    return str(path)


@pytest.mark.parametrize("options", VIT_B_16)
def test_parameters_at_vit_b_16_shapes(run, vit_b_16, tmp_path, options):
    """One step at full size; the count in results.json is that of the tensors trained."""
    pairs = [p if i % 2 else f"TRAINER.MMLOP.{p}" for i, p in enumerate(options)]
    size = ("DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "1")
    results = run("MMLoP", "vit", *size, *pairs, backbone=vit_b_16)
    assert results["trainable_parameters"] == VIT_B_16[options]
    state = read(tmp_path / "vit" / "prompt_learner" / "model.pth.tar-1")["state_dict"]
    assert sum(value.numel() for value in state.values()) == VIT_B_16[options]
    assert json.loads(json.dumps(results)) == results
