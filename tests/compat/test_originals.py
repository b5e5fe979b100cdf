"""Parameters of the originals under our names, in our order."""

import importlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prompting import initial_prompts
from trainers.maple import CoupledPrompts
from trainers.mma import Adapters


@pytest.fixture
def methods(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("methods")


@pytest.fixture
def originals(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("originals")


def test_our_side_answers(originals, methods, tmp_path):
    """Asked as an original is, from a folder that does not hold this repository."""
    (method,) = methods.METHODS["lora"]
    home = originals.Place(originals.OURS, originals.ENGINE)
    answer, _ = originals.Comparison(tmp_path).ask(method, home, originals.OURS, "")
    assert answer["scores"].shape == (4, 4) and answer["log"]["loss"] > 0
    assert answer["gradients"].keys() == answer["parameters"].keys()


def shapes(parameters: dict[str, Tensor]) -> dict[str, tuple]:
    return {name: tuple(value.shape) for name, value in parameters.items()}


def test_prompts_in_the_blocks_are_stacked_layer_by_layer(methods):
    """Block 10 comes after block 2, and the two towers do not mix."""
    theirs = {"prompt_learner.ctx": torch.full((2, 8), 0.0)}
    for layer in (1, 10, 2):
        name = f"text_encoder.transformer.resblocks.{layer}.VPT_shallow"
        theirs[name] = torch.full((2, 8), float(layer))
    theirs["image_encoder.VPT"] = torch.full((3, 16), -1.0)
    found = methods.towers(theirs)
    assert shapes(found) == {"text": (4, 2, 8), "vision": (1, 3, 16)}
    assert found["text"][:, 0, 0].tolist() == [0, 1, 2, 10]


def test_maple_s_names_are_ours(methods, tiny_backbone):
    generator = torch.Generator().manual_seed(0)
    start, _ = initial_prompts(tiny_backbone, "", (2, 2), (methods.DEPTH,) * 2, generator)
    ours = CoupledPrompts(start, 192, generator)
    theirs = {"ctx": torch.zeros(2, 128)}
    names = ["proj"]
    for index in range(methods.DEPTH - 1):
        theirs[f"compound_prompts_text.{index}"] = torch.full((2, 128), index + 1.0)
        names.append(f"compound_prompt_projections.{index}")
    for number, name in enumerate(names):
        theirs[f"{name}.weight"] = torch.full((192, 128), float(number))
        theirs[f"{name}.bias"] = torch.zeros(192)
    found = methods.coupled({f"prompt_learner.{n}": v for n, v in theirs.items()})
    assert shapes(found) == shapes(dict(ours.named_parameters()))
    for layer in range(methods.DEPTH):
        assert found["text"][layer].unique() == layer
        assert found[f"projections.{layer}.weight"].unique() == layer


def test_mma_s_names_are_ours(methods):
    layers = range(methods.FIRST, methods.LAST + 1)
    ours = Adapters((128, 192), layers, 32, 0.1, torch.Generator().manual_seed(0))
    theirs = {}
    for layer in layers:
        for kind, (out, inside) in {"weight": ((32,), (32,)), "bias": ((32,), ())}.items():
            for tower, width in (("text", 128), ("visual", 192)):
                name = f"adapter_learner.{tower}_adapter.{layer}"
                down = (*out, width) if kind == "weight" else out
                theirs[f"{name}.down.0.{kind}"] = torch.full(down, float(layer))
                theirs[f"{name}.up.{kind}"] = torch.full((width, *inside), float(layer))
            shared = f"adapter_learner.shared_adapter.{layer}.0.{kind}"
            theirs[shared] = torch.full((*out, *inside), float(layer))
    found = methods.adapters(theirs)
    assert shapes(found) == shapes(dict(ours.named_parameters()))
    assert found["vision_up.0.bias"].unique() == methods.FIRST


def test_a_sentence_that_differs_is_named(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    wording = importlib.import_module("wording")
    (tmp_path / "trainers").mkdir()
    file = tmp_path / "trainers" / "kgcoop.py"
    [source] = wording.TEMPLATES["kgcoop"]
    file.write_text('CUSTOM_TEMPLATES = {"Food101": "a photo of {}, a type of food."}\n')
    assert wording.check_templates(source, tmp_path) == "all 1 are ours"
    file.write_text('CUSTOM_TEMPLATES = {"Food101": "a dish of {}."}\n')
    with pytest.raises(wording.Failed, match='"Food101": a dish of {}., ours a photo of {}'):
        wording.check_templates(source, tmp_path)
