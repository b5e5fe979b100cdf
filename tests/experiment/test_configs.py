"""Every YAML under configs/ is built: merged, and for data that is at hand, into a run."""

from pathlib import Path

import pytest
import torch

from experiment import cli
from experiment.config import CONFIGS

METHODS = sorted((CONFIGS / "trainers").glob("*/*.yaml"))
DATASETS = sorted((CONFIGS / "datasets").glob("*.yaml"))


def ident(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


@pytest.fixture(scope="module")
def deep_file(tmp_path_factory):
    """A tiny CLIP of 12 layers, so that every configured depth fits."""
    from clip.model import CLIP

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("backbone") / "deep.pth"
    torch.save(CLIP(16, 32, 12, 64, 16, 77, 49408, 64, 1, 12).state_dict(), path)
    return str(path)


@pytest.mark.parametrize("path", METHODS, ids=ident)
def test_method_configs_build_and_step(path, deep_file, tiny_root, tmp_path):
    args = cli.parse_args(
        ["--trainer", path.parent.name, "--config-file", str(path), "--root", str(tiny_root)]
        + ["--backbone", deep_file, "--output-dir", str(tmp_path / "run"), "--seed", "1"]
        + ["DATASET.NAME", "Caltech101", "DATALOADER.NUM_WORKERS", "0"]
    )
    trainer = cli.build(args, cli.setup_cfg(args))
    if trainer.trainable_parameters:
        trainer.num_batches = len(trainer.train_loader_x)
        trainer.batch_idx = 0
        summary = trainer.forward_backward(next(iter(trainer.train_loader_x)))
        assert summary["loss"] > 0


@pytest.mark.parametrize("path", DATASETS, ids=ident)
def test_dataset_configs_name_a_registered_data_set(path):
    from dassl.data.datasets import DATASET_REGISTRY

    args = cli.parse_args(
        ["--trainer", "ZeroshotCLIP", "--dataset-config-file", str(path), "--seed", "1"]
    )
    assert cli.setup_cfg(args).DATASET.NAME in DATASET_REGISTRY.registered_names()


@pytest.mark.parametrize("path", sorted((CONFIGS / "datasets").glob("shapeworld*")), ids=ident)
def test_demo_worlds_build(path, tmp_path):
    args = cli.parse_args(
        ["--trainer", "ZeroshotCLIP", "--dataset-config-file", str(path), "--seed", "1"]
        + ["--config-file", str(CONFIGS / "trainers" / "ZeroshotCLIP" / "demo.yaml")]
        + ["--output-dir", str(tmp_path / "run")]
    )
    trainer = cli.build(args, cli.setup_cfg(args))
    assert next(iter(trainer.test_loader))["img"].shape == (128, 3, 64, 64)


def test_the_paper_s_settings():
    """30 epochs for base-to-new, else 50; depth 9, or 3 where ImageNet is trained on."""
    settings = {}
    for name in ("base2new", "few_shot", "imagenet"):
        path = CONFIGS / "trainers" / "MMLoP" / f"{name}.yaml"
        args = cli.parse_args(
            ["--trainer", "MMLoP", "--config-file", str(path), "DATASET.NAME", "ImageNet"]
        )
        cfg = cli.setup_cfg(args)
        node = cfg.TRAINER.MMLOP
        depths = (node.PROMPT_DEPTH_TEXT, node.PROMPT_DEPTH_VISION)
        settings[name] = (cfg.OPTIM.MAX_EPOCH, *depths, node.RANK, cfg.MODEL.BACKBONE.NAME)
    assert settings == {
        "base2new": (30, 9, 9, 1, "ViT-B/16"),
        "few_shot": (50, 9, 9, 1, "ViT-B/16"),
        "imagenet": (50, 3, 3, 1, "ViT-B/16"),
    }


def test_defaults_without_files():
    """`python train.py --trainer MMLoP` runs on the demo world."""
    cfg = cli.setup_cfg(cli.parse_args(["--trainer", "MMLoP"]))
    assert (cfg.DATASET.NAME, cfg.MODEL.BACKBONE.NAME) == ("ShapeWorld", "demo")
    cfg = cli.setup_cfg(cli.parse_args(["--trainer", "MMLoP", "DATASET.NAME", "Caltech101"]))
    assert cfg.MODEL.BACKBONE.NAME == "ViT-B/16" and cfg.OPTIM.MAX_EPOCH == 30
    assert cfg.OUTPUT_DIR == "output/Caltech101/all/all_images/MMLoP/base2new/seed-1"
