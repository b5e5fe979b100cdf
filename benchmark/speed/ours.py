"""Our side of a speed comparison: MMLoP, configured and built as train.py does it."""

from collections.abc import Callable
from typing import Any

TRAINER = "MMLoP"


def settings(configs: str, root: str, weights: str, batch: int, precision: str) -> list[str]:
    """What follows `python train.py`.

    Args:
        configs: the folder `configs`.
        root: of the data set.
        weights: file of the backbone.
        batch: images in a training step.
    """
    return [
        "--root", root, "--seed", "1", "--trainer", TRAINER, "--backbone", weights,
        "--dataset-config-file", f"{configs}/datasets/caltech101.yaml",
        "--config-file", f"{configs}/trainers/{TRAINER}/base2new.yaml",
        "DATASET.SUBSAMPLE_CLASSES", "all", "DATALOADER.NUM_WORKERS", "0",
        "DATALOADER.TRAIN_X.BATCH_SIZE", str(batch), "TRAINER.MMLOP.PREC", precision,
    ]  # fmt: skip


def prepare(plan: dict, clock: Any) -> tuple[Callable, dict]:
    """A function that builds the trainer, and what is told of it; see worker.py."""
    import prompting.model
    import trainers.mmlop

    module, every = trainers.mmlop, len(trainers.mmlop.ENSEMBLE)
    module.ENSEMBLE = module.ENSEMBLE[: plan["templates"]]
    clock.wrap(prompting.model, "frozen_text_features", "frozen")
    clock.wrap(module.MMLoP, "build_model", "model")
    told = {"templates": len(module.ENSEMBLE), "of_templates": every, "shims": []}
    if plan["seeds"] == 1:
        return lambda: build(plan["settings"]), told
    return lambda: Seeds(plan["settings"], plan["seeds"]), told


def build(words: list[str]) -> Any:
    """The trainer that `python train.py WORDS` would build."""
    import dassl.engine
    from dassl.utils import set_random_seed

    import train

    cfg = train.setup_cfg(train.parse_args(words))
    set_random_seed(cfg.SEED)
    return dassl.engine.build_trainer(cfg)


class Seeds:
    """Trainers of the seeds 1..S, stepped together: looks like one trainer that steps."""

    def __init__(self, words: list[str], seeds: int) -> None:
        from trainers.backbones import shared_backbones
        from trainers.together import Member, Together

        members = [Member(words) for _ in range(seeds)]
        with shared_backbones():
            for seed, member in enumerate(members, start=1):
                with member.at_work():
                    member.trainer = build([*words, "SEED", str(seed)])
        self.together = Together(members)
        self.trainers = self.together.trainers
        first = self.trainers[0]
        self.cfg, self.device, self.num_classes = first.cfg, first.device, first.num_classes

    def set_model_mode(self, mode: str) -> None:
        for trainer in self.trainers:
            trainer.set_model_mode(mode)

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """A step of all seeds, each on this batch; gives the first one's log."""
        images, labels = (
            batch[key].expand(len(self.trainers), *batch[key].shape) for key in ("img", "label")
        )
        computed = self.together.split(*self.together.step(images, labels))
        summaries = []
        for trainer, own in zip(self.trainers, computed, strict=True):
            trainer.epoch, trainer.batch_idx = self.epoch, self.batch_idx
            trainer.num_batches = self.num_batches
            summaries.append(trainer.update(*own))
        return summaries[0]
