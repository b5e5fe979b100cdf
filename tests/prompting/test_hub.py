"""Prompts that are saved and loaded classify as before; what does not fit is one sentence."""

import hashlib
import json
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

import prompting.hub
from prompting import Backbone, PromptedCLIP, load_prompts, push_to_hub, save_prompts
from prompting.adapter_config import describe_backbone
from prompting.hub import CARD, CONFIG, WEIGHTS
from tests.conftest import build_clip
from tests.prompting.learners import MODELS, NAMES, TEMPLATES, low_rank, moved

OTHER = ["owl", "white horse"]
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def saved(tiny_backbone, tmp_path):
    """A folder of low-rank prompts."""
    return save_prompts(moved(low_rank(tiny_backbone)), tmp_path / "prompts")


@torch.no_grad()
def logits(model, images=IMAGES):
    with model.fixed_text():
        return model(images)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_saved_classifies_as_before(tiny_backbone, tmp_path, name):
    model = moved(MODELS[name](tiny_backbone))
    folder = save_prompts(model, tmp_path / "prompts")
    state = torch.random.get_rng_state()
    found, preprocess = load_prompts(folder, backbone=tiny_backbone)
    assert torch.equal(torch.random.get_rng_state(), state)  # loading draws nothing
    assert torch.equal(found(IMAGES), logits(model))
    assert type(found) is type(model) and found.classnames == tuple(NAMES)
    assert not found.training and not any(p.requires_grad for p in found.parameters())
    assert preprocess(Image.new("RGB", (50, 40))).shape == (3, 32, 32)
    assert sorted(p.name for p in folder.iterdir()) == sorted([CARD, CONFIG, WEIGHTS])


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"context per class"}))
def test_prompts_classify_into_other_classes(tiny_backbone, tmp_path, name, monkeypatch):
    """As a model that has them from the beginning, with the same prompts."""
    model = moved(MODELS[name](tiny_backbone))
    folder = save_prompts(model, tmp_path / "prompts")
    found, _ = load_prompts(folder, OTHER, tiny_backbone)
    monkeypatch.setattr("tests.prompting.learners.NAMES", OTHER)
    expected = MODELS[name](tiny_backbone)
    expected.prompt_learner.load_state_dict(model.prompt_learner.state_dict())
    assert found(IMAGES).shape == (3, 2)
    torch.testing.assert_close(found(IMAGES), logits(expected), rtol=0, atol=1e-5)


def test_a_context_per_class_is_of_its_own_classes(tiny_backbone, tmp_path):
    folder = save_prompts(MODELS["context per class"](tiny_backbone), tmp_path / "prompts")
    load_prompts(folder, NAMES, tiny_backbone)
    for other in (OTHER, ["owl", *NAMES[1:]]):
        with pytest.raises(ValueError, match=r"context for each of the 3 classes .* give none\.$"):
            load_prompts(folder, other, tiny_backbone)


def test_the_file_holds_the_prompts_alone(saved):
    assert (saved / WEIGHTS).stat().st_size < 4 * (3 * 4 * 2 + 3 * 2 * 128 + 2 * 2 * 192) + 400
    config = json.loads((saved / CONFIG).read_text())
    assert config["classnames"] == NAMES and config["templates"] == list(TEMPLATES)
    assert config["backbone"] == {"name": "tiny", "sha256": "0" * 64}


def test_templates_of_the_training_alone_are_not_kept(tiny_backbone, tmp_path):
    """PromptSRC's frozen features have no part in classifying, and cost time."""
    model = PromptedCLIP(
        tiny_backbone, low_rank(tiny_backbone).prompt_learner, NAMES, "a photo of a {}.", TEMPLATES
    )
    folder = save_prompts(model, tmp_path / "prompts")
    assert json.loads((folder / CONFIG).read_text())["templates"] == []
    assert torch.equal(load_prompts(folder, None, tiny_backbone)[0](IMAGES), logits(model))


