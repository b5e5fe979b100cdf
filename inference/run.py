"""The classifier of a run or of a checkpoint, as `train.py --eval-only` builds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import check_availability, load_checkpoint
from yacs.config import CfgNode

import trainers
from experiment.run_state import read_results
from prompting import PromptedCLIP
from prompting.adapter_config import check_classes
from trainers.base import PromptTrainer
from trainers.checkpoint import FOLDER, checkpoint_path, warn_of_unfinished
from trainers.results import FILE_NAME

SHOWN = 3  # runs that an error names


@dataclass(frozen=True)
class Run:
    """A run's classifier.

    Attributes:
        training: what it was trained on: trainer, dataset, subsample, shots, seed,
            epochs, and the options of the method.
        results: its results.json, where these prompts are the ones that were evaluated.
    """

    model: PromptedCLIP
    training: Mapping[str, Any]
    results: Mapping[str, Any] | None


def load_run(
    source: Path,
    classnames: Sequence[str] | None = None,
    backbone: str = "",
    epoch: int | None = None,
    argument: str = "source",
) -> Run:
    """Rebuild the classifier of a run; all that an evaluation checks is checked.

    Args:
        source: a run's output folder, or one of its checkpoints.
        classnames: what to classify into; None: the classes of the training.
        backbone: its name or file where the run's does not lead to it any more.
        epoch: of the folder's checkpoints; None: the best on validation data, else the last.
        argument: what the user knows the source as, for an error.

    Raises:
        FileNotFoundError: neither a checkpoint nor the results of a method without training.
        ValueError: another backbone, a damaged checkpoint, other classes for prompts per class, an
            epoch of one checkpoint.
    """
    results = _results(source)
    method = results and results["config"]["TRAINER"]["NAME"]
    if method and source.is_dir() and not trainers.requires_training(method):
        cfg = CfgNode(results["config"])
        names = _names_of_data(cfg) if classnames is None else classnames
        return Run(_classifier(cfg, names, backbone), _training(cfg, 0), results)
    if epoch is not None and source.is_file():
        raise ValueError(f"{source} is one checkpoint: give an epoch with a run's folder alone.")
    if not (source.is_file() or any((source / FOLDER).glob("model*.pth.tar*"))):
        raise FileNotFoundError(_no_run(source, argument))
    path = checkpoint_path(source / FOLDER, epoch) if source.is_dir() else source
    checkpoint = load_checkpoint(str(path))
    if not {"config", "classnames", "state_dict", "epoch"} <= set(checkpoint):
        raise ValueError(f"{path} is no checkpoint of this code base: it lacks the configuration.")
    if epoch is None and source.is_dir():
        warn_of_unfinished(checkpoint, path)
    own = checkpoint["classnames"]
    names = own if classnames is None else classnames
    check_classes(checkpoint["state_dict"], own, names)
    cfg = CfgNode.load_cfg(checkpoint["config"])
    evaluated = results if results and _is_of(results, checkpoint) else None
    model = _classifier(cfg, names, backbone, path)
    return Run(model, _training(cfg, checkpoint["epoch"]), evaluated)


def _no_run(source: Path, argument: str) -> str:
    """Return a sentence that names the runs below a folder that is none."""
    deep = ("*", "*/*", "*/*/*")
    runs = [p.parent for part in deep for p in sorted(source.glob(f"{part}/{FOLDER}"))]
    if not runs:
        remedy = "give the output folder of a training run, or one of its checkpoints"
    else:
        remedy = f"give a run below it, such as {', '.join(map(str, runs[:SHOWN]))}"
    return f"No checkpoint in {argument} {source}: {remedy}."


def _results(source: Path) -> Mapping[str, Any] | None:
    """Return the results of the run whose folder or checkpoint this is, None without any."""
    in_run = source.is_file() and source.parent.name == FOLDER
    path = (source.parent.parent if in_run else source) / FILE_NAME
    return read_results(path) if path.is_file() else None


def _training(cfg: CfgNode, epochs: int) -> Mapping[str, Any]:
    if not trainers.requires_training(cfg.TRAINER.NAME):
        return {"trainer": cfg.TRAINER.NAME}
    return {
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "subsample": cfg.DATASET.SUBSAMPLE_CLASSES,
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "epochs": epochs,
        "options": dict(cfg.TRAINER[TRAINER_REGISTRY.get(cfg.TRAINER.NAME).node]),
    }


def _is_of(results: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> bool:
    """Return whether these prompts were evaluated: of the epoch loaded, else of the last one."""
    epoch = (results["evaluated_checkpoint"] or {"epoch": results["epochs"]})["epoch"]
    return checkpoint["epoch"] == epoch and not checkpoint.get("batches")


def _names_of_data(cfg: CfgNode) -> list[str]:
    """Return the class names of a run's data set: a method without training has no checkpoint."""
    cfg.DATASET.NUM_SHOTS = -1  # nothing is drawn
    return list(DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg).classnames)


def _classifier(
    cfg: CfgNode, classnames: Sequence[str], backbone: str, path: Path | None = None
) -> PromptedCLIP:
    check_availability(cfg.TRAINER.NAME, TRAINER_REGISTRY.registered_names(), "TRAINER.NAME")
    method: type[PromptTrainer] = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    for key, value in method.added_options.items():
        cfg.TRAINER[method.node].setdefault(key, value)
    cfg.MODEL.BACKBONE.NAME = backbone or cfg.MODEL.BACKBONE.NAME
    # The method's own way to its model and its checkpoints, without the data and the optimiser
    # that a trainer's constructor makes first.
    trainer = method.__new__(method)
    trainer.cfg, trainer.backbone = cfg, method.load_backbone(cfg)
    trainer.device = trainer.backbone.device
    trainer.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=list(classnames), train_x=[]))
    trainer.model = trainer.build_clip(list(classnames), torch.Generator())
    learner = trainer.model.prompt_learner.to(trainer.device)
    if path is not None:
        learner.load_state_dict(trainer.read_checkpoint(path)["state_dict"])
    model = trainer.model.eval().requires_grad_(False)  # first: nothing drops out of the text
    model.fix_text(model.text_classifier())
    return model
