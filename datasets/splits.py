"""Read split files, and check and cut the lists of a data set; no function here has state."""

import copy
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from dassl.data.datasets import Datum
from dassl.utils import read_json

from datasets.sources import LAYOUTS

SUBSAMPLES = ("all", "base", "new")
MAX_CHECKED = 5000  # images looked for per split

Items = list[Datum]


class ImageFile(Datum):
    """Hold an image on disk; if it cannot be read, the error says how to check the data set."""

    def __init__(self, impath: str, label: int, classname: str, advice: str = "") -> None:
        super().__init__(impath=impath, label=label, classname=classname)
        self.advice = advice

    def open(self):
        try:
            return super().open()
        except OSError as error:
            raise type(error)(f"{error} {self.advice}".strip()) from error


def read_split(
    path: Path, image_folder: Path, make: Callable[..., Datum] = Datum, source: str = LAYOUTS
) -> tuple[Items, Items, Items]:
    """Read (train, val, test) from the JSON file {"train": [[path, label, class name], ...], ...}.

    Paths are relative to `image_folder`, with "/"; one that leaves it is refused (ValueError).
    `make` builds an item; `source` is where the file can be downloaded.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"the split file {path} is missing; get {path.name} from {source} "
            f"and put it in {path.parent}"
        )
    try:
        split = read_json(str(path))
        train, val, test = split["train"], split["val"], split["test"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be a JSON object with the lists train, val and test, got {error!r}; "
            f"get it again from {source}"
        ) from error

    def datum(entry: list) -> Datum:
        if not isinstance(entry, list) or [type(x) for x in entry] != [str, int, str]:
            raise ValueError(f"{path}: entries must be [path, label, class name], got {entry!r}")
        name, label, classname = entry
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{path}: image paths must stay inside {image_folder}, got {name!r}")
        return make(impath=os.path.join(image_folder, name), label=label, classname=classname)

    return [datum(x) for x in train], [datum(x) for x in val], [datum(x) for x in test]


def check_classes(train: Items, val: Items | None, test: Items, unique_names: bool = True) -> None:
    """Raise ValueError unless labels are 0..n-1, all in train, and one to one with class names.

    Two labels may share a name if `unique_names` is False, as in ImageNet ("missile").
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


def check_images(*splits: Items | None) -> None:
    """Raise ValueError if an image is listed with two labels."""
    labels: dict[str, int] = {}
    for item in (item for items in splits for item in items or []):
        if item.impath and labels.setdefault(item.impath, item.label) != item.label:
            raise ValueError(
                f"image {item.impath} has two labels, {labels[item.impath]} and {item.label}; "
                "expected one"
            )


def check_names(names: Iterable[tuple[object, str, str]], split: Path, file: Path) -> None:
    """Raise ValueError if the two names in a (class, name in split, name in file) differ."""
    for key, in_split, in_file in names:
        if in_split != in_file:
            raise ValueError(
                f"class {key} is called {in_split!r} in {split} and {in_file!r} in {file}; "
                "expected the same name, correct one of them"
            )


def check_files(train: Items, val: Items | None, test: Items, advice: str = "") -> None:
    """Raise FileNotFoundError if an image is missing, so that a run does not fail at its end.

    Of a split longer than MAX_CHECKED only an even sample is checked, because all of ImageNet on a
    network disk takes minutes. An image missed here fails in read_image, which names it.
    """
    for split, items in (("train", train), ("val", val), ("test", test)):
        looked_for = (items or [])[:: max(1, math.ceil(len(items or []) / MAX_CHECKED))]
        missing = [item.impath for item in looked_for if not os.path.isfile(item.impath)]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(looked_for)} {split} images looked for do not exist, "
                f"the first is {missing[0]}; unpack the images there (see {LAYOUTS}). {advice}"
            )


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
