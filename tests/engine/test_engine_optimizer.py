"""Test optimisers: settings from the config, frozen parameters."""

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


def test_groups_have_their_own_rates():
    model, optim = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 1)]), settings()
    groups = [{"params": model[0].parameters(), "lr": 0.001}, {"params": model[1].parameters()}]
    assert [g["lr"] for g in build_optimizer(model, optim, groups).param_groups] == [0.001, 0.01]
    optim.STAGED_LR = True
    for given in (None, groups):
        with pytest.raises(ValueError, match="STAGED_LR is not supported: set it False, and pass"):
            build_optimizer(model, optim, given)


def test_unknown_name():
    with pytest.raises(ValueError, match="Unknown optimizer 'adammw'.*Did you mean 'adamw'"):
        build_optimizer(nn.Linear(1, 1), settings("adammw"))