def test_the_backbone_is_loaded_by_its_name_and_its_path_is_not_told(tiny_file, tmp_path):
    backbone = prompting.load_backbone(tiny_file, "bf16")
    model = low_rank(backbone)
    folder = save_prompts(model, tmp_path / "prompts")
    assert json.loads((folder / CONFIG).read_text())["backbone"]["name"] == "tiny.pth"
    with pytest.raises(ValueError, match='"tiny.pth" is neither a file nor a known name'):
        load_prompts(folder)
    found, _ = load_prompts(folder, backbone=tiny_file, precision="bf16")
    assert found.precision == "bf16"
    assert torch.equal(found(IMAGES), logits(model))


def test_precision_is_the_training_s_on_a_gpu_and_fp32_on_a_cpu(tiny_file, tmp_path, monkeypatch):
    """What `auto` was on the GPU of the training is nothing that a CPU is to imitate."""
    folder = save_prompts(low_rank(prompting.load_backbone(tiny_file, "amp")), tmp_path / "prompts")
    assert load_prompts(folder, backbone=tiny_file)[0].precision == "fp32"
    load, asked = prompting.hub.load_backbone, []

    def on_a_gpu(name, precision, device, **given):
        asked.append((precision, device))
        return load(name, precision, "cpu", **given)

    monkeypatch.setattr(prompting.hub, "load_backbone", on_a_gpu)
    load_prompts(folder, backbone=tiny_file, device="cuda")
    assert asked == [("amp", "cuda")]


@pytest.mark.parametrize("given", [{"activation": "gelu"}, {"head_widths": (32, 96)}])
def test_what_a_file_cannot_say_is_in_the_folder(tiny_file, tmp_path, given):
    backbone = prompting.load_backbone(tiny_file, **given)
    model = low_rank(backbone)
    folder = save_prompts(model, tmp_path / "prompts")
    found, _ = load_prompts(folder, backbone=tiny_file)
    assert torch.equal(found(IMAGES), logits(model))


def test_the_path_of_a_file_for_open_clip_is_not_told_either(tiny_backbone, tmp_path):
    file = tmp_path / "mine.safetensors"
    for name, described in ((f"open_clip:ViT-B-16/{file}", "open_clip:ViT-B-16/mine.safetensors"),
                       ("open_clip:ViT-B-16/laion2b", "open_clip:ViT-B-16/laion2b"),
                       ("ViT-B/16", "ViT-B/16")):  # fmt: skip
        file.touch()
        assert describe_backbone(replace(tiny_backbone, name=name))["name"] == described


def test_one_file_of_the_folder_names_it_too(saved, tiny_backbone):
    expected = load_prompts(saved, backbone=tiny_backbone)[0](IMAGES)
    for name in (CONFIG, WEIGHTS):
        found = load_prompts(str(saved / name), backbone=tiny_backbone)[0](IMAGES)
        assert torch.equal(found, expected)


