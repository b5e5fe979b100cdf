"""The forward pass of every method as on a GPU: it waits for nothing and mixes no devices.

Without CUDA there is no backward pass there; none of the methods has one of its own.
"""

import pytest
import torch
from dassl.engine import TRAINER_REGISTRY

from experiment import cli
from tests.fake_cuda import CUDA, Launches, to_fake_gpu
from tests.trainers.test_comparison import ALL

METHODS = {"MMLoP": (), "ZeroshotCLIP": (), **ALL}


@pytest.fixture
def build(tmp_path, tmp_path_factory, tiny_file, tiny_root, monkeypatch):
    monkeypatch.setenv("MMLOP_CACHE", str(tmp_path_factory.getbasetemp() / "fake"))

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


@pytest.mark.parametrize(
    ("method", "precision"),
    [*((method, "amp") for method in METHODS), ("CoOp", "fp32"), ("CoOp", "bf16")],
)
def test_a_forward_pass_waits_for_nothing(build, monkeypatch, method, precision):
    trainer = build(method, precision)
    mode, first, second = to_fake_gpu(trainer, monkeypatch), Launches(), Launches()
    for launches in (first, second):
        with mode, launches:
            images = torch.empty(4, 3, 32, 32, device=CUDA)
            labels = torch.empty(4, device=CUDA, dtype=torch.long)
            if trainer.requires_training:
                terms, logits = trainer.loss_terms(images, labels)
                assert trainer.values(terms, logits, labels).device == logits.device == CUDA
            else:
                assert trainer.model(images).device == CUDA
        assert launches.counts and not launches.copies
    # Weights, masks and slots are prepared in the first pass: of 9 blocks or more, 8 weights each.
    saved = first.counts["_to_copy.default"] - second.counts["_to_copy.default"]
    assert saved >= 8 * 9 if precision == "amp" else saved <= 3
    print(f"launches: {method} {precision} {sum(second.counts.values())}")


def test_a_test_batch_waits_once(build, monkeypatch):
    """For its logits; the labels stay on the CPU, where the evaluator counts."""
    trainer = build("CoOp", "fp32")
    mode, launches = to_fake_gpu(trainer, monkeypatch), Launches()
    with mode, launches:
        batch = {"img": torch.empty(4, 3, 32, 32), "label": torch.empty(4, dtype=torch.long)}
        images, labels = trainer.parse_batch_test(batch)
        logits = trainer.model_inference(images)
    assert images.device == CUDA and logits.device == labels.device == torch.device("cpu")
    assert len(launches.copies) == 2  # the images to the GPU, without waiting, and the logits back
