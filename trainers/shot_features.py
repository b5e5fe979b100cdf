"""Features of the shots and of the validation images by the frozen CLIP."""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from dassl.data.samplers import SequentialSampler
from dassl.engine import TrainerX
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from prompting import PromptedCLIP
from prompting.precision import autocast

DRAWN = 4  # validation images per class at most, as the protocol draws them
logger = logging.getLogger("dassl")


def shot_features(trainer: TrainerX, passes: int) -> tuple[Tensor, Tensor]:
    """Return the features (N, D) of the training images in their order, and their labels (N,).

    Each is normalised, and the mean over so many augmentations.
    """
    loader = trainer.train_loader_x
    # Of the loader's own kind: an augmentation depends on pass and image, not on the workers.
    in_order = type(loader)(
        loader.dataset,
        batch_size=trainer.cfg.DATALOADER.TEST.BATCH_SIZE,
        sampler=SequentialSampler(loader.dataset),
        **_workers(loader),
    )
    total = 0
    for _ in range(passes):
        features, labels = _encode(trainer.model, in_order)
        total = total + features
    return F.normalize(total, dim=-1), labels


def validation_features(trainer: TrainerX) -> tuple[Tensor, Tensor] | None:
    """Return the features (V, D) of the validation draw, normalised, and labels (V,).

    The draw has min(shots, 4) images per class; of a data set that draws none (the demo world)
    these are the first.

    None, with a warning, where there are none, or some are test images as well (ImageNet).
    """
    # Imported here: upstream's engine, on which other methods run, has no such module.
    from dassl.engine.splits import shared_images

    dataset, name = trainer.dm.dataset, trainer.cfg.TRAINER.NAME
    if not dataset.val or shared_images(dataset):
        logger.warning(
            "%s chooses nothing on validation images: %s has none that are not test images",
            name,
            trainer.cfg.DATASET.NAME,
        )
        return None
    count, chosen = min(trainer.cfg.DATASET.NUM_SHOTS, DRAWN), []
    seen = Counter()
    for index, item in enumerate(dataset.val):
        if count < 0 or seen[item.label] < count:
            chosen.append(index)
        seen[item.label] += 1
    logger.info("%s chooses on %d validation images", name, len(chosen))
    loader = trainer.val_loader
    images = DataLoader(
        Subset(loader.dataset, chosen),
        trainer.cfg.DATALOADER.TEST.BATCH_SIZE,
        **_workers(loader),
    )
    features, labels = _encode(trainer.model, images)
    return F.normalize(features, dim=-1), labels


def _workers(loader: DataLoader) -> dict[str, Any]:
    """Return the options that decide on a loader's worker processes."""
    names = ("num_workers", "multiprocessing_context", "worker_init_fn")
    return {name: getattr(loader, name) for name in names}


@torch.no_grad()
def _encode(model: PromptedCLIP, batches: Iterable) -> tuple[Tensor, Tensor]:
    """Return features (N, D), not normalised, fp32, and labels (N,), on the model's device."""
    features, labels = [], []
    for batch in batches:
        with autocast(model.precision, model.device):
            features.append(model.encode_image(batch["img"].to(model.device), ()).float())
        labels.append(batch["label"].to(model.device))
    return torch.cat(features), torch.cat(labels)