def damage(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


def flip(content):
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


def edit(**values):
    return lambda content: json.dumps({**json.loads(content), **values}).encode()


def with_head_widths(content):
    backbone = json.loads(content)["backbone"]
    return edit(backbone={**backbone, "head_widths": 64})(content)


DAMAGE = {
    "cut short": (WEIGHTS, lambda c: c[:200], "is not the file that was saved with its adapter_"),
    "empty": (WEIGHTS, lambda c: b"", "is not the file that was saved with its adapter_config"),
    "a bit flipped": (WEIGHTS, flip, "is not the file that was saved with its adapter_config"),
    "configuration cut short": (CONFIG, lambda c: c[:99], "is damaged, or not written by this"),
    "configuration no text": (CONFIG, lambda c: b"\xff\xfe", "is damaged, or not written by this"),
    "another library's": (CONFIG, lambda c: b'{"peft_type": "LORA"}', "or not written by this"),
    "a list": (CONFIG, lambda c: b"[]", "is damaged, or not written by this library's"),
    "a later format": (CONFIG, edit(format=2), "is of format 2, and this version reads 1"),
    "unknown kind": (CONFIG, edit(prompt_learner="X"), "that do not fit its adapter_config.json"),
    "another kind": (CONFIG, edit(prompt_learner="Context"), "that do not fit its adapter_config"),
    "no names": (CONFIG, edit(classnames=7), "that do not fit its adapter_config.json"),
    "head widths": (CONFIG, with_head_widths, "is damaged, or not written by this library's"),
    "no template": (CONFIG, edit(template="a photo"), 'exactly one "{}" for the class name'),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_and_foreign_files_are_refused(saved, tiny_backbone, tiny_file, case):
    name, change, message = DAMAGE[case]
    damage(saved, name, change)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_prompts(saved, backbone=tiny_file if case == "head widths" else tiny_backbone)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_other_content_with_its_right_hash(saved, tiny_backbone):
    damage(saved, WEIGHTS, lambda c: b"no tensors")
    digest = hashlib.sha256(b"no tensors").hexdigest()
    damage(saved, CONFIG, edit(sha256=digest))
    with pytest.raises(ValueError, match="holds tensors that do not fit its adapter_config.json"):
        load_prompts(saved, backbone=tiny_backbone)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_is_missing(saved, tiny_backbone, name):
    (saved / name).unlink()
    given = saved / WEIGHTS if name == CONFIG else saved
    with pytest.raises(FileNotFoundError, match=f"{saved} has no {name}: copy it there, too."):
        load_prompts(given, backbone=tiny_backbone)


def test_memory_that_is_used_up_is_not_the_folder_s_fault(saved, tiny_backbone, monkeypatch):
    def used_up(*_):
        raise torch.cuda.OutOfMemoryError("no more")

    monkeypatch.setattr(prompting.hub, "build", used_up)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="no more"):
        load_prompts(saved, backbone=tiny_backbone)


def test_another_backbone_is_refused(saved, tiny_file):
    with pytest.raises(ValueError, match='for backbone "tiny", and these weights are another'):
        load_prompts(saved, backbone=tiny_file)
    other = Backbone(build_clip(seed=1), "tiny", "1" * 64, "fp32", torch.device("cpu"))
    with pytest.raises(ValueError, match="give the one they were trained on"):
        load_prompts(saved, backbone=other)


def test_prompts_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="There are no prompts at .*/nothing: give a"):
        load_prompts(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="is no folder of prompts, it has no"):
        load_prompts(tmp_path)


def test_nothing_is_replaced(saved, tiny_backbone):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    with pytest.raises(FileExistsError, match="holds adapter_model.safetensors, README.md, "):
        save_prompts(low_rank(tiny_backbone), saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_an_interrupted_write_is_found(tiny_backbone, tmp_path, monkeypatch):
    """The configuration comes last: a folder without it is none."""
    write, done = prompting.hub.write_atomically, []

    def stop(path, content):
        if len(done) == 2:
            raise OSError("disk full")
        done.append(path)
        write(path, content)

    monkeypatch.setattr(prompting.hub, "write_atomically", stop)
    with pytest.raises(OSError, match="disk full"):
        save_prompts(low_rank(tiny_backbone), tmp_path / "prompts")
    with pytest.raises(FileNotFoundError, match="is no folder of prompts"):
        load_prompts(tmp_path / "prompts")


def test_a_learner_of_one_s_own_cannot_be_saved(tiny_backbone, tmp_path):
    class Mine(nn.Module):
        def forward(self):
            return (), ()

    model = PromptedCLIP(tiny_backbone, Mine(), NAMES, "a photo of a {}.")
    with pytest.raises(ValueError, match="Prompts of a Mine cannot be saved: the library has NoP"):
        save_prompts(model, tmp_path / "prompts")
    assert not (tmp_path / "prompts").exists()


def test_without_the_hub_s_client_the_hub_is_one_sentence(saved, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"no folder user/name, .*: it takes pip install hugging"):
        load_prompts("user/name")
    with pytest.raises(ValueError, match=r"was not put on the Hub as user/name: it takes pip inst"):
        push_to_hub(saved, "user/name")
