"""Images found in folders: listed in one order everywhere, and split by a seed of their own."""

import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder` that are not hidden, sorted."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def images_below(folder: Path) -> list[str]:
    """Paths of the images in `folder`, at any depth and relative to it, with "/".

    Sorted, for the order of os.scandir is the file system's own.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.name.lower().endswith(SUFFIXES):
                found.append(entry.name)
            elif entry.is_dir():
                found += [f"{entry.name}/{path}" for path in images_below(Path(entry.path))]
    return sorted(found)


def images_by_class(folder: Path) -> dict[str, list[str]]:
    """Class folder -> its images at any depth; both sorted.

    Raises:
        ValueError: no class folder, or one without an image.
    """
    classes = {
        name: [f"{name}/{path}" for path in images_below(folder / name)]
        for name in subfolders(folder)
    }
    if not classes:
        raise ValueError(f"{folder} must hold a folder for every class, it holds no folder")
    empty = [name for name, images in classes.items() if not images]
    if empty:
        raise ValueError(
            f"every class needs images, the class folder {folder / empty[0]} holds none "
            f"({len(empty)} of {len(classes)} are empty): fill it or delete it"
        )
    return classes


def random_split(
    classes: Mapping[str, Iterable[str]], seed: int
) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, list[str]]]:
    """(train, val, test) with about 50, 20 and 30 percent of every class, the shares of CoOp.

    Every class has a generator of its own, so that another class changes nothing in this one, and
    Python's global `random` stays as it is.

    Raises:
        ValueError: a class with fewer than three images.
    """
    train, val, test = {}, {}, {}
    for name, images in classes.items():
        images = sorted(images)
        if len(images) < 3:
            raise ValueError(
                f"class {name!r} has {len(images)} images, a random split needs at least 3 (one "
                "each for train, val and test): add images or leave the class out"
            )
        random.Random(f"{seed}/{name}").shuffle(images)
        n_val, n_test = (max(1, round(len(images) * share)) for share in (0.2, 0.3))
        cut = len(images) - n_val - n_test
        train[name], val[name] = images[:cut], images[cut : cut + n_val]
        test[name] = images[cut + n_val :]
    return train, val, test


def read_names(path: Path) -> dict[str, str]:
    """Folder -> class name, of a file with one class a line: "n01440764 tench".

    The folder ends at the first tab, or in a line without a tab at the first space.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line without a name, or a folder that is named twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the file of class names {path} does not exist")
    names: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        folder, _, name = (part.strip() for part in line.partition("\t" if "\t" in line else " "))
        if not name:
            raise ValueError(f'{path}, line {number}: expected "folder class name", got {line!r}')
        if names.setdefault(folder, name) != name:
            raise ValueError(
                f"{path}, line {number}: folder {folder} has two class names, "
                f"{names[folder]!r} and {name!r}; expected one"
            )
    return names


def check_same_classes(expected: Iterable[str], found: Iterable[str], where: str) -> None:
    """ValueError unless both hold the same class folders; `where` says whose they are."""
    expected, found = set(expected), set(found)
    if expected != found:
        missing, other = sorted(expected - found), sorted(found - expected)
        raise ValueError(
            f"{where} must be the same {len(expected)} classes, got {len(found)}: "
            f"{len(missing)} missing {missing[:3]}, {len(other)} others {other[:3]}"
        )
