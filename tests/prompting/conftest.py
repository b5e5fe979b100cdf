from functools import cache

import pytest
import torch

from prompting import load_backbone
from tests import open_clip_worlds


@pytest.fixture(scope="session")
def assert_exact():
    """Equal up to the rounding of fp32: within 1e-5 of the expected tensor's norm."""

    def check(found: torch.Tensor, expected: torch.Tensor) -> None:
        assert found.shape == expected.shape
        assert (found - expected).norm() <= 1e-5 * expected.norm()

    return check


@pytest.fixture(scope="session")
def open_clip_backbone(tmp_path_factory):
    """A function from a kind of `tests/open_clip_worlds.py` to its backbone."""
    open_clip_worlds.require_open_clip()
    folder = tmp_path_factory.mktemp("open_clip")

    @cache
    def load(kind: str):
        path = open_clip_worlds.write_weights(folder, kind)
        return load_backbone(f"open_clip:tiny-{kind}/{path}")

    return load
