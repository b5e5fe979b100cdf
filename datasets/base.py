"""Few-shot draws, their records, and base/new classes: what all data sets of the family share.

The protocol is CoOp's (Zhou et al., IJCV 2022; github.com/KaiyangZhou/CoOp, datasets/): shots are
drawn on all classes with Python's global `random`, first from train, then min(shots, 4) from val;
only then are the classes halved.
"""

import contextlib
import hashlib
import logging
import os
import random
import uuid
from collections import Counter
from pathlib import Path

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import read_json, write_json

from datasets.splits import (
    SOURCES,
    SUBSAMPLES,
    Items,
    check_classes,
    check_files,
    read_split,
    subsample_classes,
)

Entry = tuple[str, int, str]  # path relative to the image folder, label, class name
logger = logging.getLogger("dassl")


class FewShotDataset(DatasetBase):
    """NUM_SHOTS images per class (-1: all of them), of all classes, the base half or the new half.

    A loader states where its files lie. One without a split file overrides `read_splits` and keeps
    no record of its draws; one without files at all leaves `dataset_dir` empty and needs no root.

    The draw is made every time, so that a record leaves Python's `random` as it would be without
    it. Where the record, split_fewshot/shot_K-seed_S.json, differs from the draw, the record
    counts: someone put it there. CoOp's .pkl files are not read, and a negative seed has no record.
    """

    dataset_dir = ""  # folder of the data set in DATASET.ROOT
    image_dir = ""  # folder of the images in dataset_dir
    split_file = ""  # in dataset_dir, see read_split
    unique_names = True  # False where two classes share a name, see check_classes

    def __init__(self, cfg):
        shots, subsample = cfg.DATASET.NUM_SHOTS, cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")
        if shots < 1 and shots != -1:
            raise ValueError(f"DATASET.NUM_SHOTS must be at least 1, or -1 for all, got {shots}")
        if subsample not in SUBSAMPLES:
            raise ValueError(
                f"DATASET.SUBSAMPLE_CLASSES must be one of {SUBSAMPLES}, got {subsample!r}"
            )
        if self.dataset_dir:
            self.folder, self.image_folder = self._find_folders(cfg.DATASET.ROOT)
        train, val, test = self.read_splits()
        check_classes(train, val, test, self.unique_names)
        if shots != -1:
            train, val = self._few_shots(train, val, test, shots, cfg.SEED)
        train, val, test = subsample_classes(train, val, test, subsample=subsample)
        if self.dataset_dir:
            check_files(train, val, test)
        super().__init__(train_x=train, val=val, test=test)

    def read_splits(self) -> tuple[Items, Items | None, Items]:
        """(train, val, test), with labels 0..n-1; here from the split file.

        A split that is None, or the list `test` itself, is not drawn from: ImageNet's val is its
        test, and ImageNet-A has no other split.
        """
        return read_split(self.folder / self.split_file, self.image_folder)

    def _find_folders(self, root: str) -> tuple[Path, Path]:
        base = Path(os.path.abspath(os.path.expanduser(root)))
        if not (root and base.is_dir()):
            raise FileNotFoundError(
                f"DATASET.ROOT must be the folder that holds {self.dataset_dir}, got {root!r}, "
                "which is no folder; set it with --root"
            )
        folder = base / self.dataset_dir
        for wanted in (folder, folder / self.image_dir):
            if not wanted.is_dir():
                raise FileNotFoundError(
                    f"{type(self).__name__} expects the folder {wanted}, which does not exist; "
                    f"put the data there (see {SOURCES}) or set another --root"
                )
        return folder, folder / self.image_dir

    def _few_shots(self, train, val, test, shots: int, seed: int) -> tuple[Items, Items | None]:
        """Train and val with `shots` and min(shots, 4) images per class, of the record if any."""
        # Only a draw that the seed explains may be written to the file that is named after it.
        seeded = seed >= 0 and random.getstate() == random.Random(seed).getstate()
        splits = {"train": train, "val": val}
        pools = {n: items for n, items in splits.items() if items is not None and items is not test}
        drawn = {}
        for name, items in pools.items():
            k = shots if name == "train" else min(shots, 4)
            _note_small_classes(name, items, k)
            drawn[name] = self.generate_fewshot_dataset(items, num_shots=k)
        if seed >= 0 and self.split_file:
            record = self.folder / "split_fewshot" / f"shot_{shots}-seed_{seed}.json"
            drawn = self._reconcile(record, pools, drawn, may_write=seeded)
        splits.update(drawn)
        return splits["train"], splits["val"]

    def _reconcile(
        self, record: Path, pools: dict[str, Items], drawn: dict[str, Items], may_write: bool
    ) -> dict[str, Items]:
        """The record's images if it fits the split file, else `drawn`, which is then recorded."""
        sha256 = hashlib.sha256((self.folder / self.split_file).read_bytes()).hexdigest()
        entries = {name: [self._entry(item) for item in items] for name, items in drawn.items()}
        if record.is_file():
            recorded_sha256, recorded = _read_record(record, list(drawn))
            if recorded_sha256 == sha256:
                if recorded == entries:
                    return drawn
                logger.warning(f"{record} differs from the draw of this run; the file is used")
                return {name: self._pick(record, recorded[name], pools[name]) for name in drawn}
            logger.warning(
                f"{record} is stale, so shots are drawn anew: it was made with another "
                f"{self.split_file} (sha256 {recorded_sha256[:12]}, here {sha256[:12]})"
            )
        if may_write:
            _write_record(record, {"split_sha256": sha256, **entries})
        return drawn

    def _entry(self, item: Datum) -> Entry:
        path = Path(item.impath).relative_to(self.image_folder).as_posix()
        return path, item.label, item.classname

    def _pick(self, record: Path, entries: list[Entry], pool: Items) -> Items:
        """The items of the pool that the entries name, in their order."""
        known = {self._entry(item): item for item in pool}
        unknown = [entry for entry in entries if entry not in known]
        absent = {label for _, label, _ in known} - {label for _, label, _ in entries}
        if unknown or absent:
            raise ValueError(
                f"{record} must list images of {self.split_file}, at least one per class, got "
                f"{len(unknown)} others {unknown[:1]} and {len(absent)} labels without an image "
                f"{sorted(absent)[:1]}; delete it to draw anew"
            )
        return [known[entry] for entry in entries]


