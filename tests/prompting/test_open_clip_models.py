"""Finding and loading models of open_clip, with tiny ones in the package's own formats."""

import json
import sys

import clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from prompting import PromptedCLIP, encode_texts, load_backbone, open_clip_models
from prompting.prompts import FullRankPrompts

TEXTS = ["a photo of a cat.", "a photo of a striped red star."]


@pytest.fixture
def state(open_clip_backbone):
    return {k: v.clone() for k, v in open_clip_backbone("gelu").model.state_dict().items()}


@pytest.fixture
def load(tmp_path, state):
    """Save a state dict, or the tiny one, and load it as an architecture."""

    def load(architecture, content=None, **options):
        path = tmp_path / "weights.pth"
        torch.save(state if content is None else content, path)
        return load_backbone(f"open_clip:{architecture}/{path}", **options)

    return load


def test_every_kind_of_file_gives_the_same_model(state, load, tmp_path):
    backbone = load("tiny-gelu")
    save_file(state, tmp_path / "weights.safetensors")
    for other in (
        load_backbone(f"open_clip:tiny-gelu/{tmp_path / 'weights.safetensors'}"),
        load("tiny-gelu", {"epoch": 1, "state_dict": {f"module.{k}": state[k] for k in state}}),
        load("tiny-gelu", {**state, "logit_scale": state["logit_scale"].reshape(1)}),
        load("tiny-gelu", {**state, "logit_bias": torch.tensor(-10.0)}),
    ):
        assert other.sha256 == backbone.sha256
        found = encode_texts(other.model, TEXTS, tokenizer=other.tokenizer)
        assert torch.equal(found, encode_texts(backbone.model, TEXTS, tokenizer=other.tokenizer))
    assert backbone.resolution == 32 and backbone.tokenizer.context_length == 20


def test_the_same_weights_in_another_architecture_are_another_model(load):
    """Cached features and prompts belong to one of them."""
    gelu, quick = load("tiny-gelu"), load("tiny-quickgelu")
    assert gelu.sha256 != quick.sha256
    printed = load("tiny-gelu", activation="quick_gelu")
    assert printed.sha256 == quick.sha256
    features = [encode_texts(b.model, TEXTS, tokenizer=b.tokenizer) for b in (gelu, quick, printed)]
    assert torch.equal(features[1], features[2]) and not torch.equal(features[0], features[1])


def test_a_model_of_open_clip_with_a_text_tower_of_its_own_takes_old_names(
    open_clip_backbone, load
):
    model = open_clip_backbone("eva02").model
    old = {key.removeprefix("text."): value for key, value in model.state_dict().items()}
    assert "positional_embedding" in old
    assert load("tiny-eva02", old).sha256 == open_clip_backbone("eva02").sha256


def test_the_bias_of_siglip_cancels(open_clip_backbone):
    """It is added to the logits of all classes alike."""
    backbone = open_clip_backbone("siglip")
    learner = FullRankPrompts(torch.randn(1, 2, 48), torch.randn(1, 2, 60))
    model = PromptedCLIP(backbone, learner, ["cat", "dog"], "X X {}.")
    images = torch.randn(3, 3, 32, 32)
    logits = model(images)
    assert float(backbone.model.logit_bias) == -10
    torch.testing.assert_close(
        logits.softmax(dim=1), (logits + backbone.model.logit_bias).softmax(dim=1)
    )


