"""Every method on every kind of open_clip's models: it trains, or is refused where it must.

SURVIVAL=full has all kinds, variants of the four included.
"""

import os
from types import SimpleNamespace

import pytest
import torch
from dassl.engine import TRAINER_REGISTRY

from experiment import cli
from prompting.templates import IMAGENET_TEMPLATES
from tests.open_clip_worlds import CONFIGS, KINDS
from tests.trainers.test_methods import DEPTHS, METHODS, NAMES
from trainers.promptsrc import PromptSRC

OPTIONS = {name: pairs for name, (_, _, pairs) in METHODS.items() if "specific" not in name} | {
    "MMLoP": tuple(d if i % 2 else f"MMLOP.{d}" for i, d in enumerate(DEPTHS)),
    "ProGrad": ("COOP.N_CTX", "6"),
    "TwoStage": (),
}
FULL = os.environ.get("SURVIVAL") == "full"
TRAINED = KINDS if FULL else ["gelu", "clipa", "siglip", "eva02"]
IN_THE_TEXT = ("CoOp", "CoCoOp", "KgCoOp", "ProGrad", "TCP")
ON_FEATURES = ("CLIPAdapter", "LPPlusPlus", "TaskRes", "TipAdapterF")
OPENAI_ALONE = ("MMRL", "TwoStage")
TIMM = ("siglip", "siglip2", "eva02", "pe")


@pytest.fixture
def build(open_clip_backbone, monkeypatch):
    """A method's trainer with its model, without data and with fewer templates."""
    monkeypatch.setattr("trainers.mmlop.IMAGENET_TEMPLATES", IMAGENET_TEMPLATES[:2])
    monkeypatch.setattr(PromptSRC, "templates", IMAGENET_TEMPLATES[:2])

    def call(method, kind):
        flat = [p if i % 2 else f"TRAINER.{p}" for i, p in enumerate(OPTIONS[method])]
        words = ["--trainer", method, "DATASET.NAME", "Caltech101", *flat]
        trainer_class = TRAINER_REGISTRY.get(method)
        trainer = trainer_class.__new__(trainer_class)
        trainer.cfg, trainer.scaler = cli.setup_cfg(cli.parse_args(words)), None
        trainer.backbone, trainer.device = open_clip_backbone(kind), torch.device("cpu")
        shots = [SimpleNamespace(label=label) for label in range(len(NAMES))]
        trainer.dm = SimpleNamespace(dataset=SimpleNamespace(train_x=shots))
        trainer.model = trainer.build_clip(NAMES, torch.Generator().manual_seed(1))
        if method == "CoPrompt":
            trainer.sentences = trainer.encode_sentences(NAMES)
        return trainer

    return call


def is_driven(method, kind):
    return method not in OPENAI_ALONE and not (method == "CLIPLoRA" and kind in TIMM)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [*OPENAI_ALONE, "CLIPLoRA"])
def test_what_a_tower_cannot_do_is_refused_at_the_start(build, method, kind):
    if is_driven(method, kind):
        assert build(method, kind).trainable_parameters
        return
    openai = 'takes CLIP in OpenAI\'s form alone, and backbone ".*" is a model of open_clip: choose'
    lora = 'own towers, and the image tower of backbone ".*" is one of timm: choose another.'
    with pytest.raises(ValueError, match=openai if method in OPENAI_ALONE else lora):
        build(method, kind)


@pytest.mark.parametrize(
    ("method", "kind"), [(m, k) for m in OPTIONS for k in TRAINED if is_driven(m, k)]
)
def test_it_trains(build, method, kind):
    trainer = build(method, kind)
    torch.manual_seed(1)
    with torch.no_grad():  # away from the start, where biases are zero and ReLUs may be dead
        for parameter in trainer.trainable_params:
            parameter.add_(torch.rand_like(parameter) * 0.1 + (0.5 if parameter.ndim == 1 else 0))
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([0, 3, 1])

    values, gradients = trainer.compute(images, labels)
    assert values.isfinite().all()
    found = [g for g in gradients if g is not None]
    assert found and all(g.isfinite().all() and g.abs().max() > 0 for g in found)
    with torch.no_grad():  # a step along them, small enough for any loss
        size = sum(g.square().sum() for g in found).sqrt()
        for parameter, gradient in zip(trainer.trainable_params, gradients, strict=True):
            if gradient is not None and method != "MultiModalAdapter":  # whose are rescaled
                parameter.sub_(gradient, alpha=float(1e-3 / size))
    if method not in ("MultiModalAdapter", "ProGrad"):  # whose gradients are not the loss's
        assert trainer.compute(images, labels)[0][0] < values[0]


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_follow_from_the_widths(build, open_clip_backbone, kind):
    backbone = open_clip_backbone(kind)
    text, image, joint = backbone.text.width, backbone.image.width, backbone.text.joint_width
    assert build("MMLoP", kind).trainable_parameters == 4 * 4 + 3 * text + 4 * image
    assert build("IVLP", kind).trainable_parameters == 4 * (3 * text + 4 * image)
    meta_net = joint * (joint // 16) + joint // 16 + (joint // 16) * text + text
    assert build("CoCoOp", kind).trainable_parameters == 4 * text + meta_net


@pytest.mark.parametrize("method", OPTIONS)
@pytest.mark.parametrize("kind", sorted(set(CONFIGS) - set(KINDS)))
def test_convolutional_towers_take_text_prompts_alone(build, method, kind):
    if method in (*IN_THE_TEXT, *ON_FEATURES):
        assert build(method, kind).trainable_parameters
        return
    with pytest.raises(ValueError, match="prompts need a plain transformer"):
        build(method, kind)


def test_train_and_evaluate(run, open_clip_name, monkeypatch, tmp_path):
    """From the command line, with images as the weights of its name were shown them."""
    name = open_clip_name("siglip")
    from open_clip import pretrained

    tag = pretrained._slpcfg(url=name.partition("/")[2])
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-siglip", {"mine": tag})
    monkeypatch.setattr("open_clip.download_pretrained", lambda cfg: cfg["url"])
    pairs = ("TRAINER.MMLOP.PROMPT_DEPTH_TEXT", "3", "TRAINER.MMLOP.PROMPT_DEPTH_VISION", "4")
    pairs += ("INPUT.PIXEL_STD", "[0.4, 0.4, 0.4]")  # what is asked for counts
    folder = tmp_path / "siglip"
    trained = run("MMLoP", folder.name, *pairs, backbone="open_clip:tiny-siglip/mine")
    assert trained["backbone"]["name"] == "open_clip:tiny-siglip/mine"
    images = trained["config"]["INPUT"]
    assert (images["PIXEL_MEAN"], images["RESIZE_MODE"]) == ([0.5] * 3, "squash")
    assert images["PIXEL_STD"] == [0.4] * 3
    assert tuple(images["SIZE"]) == (32, 32)

    flags = {"backbone": name, "model_dir": str(folder)}  # the same weights as a file
    again = run("MMLoP", "again", "--eval-only", *pairs, **flags)
    assert again["backbone"]["sha256"] == trained["backbone"]["sha256"]
    with pytest.raises(SystemExit):
        run(
            "MMLoP", "other", "--eval-only", *pairs, **{**flags, "backbone": open_clip_name("gelu")}
        )
