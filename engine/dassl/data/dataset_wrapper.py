"""Turn a list of ``Datum`` into the samples of a loader."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torchvision.transforms as T
from torch.utils.data import Dataset
from yacs.config import CfgNode

from .datasets import Datum
from .image_cache import ImageCache
from .transforms import interpolation_mode

Transform = Callable[[Any], Any]


class DatasetWrapper(Dataset):
    """Open and transform the images of ``data_source``.

    A sample is a dict: ``img`` (3, H, W) float, ``label``, ``domain``, ``impath``, ``index``.
    Where the index carries the epoch's seed, as it does on its way to a worker process, the
    augmentation depends on both alone, not on the number of workers or on earlier samples.
    Training images may be kept decoded, see ``ImageCache``; loaders from ``build_data_loader``
    fill ``images``.

    Args:
        cfg: DATALOADER.K_TRANSFORMS makes ``img`` a list of that many draws (training only),
            DATALOADER.RETURN_IMG0 adds ``img0``, the image without augmentation;
            DATALOADER.CACHE_MB caps the memory of decoded images (training only).
        data_source: list of ``Datum``.
        transform: one transform; or a list, whose results are ``img``, ``img2``, ``img3``...;
            or ``None``, which leaves ``img`` a PIL image.
        is_train: True for training data.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Datum],
        transform: Transform | Sequence[Transform] | None = None,
        is_train: bool = False,
    ) -> None:
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        megabytes = cfg.DATALOADER.CACHE_MB if is_train else 0
        self.images = ImageCache(data_source, megabytes, max(1, cfg.DATALOADER.NUM_WORKERS))
        if self.k_tfm > 1 and transform is None:
            raise ValueError(
                f"DATALOADER.K_TRANSFORMS = {self.k_tfm} needs a transform, got None: unset "
                "INPUT.NO_TRANSFORM or set K_TRANSFORMS to 1."
            )
        steps = [T.Resize(cfg.INPUT.SIZE, interpolation_mode(cfg)), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            steps.append(T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(steps)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        idx, epoch_seed = int(idx), getattr(idx, "epoch_seed", None)
        if self.is_train and epoch_seed is not None:
            _seed_sample(epoch_seed, idx)
        item = self.data_source[idx]
        sample = {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": idx,
        }
        image = self.images.open(idx)
        if self.transform is None:
            sample["img"] = image
        elif isinstance(self.transform, (list, tuple)):
            for i, transform in enumerate(self.transform, start=1):
                sample["img" if i == 1 else f"img{i}"] = self._transform_image(transform, image)
        else:
            sample["img"] = self._transform_image(self.transform, image)
        if self.return_img0:
            sample["img0"] = self.to_tensor(image)
        return sample

    def _transform_image(self, transform: Transform, image: Any) -> Any:
        images = [transform(image) for _ in range(self.k_tfm)]
        return images[0] if len(images) == 1 else images


def _seed_sample(epoch_seed: int, index: int) -> None:
    """Seed Python's ``random``, numpy and torch (CPU) from both numbers."""
    seed, numpy_seed = np.random.SeedSequence([epoch_seed, index]).generate_state(2, np.uint64)
    random.seed(int(seed))
    np.random.seed(int(numpy_seed) % 2**32)
    torch.default_generator.manual_seed(int(seed) % 2**63)
