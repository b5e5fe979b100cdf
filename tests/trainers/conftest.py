"""A trainer that is built and has not trained."""

import pytest

from experiment import cli


@pytest.fixture
def build(tmp_path, tiny_file, tiny_root):
    """A trainer on the miniature data and the tiny CLIP of 9 layers."""

    def call(trainer, *pairs, backbone=tiny_file, config=""):
        args = cli.parse_args(
            ["--root", str(tiny_root), "--trainer", trainer, "--seed", "1", "--backbone", backbone]
            + ["--output-dir", str(tmp_path / "built"), "--no-train", "--config-file", config]
            + ["DATASET.NAME", "Caltech101", "DATALOADER.NUM_WORKERS", "0"]
            + ["DATASET.NUM_SHOTS", "2", *pairs]
        )
        return cli.build(args, cli.setup_cfg(args))

    return call
