"""Features of the shots and of the validation images by the frozen CLIP."""

import logging
from collections import Counter
from collections.abc import Iterable

import torch
import torch.nn.functional as F
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
    in_order = DataLoader(
        loader.dataset,
        trainer.cfg.DATALOADER.TEST.BATCH_SIZE,
        num_workers=loader.num_workers,
        multiprocessing_context=loader.multiprocessing_context,
        worker_init_fn=loader.worker_init_fn,
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

    None, with a warning, where there is no validation image that is not a test image (ImageNet).
    """
    dataset, name = trainer.dm.dataset, trainer.cfg.TRAINER.NAME
    tests = {item.impath for item in dataset.test if item.impath}
    if not dataset.val or any(item.impath in tests for item in dataset.val):
        logger.warning(
            "%s searches on no images: %s has no validation images beside its test images",
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
    logger.info("%s searches on %d validation images", name, len(chosen))
    images = DataLoader(
        Subset(trainer.val_loader.dataset, chosen), trainer.cfg.DATALOADER.TEST.BATCH_SIZE
    )
    features, labels = _encode(trainer.model, images)
    return F.normalize(features, dim=-1), labels


@torch.no_grad()
def _encode(model: PromptedCLIP, batches: Iterable) -> tuple[Tensor, Tensor]:
    """Return features (N, D), not normalised, fp32, and labels (N,), on the model's device."""
    features, labels = [], []
    for batch in batches:
        with autocast(model.precision, model.device):
            features.append(model.encode_image(batch["img"].to(model.device), ()).float())
        labels.append(batch["label"].to(model.device))
    return torch.cat(features), torch.cat(labels)
