"""The data set of a config and its loaders."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from tabulate import tabulate
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from dassl.utils.logger import LOGGER

from .dataset_wrapper import DatasetWrapper
from .datasets import Datum, build_dataset
from .image_cache import ImageCache
from .samplers import build_sampler
from .transforms import build_transform


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Any = None,
    is_train: bool = True,
    dataset_wrapper: Callable[..., Any] | None = None,
) -> DataLoader:
    """Build a loader whose batches are dicts (see ``DatasetWrapper``).

    A training loader drops the last partial batch if the set holds at least one full batch.
    The seeds of worker processes are torch's, drawn from the global torch seed once an epoch.

    Args:
        n_domain: taken for callers of upstream; no sampler here draws by domain.
        n_ins: the same; no sampler here draws by class.
        tfm: transform, list of transforms, or None.
        dataset_wrapper: class or function called instead of ``DatasetWrapper``.
    """
    if not data_source:
        raise ValueError(
            f"A {'training' if is_train else 'test'} loader needs images, got none. Check "
            "DATASET.ROOT and the split of the data set."
        )
    wrapper = DatasetWrapper if dataset_wrapper is None else dataset_wrapper
    return _Loader(
        wrapper(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=build_sampler(sampler_type, data_source),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        worker_init_fn=_leave_stops_to_the_run,
    )


class _Loader(DataLoader):
    """Decodes what is to be kept before the first worker processes are forked, who share it."""

    def __iter__(self) -> Iterator[Any]:
        images = getattr(self.dataset, "images", None)
        if isinstance(images, ImageCache):
            images.fill()
        return super().__iter__()


def _leave_stops_to_the_run(_: int) -> None:
    """Ctrl-C and a cluster's SIGTERM go to all processes; the run itself ends its workers.

    A second SIGTERM ends a worker, as it may be the run's own.
    """

    def receive(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, receive)


class DataManager:
    """Builds the data set ``cfg.DATASET.NAME`` and loaders for its splits.

    Attributes ``dataset``, ``train_loader_x``, ``val_loader`` (None without validation data),
    ``test_loader``, ``num_classes``, ``lab2cname``, ``num_source_domains``.

    Args:
        custom_tfm_train: used instead of the transform from the config.
        custom_tfm_test: the same for validation and test.
        dataset_wrapper: see ``build_data_loader``.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Any = None,
        custom_tfm_test: Any = None,
        dataset_wrapper: Callable[..., Any] | None = None,
    ) -> None:
        self.dataset = build_dataset(cfg)
        if custom_tfm_train is None:
            tfm_train = build_transform(cfg, is_train=True)
        else:
            LOGGER.info("* Using custom transform for training")
            tfm_train = custom_tfm_train
        if custom_tfm_test is None:
            tfm_test = build_transform(cfg, is_train=False)
        else:
            LOGGER.info("* Using custom transform for testing")
            tfm_test = custom_tfm_test

        train = cfg.DATALOADER.TRAIN_X
        self.train_loader_x = build_data_loader(
            cfg,
            sampler_type=train.SAMPLER,
            data_source=self.dataset.train_x,
            batch_size=train.BATCH_SIZE,
            n_domain=train.N_DOMAIN,
            n_ins=train.N_INS,
            tfm=tfm_train,
            is_train=True,
            dataset_wrapper=dataset_wrapper,
        )
        self.train_loader_u = None  # read by trainers; unlabelled data is not served

        def test_loader(data_source: Sequence[Datum]) -> DataLoader:
            return build_data_loader(
                cfg,
                sampler_type=cfg.DATALOADER.TEST.SAMPLER,
                data_source=data_source,
                batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
                tfm=tfm_test,
                is_train=False,
                dataset_wrapper=dataset_wrapper,
            )

        self.val_loader = test_loader(self.dataset.val) if self.dataset.val else None
        self.test_loader = test_loader(self.dataset.test)
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self) -> int:
        return self.dataset.num_classes

    @property
    def num_source_domains(self) -> int:
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        return self.dataset.lab2cname

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Log a table of the sizes of the splits."""
        rows = [["Dataset", cfg.DATASET.NAME]]
        if cfg.DATASET.SOURCE_DOMAINS:
            rows.append(["Source", cfg.DATASET.SOURCE_DOMAINS])
        if cfg.DATASET.TARGET_DOMAINS:
            rows.append(["Target", cfg.DATASET.TARGET_DOMAINS])
        rows.append(["# classes", f"{self.num_classes:,}"])
        for split in ("train_x", "train_u", "val", "test"):
            items = getattr(self.dataset, split)
            if items:
                rows.append([f"# {split}", f"{len(items):,}"])
        LOGGER.info(tabulate(rows))
