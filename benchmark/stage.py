"""Copy data sets to a node's own disk, once per node, before the first run that reads them."""

import hashlib
import logging
import os
import shutil
import time
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
        _unpack(packed[0], folder, draft)
    else:
        shutil.copytree(root / folder, draft / folder)
        wrong = sorted(_sizes(root / folder) - _sizes(draft / folder))
        if wrong:
            raise ValueError(
                f"The copy of {root / folder} in {draft} lacks {wrong[0][0]}: check that disk, and "
                "run again."
            )
    names = root / "imagenet" / CLASSNAMES.name  # ImageNet's variants look there
    own = draft / folder / names.name
    if folder.startswith("imagenet") and names.is_file() and not own.exists():
        shutil.copy(names, own)
    os.rename(draft, home)


def _unpack(archive: Path, folder: str, draft: Path) -> None:
    """Unpack an archive of a data set, and refuse one that is torn or holds something else."""
    extract_archive(archive, draft)
    if not (draft / folder).is_dir():
        raise ValueError(f"{archive} holds no folder {folder}: pack it again.")


def _sizes(folder: Path) -> set[tuple[str, int]]:
    """Return the files below a folder, with their sizes."""
    paths = (Path(at, name) for at, _, names in os.walk(folder, followlinks=True) for name in names)
    return {(str(path.relative_to(folder)), path.stat().st_size) for path in paths}