def _note_small_classes(split: str, items: Items, shots: int) -> None:
    counts = Counter(item.label for item in items)
    small = sum(count < shots for count in counts.values())
    if small:
        logger.info(
            f"{small} of {len(counts)} classes have fewer than {shots} {split} images; "
            "all of theirs are used"
        )


def _read_record(path: Path, splits: list[str]) -> tuple[str, dict[str, list[Entry]]]:
    """The sha256 of the split file that the record was drawn from, and its entries by split."""
    try:
        record = read_json(str(path))
        entries = {s: [(str(p), int(y), str(c)) for p, y, c in record[s]] for s in splits}
        return str(record["split_sha256"]), entries
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no record of a few-shot draw ({error!r}); delete it to draw anew"
        ) from error


def _write_record(path: Path, record: dict) -> None:
    """Write all or nothing; a folder that cannot be written to is normal on clusters."""
    draft = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    folder = path.parent if path.parent.exists() else path.parent.parent
    try:
        if not folder.stat().st_mode & 0o222:  # root could write, against the owner's wish
            raise PermissionError(f"{folder} is read-only")
        path.parent.mkdir(exist_ok=True)
        write_json(record, str(draft))
        os.replace(draft, path)
    except OSError as error:
        logger.info(f"the few-shot draw is not recorded, for {path} cannot be written: {error}")
        with contextlib.suppress(OSError):
            draft.unlink()
