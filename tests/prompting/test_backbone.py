import hashlib
import os
import pickle
import random
import re
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor

import clip
import numpy as np
import pytest
import torch
from clip.model import CLIP
from safetensors.torch import save_file

import prompting.backbone
from prompting import load_backbone, require_transformer
from prompting.backbone import DEMO_FILE, OPENAI_URLS


def save_torchscript(state, path):
    """An archive like OpenAI's: a scripted module whose state dict has CLIP's names."""

    class Node(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    root = Node()
    for name, value in state.items():
        node, *parts = root, *name.split(".")
        for part in parts[:-1]:
            if not hasattr(node, part):
                node.add_module(part, Node())
            node = getattr(node, part)
        node.register_buffer(parts[-1], value.clone())
    root.register_buffer("input_resolution", torch.tensor(32))
    root.register_buffer("context_length", torch.tensor(77))
    root.register_buffer("vocab_size", torch.tensor(49408))
    torch.jit.script(root).save(path)


WRITERS = {
    "weights.safetensors": save_file,
    "weights.pth": torch.save,
    "wrapped.pth": lambda state, path: torch.save({"state_dict": state}, path),
    "archive.pt": save_torchscript,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_model(tiny_clip, tmp_path, name):
    state = {key: value.clone() for key, value in tiny_clip.state_dict().items()}
    WRITERS[name](state, tmp_path / name)
    backbone = load_backbone(str(tmp_path / name), trust=name == "archive.pt")
    tokens = clip.tokenize(["a photo of a cat."])
    torch.testing.assert_close(
        backbone.model.encode_text(tokens), tiny_clip.encode_text(tokens), rtol=0, atol=0
    )
    assert backbone.resolution == 32
    assert not any(p.requires_grad for p in backbone.model.parameters())
    WRITERS["weights.pth"](state, tmp_path / "other.pth")
    assert load_backbone(str(tmp_path / "other.pth")).sha256 == backbone.sha256


def test_a_torchscript_archive_is_openai_s_or_trusted(tiny_clip, tmp_path, monkeypatch):
    path = tmp_path / "archive.pt"
    save_torchscript(tiny_clip.state_dict(), path)
    with monkeypatch.context() as patch:
        patch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was read"))
        with pytest.raises(ValueError, match="none of those that OpenAI .*BACKBONE.TRUST True"):
            load_backbone(str(path))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    urls = {"ViT-T/8": f"https://openaipublic.azureedge.net/clip/models/{sha256}/ViT-T-8.pt"}
    monkeypatch.setattr("prompting.backbone.OPENAI_URLS", urls)
    assert load_backbone(str(path)).resolution == 32


def test_openai_s_addresses_hold_hashes():
    for url in OPENAI_URLS.values():
        assert re.fullmatch("[0-9a-f]{64}", url.split("/")[-2])


def test_openai_names_are_downloaded_by_openai_s_package(tiny_clip, tmp_path, monkeypatch):
    asked = []

    def download(url, root):
        asked.append((url, root))
        torch.save(tiny_clip.state_dict(), tmp_path / "weights.pth")
        return str(tmp_path / "weights.pth")

    assert str(prompting.backbone.CACHE) == os.path.expanduser("~/.cache/clip")
    monkeypatch.setattr("prompting.backbone.CACHE", tmp_path / "cache")
    monkeypatch.setattr(clip.clip, "_download", download)
    assert load_backbone("ViT-B/16").name == "ViT-B/16"
    [(url, root)] = asked
    assert url.endswith("/ViT-B-16.pt")
    assert root == str(tmp_path / "cache")


def test_a_clip_that_builds_prompts_in_is_asked_for_none(tiny_clip, tmp_path, monkeypatch):
    """The `clip` package of MaPLe and PromptSRC."""
    asked = []

    def build_model(state, design_details):
        asked.append(design_details)
        return clip.model.build_model(state)

    monkeypatch.setattr("prompting.backbone.build_model", build_model)
    torch.save(tiny_clip.state_dict(), tmp_path / "weights.pth")
    load_backbone(str(tmp_path / "weights.pth"))
    assert asked == [{"trainer": "CoOp", "vision_depth": 0, "language_depth": 0}]


def test_loading_leaves_the_random_state_alone(tiny_clip, tmp_path):
    """Few-shot draws come after it, from Python's generator; data order from torch's."""
    torch.save(tiny_clip.state_dict(), tmp_path / "weights.pth")
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    load_backbone(str(tmp_path / "weights.pth"))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_one_process_downloads_and_others_wait(tmp_path, monkeypatch):
    at_work, most = [], []

    def download(url, root):
        at_work.append(url)
        time.sleep(0.1)
        most.append(len(at_work))
        at_work.pop()
        return url

    monkeypatch.setattr("prompting.backbone.CACHE", tmp_path)
    monkeypatch.setattr(clip.clip, "_download", download)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(prompting.backbone._download, ["ViT-B/16"] * 3))
    assert most == [1, 1, 1]


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), RuntimeError("checksum")])
def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch, error):
    """Without a network, or cut short."""

    def download(url, root):
        raise error

    monkeypatch.setattr("prompting.backbone.CACHE", tmp_path)
    monkeypatch.setattr(clip.clip, "_download", download)
    with pytest.raises(ValueError, match="could not be downloaded .*pass the file's path") as found:
        load_backbone("ViT-B/16")
    url = OPENAI_URLS["ViT-B/16"]
    assert f"fetch {url} elsewhere and copy it to {tmp_path}/ViT-B-16.pt" in str(found.value)
    assert found.value.__suppress_context__


