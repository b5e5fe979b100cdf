"""Results without runs: what train.py would have written, with any accuracy."""

import json
from pathlib import Path

import pytest
import torch

from benchmark.plan import Run
from experiment.cli import expected
from prompting.metrics import evaluation_metrics

TINY = """
title: "Tiny"
table: base2new
trainers: [MMLoP]
config: base2new
seeds: [1, 2]
shots: [2]
train: {datasets: [caltech101], classes: base}
test: {datasets: same, classes: new}
demo: {train: [shapeworld]}
"""


@pytest.fixture
def tiny_protocol(tmp_path) -> str:
    """A protocol on the miniature Caltech101."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def tiny_pairs(tiny_file) -> list[str]:
    """KEY VALUE pairs that make a run of the protocol cost a second."""
    return ["MODEL.BACKBONE.NAME", tiny_file, "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "1"]


def write_result(
    output: Path, run: Run, accuracy: float, *pairs: str, folder: Path | None = None, **more
):
    """Write a run's results.json below `output`, or into another folder; `more` goes into it."""
    arguments = run.arguments("data", output, pairs)
    folder = folder or output / run.folder
    folder.mkdir(parents=True)
    config = json.loads(json.dumps(expected(arguments)))
    checkpoint = run.training and {
        "path": str(output / run.training.folder / "prompt_learner" / "model.pth.tar-1"),
        "epoch": config["OPTIM"]["MAX_EPOCH"],
    }
    results = {
        "trainer": run.trainer,
        "dataset": config["DATASET"]["NAME"],
        "subsample": run.classes,
        "shots": run.shots,
        "seed": run.seed,
        "accuracy": accuracy,
        "correct": 1,
        "total": 2,
        "evaluated_checkpoint": checkpoint,
        "trainable_parameters": 11_556,
        "device": "a device",
        "seconds": {"training": 60.0, "evaluation": 1.0},
        "peak_memory_mb": 100.0,
        "commit": None,
        "command": ["train.py", *arguments],
        "config": config,
        **more,
    }
    (folder / "results.json").write_text(json.dumps(results))


def further(*seen: tuple[int, int, float]) -> dict:
    """Return what `evaluation_metrics` writes for labels, predictions and confidences."""
    labels, predictions, confidences = (torch.tensor(column) for column in zip(*seen, strict=True))
    return evaluation_metrics(labels, predictions, confidences, ["ant", "bee"])


@pytest.fixture
def metrics():
    return further


@pytest.fixture
def result():
    return write_result
