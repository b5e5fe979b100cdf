"""List images in folders, in the same order on every machine, and split them by a seed."""

import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from datasets.text import check_path, nfc
from prompting.errors import counted
from prompting.files import read_text

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
DEEPEST = 100
# What systems and not people put next to images.
SYSTEM = (
    *("__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN"),
    "System Volume Information",
)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is passed over in silence."""
    return name.startswith(".") or name in SYSTEM


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder` that are not hidden, sorted.

    Raises:
        ValueError: a link leads nowhere; it may have been to a folder.
    """
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if not is_hidden(entry.name)]
    for entry in seen:
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise ValueError(f"{entry.path} is a link that leads nowhere: correct or delete it")
    return sorted(entry.name for entry in seen if _is_folder(entry))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def images_below(
    folder: Path, passed_over: Counter | None = None, above: tuple[tuple[int, int], ...] = ()
) -> list[str]:
    """Return the paths of the images in `folder`, at any depth and relative to it, with "/".

    They are sorted, because the order of os.scandir depends on the file system.

    Args:
        passed_over: counts the other files that are not hidden, by their suffix.
        above: the folders that this one lies in, by device and number.

    Raises:
        ValueError: a link leads to a folder that it lies in, folders lie too deep, or a path cannot
            be written down.
    """
    found, status = [], os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise ValueError(f"{folder} is, by a link, a folder that it lies in: delete the link")
    if len(above) > DEEPEST:
        raise ValueError(f"{folder} lies more than {DEEPEST} folders deep: move it up")
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            image = entry.name.lower().endswith(SUFFIXES)
            if image and not entry.is_dir(follow_symlinks=False):
                check_path(entry.path)
                found.append(entry.name)
            elif _is_folder(entry):
                below = images_below(Path(entry.path), passed_over, (*above, here))
                found += [f"{entry.name}/{path}" for path in below]
            elif passed_over is not None:
                passed_over[Path(entry.name).suffix.lower()] += 1
    return sorted(found)


def loose_images(folder: Path) -> int:
    """Return how many images lie directly in a folder."""
    names = [name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES)]
    return sum(not is_hidden(name) and not (folder / name).is_dir() for name in names)


def images_by_class(folder: Path, passed_over: Counter | None = None) -> dict[str, list[str]]:
    """Return a dict from class folder to its images at any depth; both are sorted.

    Class folders are named in Unicode's composed form, paths as the file system names them.

    Args:
        passed_over: see `images_below`.

    Raises:
        ValueError: there is no class folder, one without an image, or two of one name.
    """
    classes: dict[str, list[str]] = {}
    for name in subfolders(folder):
        if nfc(name) in classes:
            raise ValueError(f"{folder} has two folders {name}, in two Unicode forms: rename one")
        paths = images_below(folder / name, passed_over)
        classes[nfc(name)] = [f"{name}/{path}" for path in paths]
    if not classes:
        raise ValueError(
            f"{folder} must hold one folder per class, it holds no folder, and directly in it "
            f"{counted(loose_images(folder), 'image')}"
        )
    empty = [name for name, images in classes.items() if not images]
    if empty:
        raise ValueError(
            f"every class needs images, the class folder {folder / empty[0]} holds none "
            f"({len(empty)} of {len(classes)} are empty): add images ({', '.join(SUFFIXES)}) or "
            "delete it"
        )
    return dict(sorted(classes.items()))


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
                f"class {name!r} has {counted(len(images), 'image')}, a random split needs at "
                "least 3 (one each for train, val and test): add images or leave the class out"
            )
        random.Random(f"{seed}/{name}").shuffle(images)
        n_val, n_test = (max(1, round(len(images) * share)) for share in (0.2, 0.3))
        cut = len(images) - n_val - n_test
        train[name], val[name] = images[:cut], images[cut : cut + n_val]
        test[name] = images[cut + n_val :]
    return train, val, test


def read_names(path: Path) -> dict[str, str]:
    """Read a dict from folder to class name; the file has lines such as "n01440764 tench".

    The folder ends at the first tab, or in a line without a tab at the first space. Both are in
    Unicode's composed form.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line has no name, a folder has two names, or there is no line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the file of class names {path} does not exist")
    names: dict[str, str] = {}
    for number, line in enumerate(nfc(read_text(path)).splitlines(), start=1):
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
    if not names:
        raise ValueError(f'{path} is empty: expected lines of "folder class name"')
    return names


def check_same_classes(expected: Iterable[str], found: Iterable[str], where: str) -> None:
    """Raise ValueError unless both hold the same class folders; `where` names them."""
    expected, found = set(expected), set(found)
    if expected != found:
        missing, other = sorted(expected - found), sorted(found - expected)
        raise ValueError(
            f"{where} must be the same {len(expected)} classes, got {len(found)}: "
            f"{len(missing)} missing {missing[:3]}, {counted(len(other), 'other')} {other[:3]}"
        )
