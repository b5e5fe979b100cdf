import warnings

import torch
from torch import nn

from prompting.layers import linear, scale_gradient


def test_a_linear_layer_starts_like_pytorch_s_from_its_own_generator():
    state = torch.get_rng_state()
    layer = linear(400, 300, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    again = linear(400, 300, torch.Generator().manual_seed(1))
    assert torch.equal(layer.weight, again.weight) and torch.equal(layer.bias, again.bias)
    usual = nn.Linear(400, 300)
    for found, expected in ((layer.weight, usual.weight), (layer.bias, usual.bias)):
        torch.testing.assert_close(found.std(), expected.std(), rtol=0.1, atol=0)
        assert found.abs().max() <= 400**-0.5


def test_a_scaled_gradient_leaves_the_value():
    x = torch.randn(5).requires_grad_()
    y = scale_gradient(x, 0.25)
    assert torch.equal(x, y)
    (y**3).sum().backward()
    torch.testing.assert_close(x.grad, 0.25 * 3 * x.detach() ** 2)


def test_a_scaled_gradient_of_a_stack():
    """As seeds that are stepped together need it, without a loop over them."""
    stack = torch.randn(3, 5).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = torch.func.vmap(lambda x: (scale_gradient(x, 0.25) ** 3).sum())(stack)
    torch.testing.assert_close(found, (stack**3).sum(dim=1))
    (gradient,) = torch.autograd.grad(found.sum(), stack)
    torch.testing.assert_close(gradient, 0.25 * 3 * stack.detach() ** 2)
