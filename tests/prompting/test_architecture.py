import hashlib
import logging

import clip
import pytest
import torch
from torch import nn

from prompting import encode_image, encode_texts, load_backbone
from prompting.architecture import Architecture
from tests.conftest import build_clip
from tests.prompting.test_backbone import save_torchscript

TEXTS = ["a photo of a cat.", "a photo of a striped red star."]


def trained_with(activation, head_widths):
    """A CLIP as if trained so, by its own forward passes, and the features that it gives."""
    model = build_clip(layers=2)
    for tower, width in zip(
        (model.transformer, model.visual.transformer), head_widths, strict=True
    ):
        for block in tower.resblocks:
            attention = nn.MultiheadAttention(tower.width, tower.width // width)
            attention.load_state_dict(block.attn.state_dict())
            block.attn = attention
            block.mlp.gelu = nn.GELU() if activation == "gelu" else block.mlp.gelu
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("head_widths", [(64, 64), (32, 96)])
def test_a_file_runs_as_it_was_trained(tmp_path, activation, head_widths, precision):
    """A weights file does not say this; guessed, features are others (cosine 0.9 at this size)."""
    model, path = trained_with(activation, head_widths), tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    options = {"activation": activation, "head_widths": head_widths}
    backbone = load_backbone(str(path), precision, **options)
    images = torch.randn(2, 3, 32, 32)
    found = encode_image(backbone.model, images), encode_texts(backbone.model, TEXTS)
    expected = model.encode_image(images), model.encode_text(clip.tokenize(TEXTS))
    closeness = 1e-5 if precision == "fp32" else 0.05
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.float() - theirs).norm() < closeness * theirs.norm()
    if (activation, precision) == ("gelu", "fp32"):
        guessed = encode_image(load_backbone(str(path)).model, images)
        assert (guessed - expected[0]).norm() > 1e-3 * expected[0].norm()


def test_its_hash_says_which_model_it_is(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(build_clip(layers=1).state_dict(), path)
    plain = load_backbone(str(path)).sha256
    assert load_backbone(str(path), activation="quick_gelu").sha256 == plain
    gelu = load_backbone(str(path), activation="gelu").sha256
    assert len({plain, gelu, load_backbone(str(path), head_widths=(64, 32)).sha256}) == 3


def test_unknown_weights_are_warned_about_unless_it_is_said(tmp_path, monkeypatch, caplog):
    path = tmp_path / "weights.pth"
    torch.save(build_clip(layers=1).state_dict(), path)
    load_backbone(str(path))
    assert "is no file that OpenAI published" in caplog.text and "in a run MODEL" in caplog.text
    assert 'name the architecture, "open_clip:ARCHITECTURE/FILE", or give act' in caplog.text
    assert "quick_gelu with heads 64 (text) and 64 (image) wide is assumed" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        load_backbone(str(path), activation="quick_gelu")
        load_backbone("demo")
        archive = tmp_path / "archive.pt"
        save_torchscript(build_clip(layers=1).state_dict(), archive)
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        monkeypatch.setattr("prompting.backbone.OPENAI_URLS", {"": f"https://{sha256}/x.pt"})
        load_backbone(str(archive))
    assert not caplog.text


def test_openai_s_names_have_openai_s_architecture():
    with pytest.raises(ValueError, match='activation is gelu: "demo" has quick_gelu and heads of'):
        load_backbone("demo", activation="gelu")
    with pytest.raises(ValueError, match='head_widths is .64, 80.: "ViT-B/16" has quick_gelu'):
        load_backbone("ViT-B/16", head_widths=(64, 80))


def test_what_is_no_architecture():
    with pytest.raises(ValueError, match='activation is "relu": choose quick_gelu or gelu'):
        Architecture("relu")
    for widths in ((64,), (64, 0), (64, 1.5)):
        with pytest.raises(ValueError, match="give two whole numbers, of the text and image tower"):
            Architecture("gelu", widths)
