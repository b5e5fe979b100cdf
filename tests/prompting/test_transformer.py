"""A block's weights as its products take them: prepared once, and again where they changed."""

import copy

import pytest
import torch

from prompting.precision import cast_matrices
from prompting.transformer import _weights, run_block
from tests.conftest import build_clip


@pytest.fixture
def block():
    return build_clip(layers=1).transformer.resblocks[0]


def test_frozen_weights_are_prepared_once(block):
    assert _weights(block, "cpu") is _weights(block, "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        cast = _weights(block, "cpu")
        assert cast is _weights(block, "cpu") and {w.dtype for w in cast} == {torch.bfloat16}
    assert {w.dtype for w in _weights(block, "cpu")} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):  # a graph may read them meanwhile
        assert cast is _weights(block, "cpu")


def test_autocast_finds_what_it_would_cast(block):
    """The same bits as where each product casts for itself: the weights of a trained block."""
    x, trained = torch.randn(2, 5, 128), copy.deepcopy(block).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run_block(block, x), run_block(trained, x))


def test_changed_weights_are_prepared_again(block):
    x = torch.randn(2, 5, 128)
    before = run_block(block, x)
    with torch.no_grad():
        block.mlp.c_fc.bias.add_(1.0)
    changed = run_block(block, x)
    assert not torch.allclose(before, changed)
    assert torch.equal(changed, run_block(copy.deepcopy(block), x))
    cast_matrices(block, torch.bfloat16)
    assert run_block(block, x.bfloat16()).dtype == torch.bfloat16


def test_trained_weights_have_gradients(block):
    block.requires_grad_()
    run_block(block, torch.randn(2, 5, 128)).sum().backward()
    for parameter in (block.attn.in_proj_weight, block.mlp.c_fc.bias, block.mlp.c_proj.weight):
        assert parameter.grad.abs().sum() > 0


def test_first_used_in_inference_mode_they_still_let_gradients_through(block):
    x = torch.randn(2, 5, 128)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        run_block(block, x)
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        run_block(block, x).float().square().sum().backward()
    assert x.grad.isfinite().all()
