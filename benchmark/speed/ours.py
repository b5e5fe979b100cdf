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
    import dassl.engine
    from dassl.utils import set_random_seed

    import prompting.model
    import train
    import trainers.mmlop

    module, every = trainers.mmlop, len(trainers.mmlop.ENSEMBLE)
    module.ENSEMBLE = module.ENSEMBLE[: plan["templates"]]
    clock.wrap(prompting.model, "frozen_text_features", "frozen")
    clock.wrap(module.MMLoP, "build_model", "model")

    def make():
        cfg = train.setup_cfg(train.parse_args(plan["settings"]))
        set_random_seed(cfg.SEED)
        return dassl.engine.build_trainer(cfg)

    return make, {"templates": len(module.ENSEMBLE), "of_templates": every, "shims": []}
