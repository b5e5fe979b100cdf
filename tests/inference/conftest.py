from pathlib import Path

import pytest
import torch

from experiment import cli
from prompting import (
    LowRankPrompts,
    PromptedCLIP,
    load_backbone,
    save_prompts,
    share_backbones,
    tower_widths,
)

NAMES = ("face", "leopard", "motorbike", "accordion")  # of the miniature data set


@pytest.fixture(scope="module", autouse=True)
def _load_the_backbone_once():
    with share_backbones():
        yield


@pytest.fixture
def checkpoint(tmp_path, tiny_file, tiny_root):
    """A trainer on the miniature data, with a checkpoint of values that are not the initial."""

    def call(method: str, *pairs: str):
        args = cli.parse_args(
            ["--root", str(tiny_root), "--trainer", method, "--seed", "1", "--backbone", tiny_file]
            + ["--output-dir", str(tmp_path / "run"), "--no-train"]
            + ["DATASET.NAME", "Caltech101", "DATALOADER.NUM_WORKERS", "0"]
            + ["DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base", *pairs]
        )
        trainer = cli.build(args, cli.setup_cfg(args))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in trainer.model.prompt_learner.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        if trainer.requires_training:
            trainer.save_model(2, str(tmp_path / "run"))
        return trainer

    return call


@pytest.fixture
def photos(tiny_root) -> list[Path]:
    """The miniature data set's test images, in the order of its split file."""
    folder = tiny_root / "caltech-101" / "101_ObjectCategories"
    return [folder / name / f"test_{index}.jpg" for name in NAMES for index in range(3)]


@pytest.fixture(scope="session")
def prompts(tiny_file, tmp_path_factory) -> Path:
    """A folder of prompts for the classes of the miniature data set."""
    torch.manual_seed(0)
    backbone = load_backbone(tiny_file)
    learner = LowRankPrompts((2, 2), (4, 4), tower_widths(backbone), 1, std=1.0)
    model = PromptedCLIP(backbone, learner, NAMES, "a photo of a {}.")
    return save_prompts(model, tmp_path_factory.mktemp("saved") / "prompts")