def test_the_demo_clip_in_open_clip_s_format_gives_the_same_logits(open_clip_name, tmp_path):
    """Its keys are OpenAI's; its architecture is a file of open_clip's configuration."""
    import open_clip

    open_clip_name("gelu")  # skips without the extra
    demo = load_backbone("demo")
    model, text, image = demo.model, demo.text, demo.image
    config = {
        "embed_dim": text.joint_width,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": demo.resolution, "patch_size": model.visual.conv1.kernel_size[0],
            "width": image.width, "layers": len(image.blocks), "head_width": 64,
        },
        "text_cfg": {
            "context_length": 77, "vocab_size": 49408, "width": text.width,
            "heads": text.width // 64, "layers": len(text.blocks),
        },
    }  # fmt: skip
    (tmp_path / "demo-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "demo-clip.json")
    torch.save(model.state_dict(), tmp_path / "demo.pth")
    other = load_backbone(f"open_clip:demo-clip/{tmp_path / 'demo.pth'}")

    prompts = torch.randn(9, 2, text.width), torch.randn(9, 2, image.width)
    images = torch.stack(
        [demo.preprocess(Image.effect_noise((70, 50), 90 + i).convert("RGB")) for i in range(2)]
    )
    logits = [
        PromptedCLIP(b, FullRankPrompts(*prompts), ["red star", "blue disk"], "a photo of a {}.")
        for b in (demo, other)
    ]
    with torch.no_grad():
        found, expected = logits[1](images), logits[0](images)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        theirs = other.model.encode_text(clip.tokenize(TEXTS))
        torch.testing.assert_close(theirs, model.encode_text(clip.tokenize(TEXTS)))


def test_images_are_shown_as_in_training(open_clip_name, tmp_path):
    """Mean, standard deviation, interpolation and resizing are those of the weights."""
    open_clip_name("gelu")
    file = tmp_path / "weights.pth"
    file.touch()

    def images(rest):
        return open_clip_models.find(f"open_clip:{rest}").images

    siglip = images(f"ViT-B-16-SigLIP/{file}")  # all that is published agrees
    assert (siglip.mean, siglip.resize_mode) == ((0.5, 0.5, 0.5), "squash")
    assert images("ViT-B-16-SigLIP/webli") == siglip
    assert images(f"ViT-L-14/{file}") is None  # it does not
    assert images("ViT-L-14/laion2b_s32b_b82k").mean == (0.5, 0.5, 0.5)
    assert images("ViT-B-16/laion2b_s34b_b88k").resize_mode == "shortest"
    assert images(f"tiny-gelu/{file}") is None


def test_the_activation_is_that_of_the_weights(open_clip_name, tmp_path):
    open_clip_name("gelu")
    (tmp_path / "file").touch()

    def quick(rest, activation=""):
        source = open_clip_models.find(f"open_clip:{rest}", activation)
        return source.config["quick_gelu"]

    assert quick("ViT-B-16/openai") and quick("ViT-B-16/dfn2b")
    assert not quick("ViT-B-16/laion2b_s34b_b88k") and not quick("ViT-B-16/datacomp_xl_s13b_b90k")
    assert not quick(f"ViT-B-16/{tmp_path / 'file'}")
    assert quick(f"ViT-B-16/{tmp_path / 'file'}", "quick_gelu")
    assert quick(f"ViT-B-16-quickgelu/{tmp_path / 'file'}")


REFUSED = {
    "tiny-gelu-2/x": 'has no architecture "tiny-gelu-2"; the nearest are tiny-gelu, ',
    "hf-hub:someone/a-model": 'has no architecture "hf-hub:someone"',
    "tiny-gelu": '"" is neither a file nor weights of tiny-gelu: choose a file',
    "ViT-B-16/laion": '"laion" is neither a file nor weights of ViT-B-16: choose .*datacomp',
    "coca_ViT-B-32/x": "coca_ViT-B-32 is a CoCa, with a decoder, which takes no prompts here",
    "roberta-ViT-B-32/x": "has a text tower of Hugging Face's transformers",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_open_clip_has_not_is_refused_at_once(open_clip_name, name):
    open_clip_name("gelu")
    with pytest.raises(ValueError, match=REFUSED[name]):
        load_backbone(f"open_clip:{name}")


def test_weights_that_do_not_fit(load, state):
    with pytest.raises(ValueError, match="does not hold the weights of open_clip's tiny-clipa"):
        load("tiny-clipa")
    state["visual.proj"].fill_(torch.nan)
    with pytest.raises(ValueError, match="infinite values or NaN in visual.proj"):
        load("tiny-gelu", state)


def test_what_is_not_for_them(load):
    with pytest.raises(
        ValueError, match="weights stay in fp32: choose precision fp32, tf32 or amp"
    ):
        load("tiny-gelu", precision="bf16")
    with pytest.raises(ValueError, match="head_widths is .64, 80.: the architecture of .* says"):
        load("tiny-gelu", head_widths=(64, 80))


def test_amp_runs_the_towers_in_bf16(load):
    for kind in ("tiny-gelu",):
        backbone = load(kind, precision="amp")
        learner = FullRankPrompts(torch.randn(2, 2, 48), torch.randn(2, 2, 60))
        images = torch.randn(2, 3, 32, 32)
        found = PromptedCLIP(backbone, learner, ["cat", "dog"], "X X {}.")(images)
        expected = PromptedCLIP(load(kind), learner, ["cat", "dog"], "X X {}.")(images)
        assert (found - expected).norm() < 0.05 * expected.norm()


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ValueError, match='need its package .*pip install "open_clip_torch>=3.3"'):
        load_backbone("open_clip:ViT-B-16/laion2b_s34b_b88k")


def test_a_download_without_network_says_what_to_do(open_clip_name, monkeypatch):
    open_clip_name("gelu")

    def download(cfg):
        raise FileNotFoundError("no route to host")

    monkeypatch.setattr("open_clip.download_pretrained", download)
    with pytest.raises(ValueError, match="could not be downloaded .no route .*ViT-B-16/FILE"):
        load_backbone("open_clip:ViT-B-16/laion2b_s34b_b88k")


def test_downloaded_weights_are_loaded_as_their_tag_says(
    state, open_clip_name, monkeypatch, tmp_path
):
    """The tag of a tiny architecture: quick_gelu, and a mean of its own."""
    open_clip_name("gelu")
    from open_clip import pretrained

    torch.save(state, tmp_path / "weights.pth")
    tag = pretrained._slpcfg(url="https://nowhere/weights.pth", quick_gelu=True)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-gelu", {"mine": tag})
    monkeypatch.setattr("open_clip.download_pretrained", lambda _: str(tmp_path / "weights.pth"))
    backbone = load_backbone("open_clip:tiny-gelu/mine")
    image = Image.effect_noise((70, 50), 90).convert("RGB")
    found = backbone.preprocess(image)
    assert found.shape == (3, 32, 32)
    squashed = torch.tensor(list(image.resize((32, 32), Image.BICUBIC).tobytes())) / 127.5 - 1
    assert (found.permute(1, 2, 0).flatten() - squashed).abs().max() < 0.02
    features = encode_texts(backbone.model, TEXTS, tokenizer=backbone.tokenizer)
    quick = load_backbone(f"open_clip:tiny-quickgelu/{tmp_path / 'weights.pth'}")
    assert torch.equal(features, encode_texts(quick.model, TEXTS, tokenizer=quick.tokenizer))
