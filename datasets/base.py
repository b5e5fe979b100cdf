"""Implement what all data sets of the family share: few-shot draws, their records, class halves.

The protocol is CoOp's (Zhou et al., IJCV 2022; github.com/KaiyangZhou/CoOp, datasets/): shots are
drawn on all classes with Python's global `random`, first from train, then min(shots, 4) from val;
only then are the classes halved.
"""

import hashlib
import logging
import os
import random
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from dassl.data.datasets import DatasetBase, Datum

from datasets.folders import images_below, random_split
from datasets.records import Entry, log_small_classes, read_record, write_record
from datasets.sources import LAYOUTS, Source
from datasets.splits import (
    SUBSAMPLES,
    ImageFile,
    Items,
    check_classes,
    check_files,
    check_images,
    read_split,
    subsample_classes,
)
from datasets.text import check_path, shorten
from prompting.errors import counted

Splits = tuple[Items, Items | None, Items]
logger = logging.getLogger("dassl")


class FewShotDataset(DatasetBase):
    """Load NUM_SHOTS images per class (-1: all), of all classes, the base half or the new half.

    A loader states where its files are. One without a split file overrides `read_splits` and keeps
    no record of its draws; one without files at all leaves `dataset_dir` empty and needs no root.

    The draw is made every time, so that a record leaves Python's `random` in the same state as no
    record. If the record, split_fewshot/shot_K-seed_S.json, differs from the draw, the record is
    used, because someone put it there. CoOp's .pkl files are not read. A negative seed has none.

    `split_source` states where the split comes from; results record it. With `test_only` there are
    no training images: what counts classes in their place are the test images.
    """

    dataset_dir = ""  # folder of the data set in DATASET.ROOT
    root_holds = ""  # what DATASET.ROOT holds, if it is not just dataset_dir
    image_dir = ""  # folder of the images in dataset_dir
    split_file = ""  # in dataset_dir, see read_split
    unique_names = True  # False if two classes share a name, see check_classes
    published = True  # False for images that somebody has laid out
    layout = LAYOUTS  # where the layout is described
    # What `python -m datasets` checks and prepares
    images = classes = 0  # their number in all splits; 0 if not known
    sources: tuple[Source, ...] = ()
    by_hand = ""  # what must be downloaded by hand; {folder} is the data set's
    # A new random split, see DATASET.NEW_SPLIT
    class_folders = False  # True if paths show the class, see class_of and class_name
    ignored: tuple[str, ...] = ()  # folders left out
    renamed: Mapping[str, str] = {}  # folder -> class name, if they differ

    def __init__(self, cfg):
        shots, subsample = cfg.DATASET.NUM_SHOTS, cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")
        if shots < 1 and shots != -1:
            raise ValueError(f"DATASET.NUM_SHOTS must be at least 1, or -1 for all, got {shots}")
        if subsample not in SUBSAMPLES:
            raise ValueError(
                f"DATASET.SUBSAMPLE_CLASSES must be one of {SUBSAMPLES}, got {subsample!r}"
            )
        train, val, test = self._read(cfg)
        if shots != -1:
            train, val = self._few_shots(train, val, test, shots, cfg.SEED)
        train, val, test = subsample_classes(train, val, test, subsample=subsample)
        if self.dataset_dir:
            check_files((train, val, test), self.advice, self.layout, not self.published)
        super().__init__(train_x=train, val=val, test=test)
        if self.num_classes == 1:
            logger.warning("There is only one class, so every answer is right")
        found = counted(self.num_classes, "class", "classes")
        for note in (*self.notes, f"{found}: {shorten(self.classnames)}"):
            logger.info(note)

    @classmethod
    def read(cls, cfg) -> tuple[Splits, list[str]]:
        """Return (train, val, test) as published, and notes; nothing is drawn or opened."""
        dataset = cls.__new__(cls)
        return dataset._read(cfg), dataset.notes

    def read_splits(self) -> Splits:
        """Return (train, val, test), with labels 0..n-1; here from the split file.

        Nothing is drawn from a split that is None or the list `test` itself: ImageNet's val is
        its test, and ImageNet-A has no other split.
        """
        path = self.folder / self.split_file
        url = next((s.url for s in self.sources if s.name == self.split_file), LAYOUTS)
        try:
            return read_split(path, self.image_folder, self.item, url)
        except FileNotFoundError as error:
            name = type(self).__name__
            raise FileNotFoundError(
                f'{error}, or run "python -m datasets prepare --root {self.folder.parent} {name}"; '
                "DATASET.NEW_SPLIT True makes a random split, whose results are not comparable"
            ) from error

    def item(self, impath: str, label: int, classname: str) -> Datum:
        """Return an image of this data set; `impath` starts in the image folder."""
        return ImageFile(os.path.join(self.image_folder, impath), label, classname, self.advice)

    def class_of(self, path: PurePosixPath) -> str:
        """Return the key of an image's class in a new split: its folder."""
        return path.parent.as_posix()

    def class_name(self, key: str) -> str:
        """Return the name of the class with a key of `class_of`."""
        return self.renamed.get(key, key)

    def _read(self, cfg) -> Splits:
        self.settings, self.notes = cfg.DATASET, []
        if self.dataset_dir:
            self.folder, self.image_folder = self.find_folders(cfg.DATASET.ROOT)
            options = {} if self.published else cfg.DATASET.IMAGE_FOLDER
            pairs = [
                (f"DATASET.IMAGE_FOLDER.{key}", value) for key, value in options.items() if value
            ]
            words = ["--root", cfg.DATASET.ROOT, type(self).__name__, "--deep", *sum(pairs, ())]
            self.advice = (
                f"To check all of {type(self).__name__}: python -m datasets check "
                f"{shlex.join(words)}"
            )
        self.split_source = self.split_file or "the data set's own"
        if cfg.DATASET.get("NEW_SPLIT", False):
            splits = self._new_split(cfg.DATASET.SPLIT_SEED)
        else:
            splits = self.read_splits()
        train, val, test = splits
        splits = train or test, val or None, test
        self.test_only = splits[0] is test
        if self.test_only and not self.published:
            self.notes.append("there are test images only: for zero-shot and --eval-only")
        try:
            check_classes(*splits, self.unique_names)
            check_images(*splits, follow_links=not self.published)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__} ({self.split_source}): {error}") from error
        return splits

    @classmethod
    def find_folders(cls, root: str) -> tuple[Path, Path]:
        """Return the folders of the data set and of its images.

        Raises:
            FileNotFoundError: one of them, or the root, is not there.
        """
        base = Path(os.path.abspath(os.path.expanduser(root)))
        if not (root and base.is_dir()):
            holds = cls.root_holds or cls.dataset_dir
            raise FileNotFoundError(
                f"DATASET.ROOT must be the folder that holds {holds}, got {root!r}, which is not a "
                "folder; set it with --root"
            )
        check_path(str(base))
        folder = base / cls.dataset_dir
        for wanted in (folder, folder / cls.image_dir):
            if not wanted.is_dir():
                raise FileNotFoundError(
                    f"{cls.__name__} expects the folder {wanted}, which does not exist; "
                    f"put the data there (see {cls.layout}) or set another --root"
                )
        return folder, folder / cls.image_dir

    def _new_split(self, seed: int) -> Splits:
        """Split the images of every class at random, because the user asked for it."""
        if not self.class_folders:
            raise ValueError(
                f"DATASET.NEW_SPLIT is True, but {type(self).__name__} has no published split of "
                "folders per class that a new one could replace: unset it"
            )
        classes = defaultdict(list)
        for path in map(PurePosixPath, images_below(self.image_folder)):
            key = self.class_of(path)
            if key not in (".", *self.ignored):
                classes[key].append(str(path))
        self.split_source = f"new random split, DATASET.SPLIT_SEED {seed}"
        logger.warning(
            f"{type(self).__name__}: {self.split_source}; results are not comparable with others"
        )
        return self.items_of(random_split(dict(sorted(classes.items())), seed))

    def items_of(self, parts: Iterable[Mapping[str, list[str]]]) -> Splits:
        """Return items for splits of {class key: paths}; labels count the keys of the first."""
        parts = list(parts)
        labels = {key: label for label, key in enumerate(parts[0])}
        return tuple(
            [
                self.item(path, labels[key], self.class_name(key))
                for key, paths in part.items()
                for path in paths
            ]
            for part in parts
        )

    def _few_shots(self, train, val, test, shots: int, seed: int) -> tuple[Items, Items | None]:
        """Return train and val with `shots` and min(shots, 4) images per class."""
        # Only a draw that follows from the seed may be written to the file named after the seed.
        seeded = seed >= 0 and random.getstate() == random.Random(seed).getstate()
        splits = {"train": train, "val": val}
        pools = {n: items for n, items in splits.items() if items is not None and items is not test}
        drawn = {}
        for name, items in pools.items():
            k = shots if name == "train" else min(shots, 4)
            log_small_classes(name, items, k)
            drawn[name] = self.generate_fewshot_dataset(items, num_shots=k)
        if seed >= 0 and self.split_file and self.split_source == self.split_file:
            record = self.folder / "split_fewshot" / f"shot_{shots}-seed_{seed}.json"
            drawn = self._reconcile(record, pools, drawn, may_write=seeded)
        splits.update(drawn)
        return splits["train"], splits["val"]

    def _reconcile(
        self, record: Path, pools: dict[str, Items], drawn: dict[str, Items], may_write: bool
    ) -> dict[str, Items]:
        """Return the record's images if it fits the split file; else record and return `drawn`."""
        sha256 = hashlib.sha256((self.folder / self.split_file).read_bytes()).hexdigest()
        entries = {name: [self._entry(item) for item in items] for name, items in drawn.items()}
        if record.is_file():
            recorded_sha256, recorded = read_record(record, list(drawn))
            if recorded_sha256 == sha256:
                if recorded == entries:
                    return drawn
                logger.warning(f"{record} differs from the draw of this run; the file is used")
                return {name: self._pick(record, recorded[name], pools[name]) for name in drawn}
            logger.warning(
                f"{record} is stale, so shots are drawn again: it was made with another "
                f"{self.split_file} (sha256 {recorded_sha256[:12]}, here {sha256[:12]})"
            )
        if may_write:
            write_record(record, {"split_sha256": sha256, **entries})
        return drawn

    def _entry(self, item: Datum) -> Entry:
        path = Path(item.impath).relative_to(self.image_folder).as_posix()
        return path, item.label, item.classname

    def _pick(self, record: Path, entries: list[Entry], pool: Items) -> Items:
        """Return the items of the pool that the entries name, in their order."""
        known = {self._entry(item): item for item in pool}
        unknown = [entry for entry in entries if entry not in known]
        absent = {label for _, label, _ in known} - {label for _, label, _ in entries}
        if unknown or absent:
            raise ValueError(
                f"{record} must list images of {self.split_file}, at least one per class, got "
                f"{counted(len(unknown), 'other')} {unknown[:1]} and "
                f"{counted(len(absent), 'label')} without an image {sorted(absent)[:1]}; delete "
                "it to draw again"
            )
        return [known[entry] for entry in entries]