def test_the_demo_weights_are_the_ones_of_the_model_card():
    card = DEMO_FILE.with_name("DEMO_CLIP.md").read_text()
    assert load_backbone("demo").sha256 in card


def test_demo_is_as_deep_as_vit_b_16():
    model = load_backbone("demo").model
    assert model.transformer.layers == model.visual.transformer.layers == 12
    assert model.context_length == 77 and model.vocab_size == 49408
    assert DEMO_FILE.stat().st_size < 12e6


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_matrices_are_cast_and_the_rest_stays(tiny_clip, tmp_path, precision):
    torch.save(tiny_clip.state_dict(), tmp_path / "weights.pth")
    model = load_backbone(str(tmp_path / "weights.pth"), precision).model
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    block = model.visual.transformer.resblocks[0]
    assert model.dtype == block.attn.in_proj_weight.dtype == model.text_projection.dtype == dtype
    assert block.ln_1.weight.dtype == model.token_embedding.weight.dtype == torch.float32


def test_unknown_name():
    with pytest.raises(ValueError, match="is neither a file nor a known name: .*ViT-B/16"):
        load_backbone("ViT-B-16")


def test_unknown_precision():
    with pytest.raises(ValueError, match='"fp8" is unknown: choose auto, fp32, tf32'):
        load_backbone("demo", "fp8")


def test_resnet_is_refused_for_prompts(tmp_path):
    torch.manual_seed(0)
    resnet = CLIP(64, 32, (1, 1, 1, 1), 64, None, 77, 49408, 64, 1, 1)
    torch.save(resnet.state_dict(), tmp_path / "RN.pth")
    backbone = load_backbone(str(tmp_path / "RN.pth"))
    with pytest.raises(ValueError, match="is a ResNet; prompts need a plain transformer"):
        require_transformer(backbone)


def test_a_pickle_with_a_payload_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Payload()}))
    torch.save({"state_dict": Payload()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(ValueError, match="is no CLIP file that can be read safely"):
            load_backbone(str(tmp_path / name))
    assert not (tmp_path / "canary").exists()


def test_a_damaged_file(tiny_clip, tmp_path):
    save_file(tiny_clip.state_dict(), tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is no CLIP file that can be read safely"):
        load_backbone(str(tmp_path / "cut.safetensors"))
    state = dict(tiny_clip.state_dict())
    del state["visual.ln_post.weight"]
    torch.save(state, tmp_path / "lacking.pth")
    with pytest.raises(ValueError, match="do not fit .*visual.ln_post.weight"):
        load_backbone(str(tmp_path / "lacking.pth"))


def test_a_file_without_a_clip(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="holds no CLIP of OpenAI's architecture"):
        load_backbone(str(tmp_path / "other.pth"))
