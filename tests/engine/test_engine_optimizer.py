"""Test optimisers: settings from the config, staged rates, frozen parameters."""

import pytest
import torch
from dassl.config import get_cfg_default
from dassl.optim import build_optimizer
from torch import nn


def settings(name="sgd"):
    optim = get_cfg_default().OPTIM
    optim.NAME = name
    optim.LR = 0.01
    return optim


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("amsgrad", torch.optim.Adam),
        ("rmsprop", torch.optim.RMSprop),
        ("radam", torch.optim.RAdam),
        ("adamw", torch.optim.AdamW),
    ],
)
def test_every_name_steps(name, kind):
    layer = nn.Linear(2, 1)
    optimizer = build_optimizer(layer.parameters(), settings(name))
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert type(optimizer) is kind
    assert optimizer.defaults["lr"] == 0.01
    assert optimizer.defaults["weight_decay"] == 5e-4
    assert optimizer.defaults.get("amsgrad", False) == (name == "amsgrad")
    assert not torch.equal(before, layer.weight)


def test_frozen_parameters_do_not_move_and_get_no_state():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = build_optimizer(model, settings())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(before, model[0].weight)
    assert set(optimizer.state) == set(model[1].parameters())


def test_staged_rates():
    model = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
    optim = settings()
    optim.STAGED_LR = True
    optim.NEW_LAYERS = ("head",)
    base, new = build_optimizer(model, optim).param_groups
    assert (base["lr"], new["lr"]) == (pytest.approx(0.001), 0.01)
    assert new["params"] == list(model["head"].parameters())
    optim.NEW_LAYERS = ("heads",)
    with pytest.raises(ValueError, match="Did you mean 'head'"):
        build_optimizer(model, optim)
    with pytest.raises(TypeError, match="module"):
        build_optimizer(model.parameters(), optim)


def test_unknown_name():
    with pytest.raises(ValueError, match="Unknown optimizer 'adammw'.*Did you mean 'adamw'"):
        build_optimizer(nn.Linear(1, 1), settings("adammw"))
