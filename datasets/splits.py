"""Read split files, and check and cut the lists of a data set; no function here has state."""

import copy
import json
import math
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dassl.data.datasets import Datum

from datasets.layout import split_of
from datasets.sources import LAYOUTS
from datasets.text import check_path, check_texts, nfc
from prompting.files import read_text

SUBSAMPLES = ("all", "base", "new")
MAX_CHECKED = 5000  # images looked for per split

Items = list[Datum]


class ImageFile(Datum):
    """Hold an image on disk; if it cannot be read, the error says how to check the data set."""

    def __init__(self, impath: str, label: int, classname: str, advice: str = "") -> None:
        super().__init__(impath=impath, label=label, classname=classname)
        self.advice = advice

    def open(self):
        with self._advised():
            return super().open()

    def check(self) -> None:
        with self._advised():
            super().check()

    @contextmanager
    def _advised(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno:  # of the machine
                raise
            raise type(error)(f"{error} {self.advice}".strip()) from error


def read_split(
    path: Path, image_folder: Path, make: Callable[..., Datum] = Datum, source: str = ""
) -> tuple[Items, Items, Items]:
    """Read (train, val, test) from the JSON file {"train": [[path, label, class name], ...], ...}.

    The lists may be called as folders of splits are (`layout.SPLITS`); without val or train these
    are empty. Paths are relative to `image_folder`, with "/"; one that leaves it is refused
    (ValueError). Class names are in Unicode's composed form.

    `make` builds an item; `source` is where the file can be downloaded, empty for own images.
    """
    split, listings = _read_lists(path, source), {}

    def datum(entry: list) -> Datum:
        if not isinstance(entry, list) or [type(x) for x in entry] != [str, int, str]:
            raise ValueError(f"{path}: entries must be [path, label, class name], got {entry!r}")
        name, label, classname = entry
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{path}: image paths must stay inside {image_folder}, got {name!r}")
        check_path(name)
        name = _on_disk(image_folder, posixpath.normpath(name), listings)
        return make(impath=os.path.join(image_folder, name), label=label, classname=nfc(classname))

    return tuple([datum(x) for x in split.get(name, ())] for name in ("train", "val", "test"))


def _read_lists(path: Path, source: str) -> dict[str, list]:
    again = f"get it again from {source}" if source else "docs/own-images.md shows how to write it"
    if not path.is_file():
        get = f"get {path.name} from {source} and put it in {path.parent}" if source else again
        raise FileNotFoundError(f"the split file {path} is missing; {get}")
    text = read_text(path)
    wanted = f"{path} must be a JSON object with the lists train, val and test"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{wanted}, and is no JSON ({error}); {again}") from error
    keys = [key for key in content if split_of(key)] if isinstance(content, dict) else []
    split = {split_of(key): content[key] for key in keys}
    lists = all(isinstance(entries, list) for entries in split.values())
    if "test" not in split or len(split) < len(keys) or not lists:
        raise ValueError(f"{wanted} (val may be missing), got {str(content)[:60]}; {again}")
    return split


def _on_disk(folder: Path, name: str, listings: dict[str, dict[str, str]]) -> str:
    """Return the path of an image below `folder` in the Unicode form of the file system.

    Args:
        listings: of folders seen before: name in composed form to name on disk.
    """
    if name.isascii() or os.path.lexists(os.path.join(folder, name)):
        return name
    path = ""
    for part in name.split("/"):
        here = os.path.join(folder, path)
        if here not in listings:
            inner = os.listdir(here) if os.path.isdir(here) else []
            listings[here] = {nfc(other): other for other in inner}
        path = os.path.join(path, listings[here].get(nfc(part), part))
    return path


def check_classes(train: Items, val: Items | None, test: Items, unique_names: bool = True) -> None:
    """Raise ValueError unless labels are 0..n-1, all in train, and one to one with class names.

    Names must differ as CLIP reads them. Two labels may share a name if `unique_names` is False,
    as in ImageNet ("missile").
    """
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    for split, items in (("train", train), ("val", val), ("test", test)):
        if items is None:
            continue
        if not items:
            raise ValueError(f"the {split} split is empty, expected at least one image")
        for item in items:
            if split != "train" and item.label not in names:
                raise ValueError(
                    f"label {item.label} ({item.classname!r}) is in {split} but not in train; "
                    "every class needs training images"
                )
            name = names.setdefault(item.label, item.classname)
            label = labels.setdefault(item.classname, item.label)
            if name != item.classname:
                raise ValueError(
                    f"label {item.label} has two class names, {name!r} and {item.classname!r}; "
                    "expected one"
                )
            if unique_names and label != item.label:
                raise ValueError(
                    f"class {name!r} has two labels, {label} and {item.label}; expected one"
                )
        if sorted(names) != list(range(len(names))):
            gap = next(label for label in range(len(names)) if label not in names)
            raise ValueError(
                f"the labels of {len(names)} classes must be 0 to {len(names) - 1}, "
                f"got {min(names)} to {max(names)} without {gap}"
            )
    if len(names) == 1:
        raise ValueError(f"there is only the class {names[0]!r}, expected at least two")
    check_texts(dict(sorted(names.items())), unique_names)


def check_images(train: Items, val: Items | None, test: Items, follow_links: bool = False) -> None:
    """Raise ValueError if an image is listed with two labels, or twice.

    A list that serves as two splits, as the test images of ImageNet do, counts once.
    """
    splits = {"train": train, "val": val, "test": test}
    lists = {id(items): (split, items) for split, items in splits.items() if items}
    folders: dict[str, str] = {}
    seen: dict[str, tuple[str, Datum]] = {}
    for split, item in ((split, item) for split, items in lists.values() for item in items):
        path = _real(item.impath, folders) if follow_links else item.impath
        before, other = seen.setdefault(path, (split, item))
        if other is item or not path:
            continue
        if other.label != item.label:
            raise ValueError(
                f"image {item.impath} has two labels, {other.label} and {item.label}; expected one"
            )
        raise ValueError(
            f"image {item.impath} is listed twice, in {before} and in {split}; expected once, "
            "because accuracy is that on images which nothing was trained or chosen on"
        )


def _real(path: str, folders: dict[str, str]) -> str:
    """Return a path without links; `folders` holds those of folders seen before."""
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    path = os.path.join(folders[folder], name)
    return os.path.realpath(path) if os.path.islink(path) else path


def check_names(names: Iterable[tuple[object, str, str]], split: Path, file: Path) -> None:
    """Raise ValueError if the two names in a (class, name in split, name in file) differ."""
    for key, in_split, in_file in names:
        if in_split != in_file:
            raise ValueError(
                f"class {key} is called {in_split!r} in {split} and {in_file!r} in {file}; "
                "expected the same name, correct one of them"
            )


def check_files(
    splits: Iterable[Items | None], advice: str, layout: str = LAYOUTS, opened: bool = False
) -> None:
    """Raise FileNotFoundError if an image is missing, so that a run does not fail at its end.

    Of a split longer than MAX_CHECKED only an even sample is checked, because all of ImageNet on a
    network disk takes minutes. An image missed here fails in read_image, which names it.

    Args:
        splits: train, val and test.
        layout: where it is described how images are laid out.
        opened: also begin to read the images, and raise OSError for one that cannot be read.
    """
    for split, items in zip(("train", "val", "test"), splits, strict=True):
        looked_for = (items or [])[:: max(1, math.ceil(len(items or []) / MAX_CHECKED))]
        missing = [item.impath for item in looked_for if not os.path.isfile(item.impath)]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(looked_for)} {split} images looked for could not be "
                f"found, the first is {missing[0]}; put the images there (see {layout}). {advice}"
            )
        if opened and hasattr(Datum, "check"):  # upstream's has no such method
            for item in looked_for:
                item.check()


def relabel(item: Datum, label: int) -> Datum:
    """Return a copy of `item`, of the same type, with another label."""
    item = copy.copy(item)
    item._label = label  # Datum has no setter, neither here nor upstream
    return item


def subsample_classes(*splits: Items | None, subsample: str) -> list[Items | None]:
    """Return the splits with "all" classes, the "base" half or the "new" one, relabelled from 0.

    Base is the first ceil(n / 2) of the sorted labels of the first split, new is the rest.
    """
    if subsample == "all":
        return list(splits)
    labels = sorted({item.label for item in splits[0]})
    half = math.ceil(len(labels) / 2)
    kept = labels[:half] if subsample == "base" else labels[half:]
    if not kept:
        raise ValueError(f"SUBSAMPLE_CLASSES is 'new', but there is only the class {labels}")
    new = {label: i for i, label in enumerate(kept)}
    return [
        items and [relabel(item, new[item.label]) for item in items if item.label in new]
        for items in splits
    ]
