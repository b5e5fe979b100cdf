"""The forward pass of every method as on a GPU: it waits for nothing and mixes no devices.

Without CUDA there is no backward pass there; none of the methods has one of its own.
"""

import pytest
import torch
from dassl.engine import TRAINER_REGISTRY

from experiment import cli
from tests.fake_cuda import CUDA, Launches, to_fake_gpu
from tests.trainers.test_comparison import TRAINERS

METHODS = {"MMLoP": (), "ZeroshotCLIP": (), **TRAINERS}


@pytest.fixture
def build(tmp_path, tiny_file, tiny_root):
    def call(trainer, precision):
        node = TRAINER_REGISTRY.get(trainer).node
        args = cli.parse_args(
            ["--root", str(tiny_root), "--trainer", trainer, "--seed", "1", "--backbone", tiny_file]
            + ["--output-dir", str(tmp_path / "built"), "--no-train", "DATASET.NAME", "Caltech101"]
            + ["DATALOADER.NUM_WORKERS", "0", "DATASET.NUM_SHOTS", "2", *METHODS[trainer]]
            + [f"TRAINER.{node}.PREC", precision]
        )
        return cli.build(args, cli.setup_cfg(args))

    return call


@pytest.mark.parametrize("precision", ["fp32", "amp", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_a_forward_pass_waits_for_nothing(build, monkeypatch, method, precision):
    trainer = build(method, precision)
    mode, launches = to_fake_gpu(trainer, monkeypatch), Launches()
    with mode, launches:
        images, labels = torch.empty(4, 3, 32, 32, device=CUDA), torch.empty(4, device=CUDA).long()
        if trainer.requires_training:
            terms, logits = trainer.loss_terms(images, labels)
            assert trainer.values(terms, logits, labels).device == logits.device == CUDA
        else:
            assert trainer.model(images).is_cuda
    print(method, precision, sum(launches.counts.values()), launches.counts.most_common(40))
    assert launches.counts and not launches.copies
