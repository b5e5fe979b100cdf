"""Copy data sets to a node's own disk, once per node, before the first run that reads them."""

import hashlib
import logging
import os
import shutil
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.datasets.archive import extract_archive

from benchmark.calls import Call
from datasets.imagenet import CLASSNAMES
from experiment.cli import expected
from experiment.lock import InUse, claim

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
logger = logging.getLogger("dassl")


def staged(call: Call, stage: Path) -> Call:
    """Return a call that reads its data set below `stage`, where it is now.

    Raises:
        OSError, ValueError: it could not be copied, or is not what it was.
    """
    arguments = list(call.arguments)
    folder = DATASET_REGISTRY.get(expected(arguments).DATASET.NAME).dataset_dir
    if folder and "--root" in arguments:
        at = arguments.index("--root") + 1
        arguments[at] = str(_copy(Path(arguments[at]).resolve(), folder, stage))
    return replace(call, arguments=arguments)


def _copy(root: Path, folder: str, stage: Path) -> Path:
    """Copy root/folder, or unpack root/folder.tar or another archive; return the new root."""
    home = stage / hashlib.sha256(str(root / folder).encode()).hexdigest()[:12]
    while not home.exists():
        try:
            with claim(stage / f"{home.name}.lock"):
                if not home.exists():
                    _fill(root, folder, home)
        except InUse:  # another job of this node is about it
            time.sleep(1)
    return home


def _fill(root: Path, folder: str, home: Path) -> None:
    """Make the copy under another name, which it loses once it is checked."""
    draft = home.with_suffix(".part")
    shutil.rmtree(draft, ignore_errors=True)
    packed = [path for path in (root / f"{folder}{end}" for end in ARCHIVES) if path.is_file()]
    logger.info("Copying %s to %s", packed[0] if packed else root / folder, home)
    if packed:
        extract_archive(packed[0], draft)
        wanted = _sizes_in(packed[0])
    else:
        shutil.copytree(root / folder, draft / folder)
        wanted = {os.path.normpath(Path(folder, name)): n for name, n in _sizes(root / folder)}
    found = dict(_sizes(draft))
    wrong = sorted(name for name, size in wanted.items() if found.get(name) != size)
    if wrong or not (draft / folder).is_dir():
        raise ValueError(
            f"The copy of {root / folder} in {draft} lacks {wrong[0] if wrong else folder}: look "
            f"after that disk{' and ' + packed[0].name if packed else ''}, and run again."
        )
    names = root / "imagenet" / CLASSNAMES.name  # ImageNet's variants look there
    own = draft / folder / names.name
    if folder.startswith("imagenet") and names.is_file() and not own.exists():
        shutil.copy(names, own)
    os.rename(draft, home)


def _sizes(folder: Path) -> list[tuple[str, int]]:
    """List the files below a folder, with their sizes."""
    paths = (Path(at, name) for at, _, names in os.walk(folder, followlinks=True) for name in names)
    return [(str(path.relative_to(folder)), path.stat().st_size) for path in paths]


def _sizes_in(archive: Path) -> dict[str, int]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            found = [(i.filename, i.file_size) for i in file.infolist() if not i.is_dir()]
    else:
        with tarfile.open(archive) as file:
            found = [(m.name, m.size) for m in file.getmembers() if m.isfile()]
    return {os.path.normpath(name): size for name, size in found}
