"""Tell splits, classes and mere containers apart among the folders of one's own images.

A folder is a class unless its name or what it holds says otherwise; what is unclear is refused,
never guessed. A file of class names settles it: the folders that it lists are classes.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from datasets.folders import loose_images, subfolders
from datasets.text import nfc, shorten

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
OTHER_SPLITS = {"eval", "evaluation", "holdout", "unlabeled", "unlabelled"}
CONTAINERS = {
    *("image", "images", "img", "imgs", "photos", "pictures", "pics"),
    *("jpg", "jpeg", "jpegs", "png", "pngs", "data", "dataset", "datasets"),
    *("annotation", "annotations", "labels", "masks", "segmentation", "classes", "categories"),
}
# Words that make no class of a name such as train_set or seg_train.
FILLERS = {"set", "sets", "split", "folder", "public", "private", "seg", "pred", "class"}
RULE = (
    "expected one folder per class, at least two, or such folders in train, test and maybe val "
    "(see docs/own-images.md)"
)
SETTLE = "list all class folders in a file of class names (DATASET.IMAGE_FOLDER.CLASSNAMES)"


def split_of(name: str) -> str | None:
    """Return train, val or test for the name of a split, else None."""
    return SPLITS.get(name.lower())


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _stem(name: str) -> tuple[str, ...]:
    """Return the words of a name that has that of a split, without it: mnist_train, mnist_test."""
    words = _words(name)
    stem = tuple(word for word in words if word not in SPLITS)
    return stem if len(stem) < len(words) else ()


def is_no_class(name: str) -> bool:
    """Return whether all words of a name are those of splits and containers: seg_train, JPEGImages.

    A train is a vehicle too, so this name alone counts as a class.
    """
    words = _words(name)
    named = {*SPLITS, *OTHER_SPLITS, *CONTAINERS}
    return (
        name.lower() != "train"
        and all(word in named | FILLERS for word in words)
        and any(word in named for word in words)
    )


def split_folders(folder: Path, listed: Collection[str]) -> dict[str, str]:
    """Return a dict from train, val, test to the folders of these splits; {} for class folders.

    Args:
        listed: the folders of a file of class names; if all are in it, they are classes.

    Raises:
        ValueError: splits next to other folders, one split twice, or splits that are not enough.
    """
    found = subfolders(folder)
    splits = {name: split_of(name) for name in found if split_of(name)}
    trains = [name for name in splits if name.lower() == "train"]
    if len(splits) == len(trains) == 1 < len(found) and loose_images(folder / trains[0]):
        return {}  # a vehicle, among others
    if not splits or {nfc(name) for name in found} <= set(listed):
        return {}
    others = [name for name in found if name not in splits]
    if others:
        raise ValueError(
            f"{folder} has folders of splits, {shorten(list(splits))}, and expected no others next "
            f"to them, got {shorten(others)}: move them away; if all are classes, {SETTLE}"
        )
    parts = {split: name for split in ("train", "val", "test") for name in splits
             if splits[name] == split}  # fmt: skip
    if len(parts) < len(splits):
        raise ValueError(
            f"{folder} has two folders of one split, got {shorten(list(splits))}: remove one"
        )
    if not ({"train", "test"} <= set(parts) or set(parts) == {"test"}):
        raise ValueError(
            f"{folder} has folders of splits, expected train and test (val may be missing), or "
            f"test alone, got {shorten(list(splits))}: rename one to test if you mean to test on "
            "it, or move all images of a class into one folder"
        )
    return parts


def check_class_folders(folder: Path, classes: Mapping[str, list[str]], listed: bool) -> None:
    """Raise ValueError unless the folders in `folder` are classes, as a person would say.

    Args:
        classes: see `images_by_class`.
        listed: whether a file of class names lists them.
    """
    if len(classes) == 1:
        raise ValueError(
            f"{folder} holds only the folder {next(iter(classes))}: {RULE}; if that folder holds "
            "the classes, move them one level up"
        )
    if listed:
        return
    stems = Counter(_stem(name) for name in classes)
    for name, images in classes.items():
        if is_no_class(name) or _stem(name) and stems[_stem(name)] > 1:
            raise ValueError(
                f"{folder / name} has the name of a split or a container, not of a class: {RULE}; "
                f"rename it if it is a class, or {SETTLE}"
            )
        inner = Counter(path.split("/")[1] for path in images if path.count("/") > 1)
        if len(inner) > 1 and inner.total() > len(images) / 2:
            raise ValueError(
                f"{folder / name} holds most of its images in {len(inner)} folders, "
                f"{shorten(sorted(inner), 4)}, which may be classes of their own: {RULE}; if "
                f"{name} is a class, {SETTLE}"
            )
