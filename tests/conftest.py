"""Tiny CLIPs with random weights, of OpenAI's architecture, that cost milliseconds."""

from pathlib import Path

import pytest
import torch
from clip.model import CLIP

from prompting import Backbone

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny matrices; threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the project; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED_DATA


def build_clip(layers: int = 4, seed: int = 0) -> CLIP:
    """Text width 64, image width 128, joint width 32, pictures of 32 x 32, all of it random."""
    torch.manual_seed(seed)
    model = CLIP(
        embed_dim=32,
        image_resolution=32,
        vision_layers=layers,
        vision_width=128,
        vision_patch_size=8,
        context_length=77,
        vocab_size=49408,
        transformer_width=64,
        transformer_heads=1,
        transformer_layers=layers,
    )
    with torch.no_grad():  # biases start at zero and layer norms at one: make them count
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_clip() -> CLIP:
    return build_clip()


@pytest.fixture
def tiny_backbone(tiny_clip) -> Backbone:
    return Backbone(tiny_clip, "tiny", "0" * 64, "fp32", torch.device("cpu"))
