"""Compare the rate of every epoch with upstream's chain of schedulers, written out step by step.

Upstream wraps a torch scheduler, which changes the current rate by a factor per step, in a
warm-up that keeps it fixed; the reference below does the same with plain floats.
"""

import math
from itertools import product

import pytest
import torch
from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer

CASES = list(
    product(
        ("single_step", "multi_step", "cosine"),
        (-1, 1, 2, 5),
        ("constant", "linear"),
        (True, False),
    )
)


def settings(name="cosine", warmup=-1, kind="constant", recount=True):
    optim = get_cfg_default().OPTIM
    optim.LR = 0.0035
    optim.MAX_EPOCH = 12
    optim.LR_SCHEDULER = name
    optim.STEPSIZE = (3, 7, 7) if name == "multi_step" else (4,)
    optim.WARMUP_EPOCH = warmup
    optim.WARMUP_TYPE = kind
    optim.WARMUP_RECOUNT = recount
    return optim


def reference(optim, base):
    inner = rate = base
    inner_epoch = 0 if optim.WARMUP_RECOUNT or optim.WARMUP_EPOCH < 1 else optim.WARMUP_EPOCH
    warmup = max(optim.WARMUP_EPOCH, 0)
    rates = []
    for epoch in range(optim.MAX_EPOCH):
        if epoch < warmup:
            if optim.WARMUP_TYPE == "constant":
                rate = optim.WARMUP_CONS_LR
            else:
                rate = optim.WARMUP_MIN_LR if epoch == 0 else base * epoch / warmup
        elif epoch == warmup:
            rate = inner
        else:
            inner_epoch += 1
            if optim.LR_SCHEDULER == "cosine":
                now = 1 + math.cos(math.pi * inner_epoch / optim.MAX_EPOCH)
                rate *= now / (1 + math.cos(math.pi * (inner_epoch - 1) / optim.MAX_EPOCH))
            elif optim.LR_SCHEDULER == "multi_step":
                rate *= optim.GAMMA ** list(optim.STEPSIZE).count(inner_epoch)
            elif inner_epoch % optim.STEPSIZE[-1] == 0:
                rate *= optim.GAMMA
        rates.append(rate)
    return rates


def two_groups(optim):
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    return build_optimizer(None, optim, [{"params": [first]}, {"params": [second], "lr": 0.001}])


def run(optimizer, scheduler, epochs):
    rates = []
    for _ in range(epochs):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_epoch_equals_upstream(case):
    optim = settings(*case)
    optimizer = two_groups(optim)
    rates = run(optimizer, build_lr_scheduler(optimizer, optim), optim.MAX_EPOCH)
    for group, base in enumerate((optim.LR, 0.001)):
        assert [r[group] for r in rates] == pytest.approx(reference(optim, base), rel=1e-12)


def test_family_schedule_by_hand():
    optim = settings("cosine", 1)
    rates = run(optimizer := two_groups(optim), build_lr_scheduler(optimizer, optim), 4)
    expected = [1e-5, *(0.0035 * (1 + math.cos(math.pi * k / 12)) / 2 for k in range(3))]
    assert [r[0] for r in rates] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["constant", "linear"])
@pytest.mark.parametrize("stop", range(1, 6))
def test_state_resumes_exactly(kind, stop, tmp_path):
    optim = settings("cosine", 3, kind)
    optimizer = two_groups(optim)
    whole = run(optimizer, build_lr_scheduler(optimizer, optim), optim.MAX_EPOCH)

    first = two_groups(optim)
    scheduler = build_lr_scheduler(first, optim)
    run(first, scheduler, stop)
    torch.save([first.state_dict(), scheduler.state_dict()], tmp_path / "state")
    saved = torch.load(tmp_path / "state", weights_only=True)

    second = two_groups(optim)
    scheduler = build_lr_scheduler(second, optim)
    second.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    assert run(second, scheduler, optim.MAX_EPOCH - stop) == whole[stop:]


def test_a_group_whose_rate_is_0_keeps_it():
    optim = settings("cosine", 1)
    optimizer = build_optimizer(None, optim, [{"params": [torch.zeros(1)], "lr": 0.0}])
    assert run(optimizer, build_lr_scheduler(optimizer, optim), 3) == [[0.0]] * 3


def test_unknown_names_are_explained():
    optim = settings("cosin")
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        build_lr_scheduler(two_groups(optim), optim)
    optim = settings("cosine", 1, "lineer")
    with pytest.raises(ValueError, match="Did you mean 'linear'"):
        build_lr_scheduler(two_groups(optim), optim)
