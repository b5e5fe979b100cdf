"""List images in folders, in the same order on every machine, and split them by a seed."""

import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder` that are not hidden, sorted."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def images_below(folder: Path) -> list[str]:
    """Return the paths of the images in `folder`, at any depth and relative to it, with "/".

    They are sorted, because the order of os.scandir depends on the file system.
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
    """Return a dict from class folder to its images at any depth; both are sorted.

    Raises:
        ValueError: there is no class folder, or one without an image.
    """
    classes = {
        name: [f"{name}/{path}" for path in images_below(folder / name)]
        for name in subfolders(folder)
    }
    if not classes:
        raise ValueError(f"{folder} must hold one folder per class, it holds no folder")
    empty = [name for name, images in classes.items() if not images]
    if empty:
        raise ValueError(
            f"every class needs images, the class folder {folder / empty[0]} holds none "
            f"({len(empty)} of {len(classes)} are empty): add images or delete it"
        )
    return classes


def random_split(
    classes: Mapping[str, Iterable[str]], seed: int
) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, list[str]]]:
    """Return (train, val, test) with about 50, 20 and 30 percent of every class, as in CoOp.

    Every class has its own generator, so that adding a class does not change the others, and
    Python's global `random` is not used.

    Raises:
        ValueError: a class has fewer than three images.
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
    """Read a dict from folder to class name; the file has lines such as "n01440764 tench".

    The folder ends at the first tab, or in a line without a tab at the first space.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line has no name, or a folder has two names.
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
    """Raise ValueError unless both hold the same class folders; `where` names them."""
    expected, found = set(expected), set(found)
    if expected != found:
        missing, other = sorted(expected - found), sorted(found - expected)
        raise ValueError(
            f"{where} must be the same {len(expected)} classes, got {len(found)}: "
            f"{len(missing)} missing {missing[:3]}, {len(other)} others {other[:3]}"
        )
