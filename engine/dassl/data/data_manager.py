"""Build the data set of a config and its loaders."""

from __future__ import annotations

import atexit
import signal
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import torch
from tabulate import tabulate
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from dassl.utils.logger import LOGGER

from .dataset_wrapper import DatasetWrapper
from .datasets import Datum, build_dataset
from .samplers import build_sampler
from .transforms import build_transform

# Named because Python's default differs: from 3.14 on, Linux no longer forks by default, and only
# forked workers share the decoded images of the main process (see `ImageCache`).
START_METHOD = "fork" if sys.platform == "linux" else "spawn"


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
    Worker processes are started by ``START_METHOD``; those of a training loader live as long as
    it does. An epoch's seed is drawn from the global torch seed, whatever ``dataset_wrapper``.

    Args:
        n_domain: accepted because upstream's callers pass it; no sampler here draws by domain.
        n_ins: likewise; no sampler here draws by class.
        tfm: transform, list of transforms, or None.
        dataset_wrapper: class or function called instead of ``DatasetWrapper``.
    """
    if not data_source:
        raise ValueError(
            f"A {'training' if is_train else 'test'} loader needs images, got none. Check "
            "DATASET.ROOT and the split of the data set."
        )
    wrapper = DatasetWrapper if dataset_wrapper is None else dataset_wrapper
    dataset = wrapper(cfg, data_source, transform=tfm, is_train=is_train)
    workers = cfg.DATALOADER.NUM_WORKERS
    # Another kind of data set takes its seed from its worker, which must be a new one each epoch.
    loader = _TrainLoader if is_train and isinstance(dataset, DatasetWrapper) else DataLoader
    return loader(
        dataset,
        batch_size=batch_size,
        sampler=build_sampler(sampler_type, data_source),
        num_workers=workers,
        multiprocessing_context=START_METHOD if workers > 0 else None,  # torch refuses it without
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        worker_init_fn=_ignore_stop_signals,
    )


class _TrainLoader(DataLoader):
    """Load from a ``DatasetWrapper`` with the same worker processes in every epoch.

    Starting them takes as long as several steps. They would draw from the seed they were started
    with; here each index carries its epoch's. The images to keep are decoded before the processes
    are forked, which share them.
    """

    def __init__(self, dataset: DatasetWrapper, num_workers: int, **options: Any) -> None:
        # PyTorch draws a seed when it starts workers; from here, so that the global generator gives
        # one number per epoch, with and without workers.
        super().__init__(
            dataset,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            generator=torch.Generator(),
            **options,
        )

    def __iter__(self) -> Iterator[Any]:
        self.dataset.images.fill()
        epoch_seed = int(torch.empty((), dtype=torch.int64).random_())
        self.sampler.epoch_seed = epoch_seed if self.num_workers else None
        return super().__iter__()

    def _get_iterator(self) -> Any:
        iterator = super()._get_iterator()
        if self.num_workers:
            # Where the loader lives to the end, Python sends each worker one SIGTERM, which ours
            # ignore, and waits for them. This comes before that, since it was registered last.
            atexit.register(_end_workers, weakref.ref(iterator))
        return iterator


def _end_workers(iterator: weakref.ref) -> None:
    if (found := iterator()) is not None:
        found._shutdown_workers()


def _ignore_stop_signals(_: int) -> None:
    """Ignore Ctrl-C and the first SIGTERM, which a cluster sends to all processes.

    The run itself ends its workers. A second SIGTERM may come from the run, so it ends the worker.
    """

    def receive(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, receive)


class DataManager:
    """Build the data set ``cfg.DATASET.NAME`` and the loaders of its splits.

    Its attributes are ``dataset``, ``train_loader_x``, ``val_loader`` (None without validation
    data), ``test_loader``, ``num_classes``, ``lab2cname`` and ``num_source_domains``.

    Args:
        custom_tfm_train: used instead of the transform from the config.
        custom_tfm_test: likewise, for validation and test.
        dataset_wrapper: see ``build_data_loader``.
    """

    num_classes = property(attrgetter("dataset.num_classes"))
    lab2cname = property(attrgetter("dataset.lab2cname"))

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Any = None,
        custom_tfm_test: Any = None,
        dataset_wrapper: Callable[..., Any] | None = None,
    ) -> None:
        self.dataset = build_dataset(cfg)
        tfm_train = custom_tfm_train or build_transform(cfg, is_train=True)
        tfm_test = custom_tfm_test or build_transform(cfg, is_train=False)
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
        self.train_loader_u = None  # trainers read it; unlabelled data is not supported

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
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

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
