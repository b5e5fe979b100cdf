"""The arithmetic that a step needs, against what PyTorch counts in a real one."""

import pytest
import torch
from clip.model import CLIP
from dassl.engine import build_trainer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmark.speed.__main__ import class_names, write_dataset
from benchmark.speed.bound import lower_bound
from experiment import cli

CLASSES, BATCH = 12, 4
SLACK = 1.05  # how much more ours may do than has to be done


@pytest.fixture
def trainer(tmp_path):
    """MMLoP on a CLIP of little width, whose images have many more patches than prompt tokens."""
    model = CLIP(
        embed_dim=32, image_resolution=48, vision_layers=9, vision_width=64, vision_patch_size=4,
        context_length=77, vocab_size=49408, transformer_width=64, transformer_heads=1,
        transformer_layers=9,
    )  # fmt: skip
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    write_dataset(tmp_path, CLASSES)
    flags = {
        "root": tmp_path,
        "trainer": "MMLoP",
        "backbone": tmp_path / "weights.pth",
        "dataset-config-file": "configs/datasets/caltech101.yaml",
        "output-dir": tmp_path / "output",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += ["DATALOADER.NUM_WORKERS", "0", "INPUT.SIZE", "(48, 48)"]
    return build_trainer(cli.setup_cfg(cli.parse_args(words)))


def test_a_step_needs_hardly_less_than_ours_does(trainer):
    images = torch.randn(BATCH, 3, 48, 48)
    # The products one by one: fused attention does some of them twice.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        trainer.compute(images, torch.arange(BATCH))
    names, tokens = trainer.dm.dataset.classnames, trainer.options.N_CTX
    needed = lower_bound(trainer.backbone.model, names, BATCH, tokens)
    assert needed <= counter.get_total_flops() <= SLACK * needed


def test_more_classes_cost_their_own_tokens_alone(tiny_clip):
    few, more, most = (lower_bound(tiny_clip, class_names(n), 4, 4) for n in (10, 20, 30))
    assert most - more == more - few
    # Two tokens of a name, the full stop and [EOT], forward and backward through the tower.
    d, layers = tiny_clip.transformer.width, tiny_clip.transformer.layers
    assert more - few == pytest.approx(10 * 4 * 2 * 24 * d * d * (layers - 1), rel=0.2)


def test_longer_names_cost_more_and_images_alike(tiny_clip):
    names = ["ant", "fox"]
    short, long, images = (
        lower_bound(tiny_clip, *arguments, 4)
        for arguments in ((names, 4), (["tall old ant", "tall red fox"], 4), (names, 8))
    )
    assert short < long
    assert images > 1.9 * short
