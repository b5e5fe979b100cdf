"""Download the files of a data set and put them where the loaders expect them.

An archive is downloaded to DATA/<data set>/.prepare, checked and unpacked there, and the parts that
are needed are moved into place in one step each. So whatever is in place is complete, and an
interrupted run resumes where it stopped: in the middle of a file, or with the next one.
"""

import hashlib
import logging
import os
import shutil
from pathlib import Path

from dassl.data.datasets.archive import extract_archive

from datasets import ON_DISK
from datasets.sources import Source

logger = logging.getLogger("dassl")

WORK = ".prepare"  # folder for what is not complete yet


def prepare(name: str, root: Path, mirror: str = "") -> None:
    """Download what is missing of one data set.

    Args:
        mirror: an address that serves <mirror>/<folder of the data set>/<file name>; if empty,
            the files come from their authors.

    Raises:
        OSError, ValueError: a file cannot be downloaded, or is not what it should be.
    """
    loader = ON_DISK[name]
    folder = root / loader.dataset_dir
    for source in loader.sources:
        if all((folder / target).exists() for target in source.targets):
            logger.info("%s: %s is there", name, ", ".join(source.targets))
            continue
        url = f"{mirror.rstrip('/')}/{loader.dataset_dir}/{source.name}" if mirror else source.url
        _bring(source, url, folder)
        logger.info("%s: %s is ready", name, ", ".join(source.targets))
    shutil.rmtree(folder / WORK, ignore_errors=True)
    if loader.by_hand:
        logger.info("%s, by hand: %s", name, loader.by_hand.format(folder=folder))


def _bring(source: Source, url: str, folder: Path) -> None:
    """Download one source and put its files in place."""
    archive = folder / WORK / source.name
    archive.parent.mkdir(parents=True, exist_ok=True)
    fetch(url, archive)
    verify(archive, source.checksum, url)
    if not source.places:
        os.replace(archive, folder / source.name)
        return
    unpacked = folder / WORK / f"{source.name}.unpacked"
    unpack(archive, unpacked, url)
    if source.inner:
        unpack(_member(unpacked, source.inner, url), unpacked / "inner", url)
        unpacked = unpacked / "inner"
    for member, target in source.places:
        if not (folder / target).exists():  # an earlier, interrupted run may have moved it
            os.replace(_member(unpacked, member, url), folder / target)
    archive.unlink()


def _member(unpacked: Path, member: str, url: str) -> Path:
    path = unpacked / member
    if not path.exists():
        held = sorted(p.name for p in unpacked.iterdir())[:5]
        raise ValueError(
            f"the archive from {url} must hold {member}, it holds {held}: move what is needed into "
            f"place by hand, or delete {unpacked.parent} to download it again"
        )
    return path


def fetch(url: str, path: Path) -> None:
    """Download `url` to `path`, resuming an interrupted download.

    A file that is already there is complete, or was put there by hand.

    Raises:
        OSError: the file cannot be downloaded; the part received so far is kept for the next time.
    """
    if path.is_file():
        return
    try:
        import gdown  # optional
    except ImportError:
        raise OSError(f"downloading {url} needs gdown: pip install gdown") from None
    begun = {part: part.stat().st_size for part in path.parent.glob(f"{path.name}*.part")}
    try:
        try:
            gdown.download(url, str(path), resume=True, use_cookies=False)
        except gdown.exceptions.DownloadError:
            # Servers such as python -m http.server do not support ranges: download again, once.
            stuck = [p for p, size in begun.items() if p.exists() and p.stat().st_size == size]
            if not stuck:
                raise
            for part in stuck:
                part.unlink()
            gdown.download(url, str(path), use_cookies=False)
    except (gdown.exceptions.DownloadError, OSError) as error:
        raise OSError(
            f"{url} was not downloaded completely ({' '.join(str(error).split())}): run the "
            f"command again to resume, or put the file at {path} by hand"
        ) from error


def verify(path: Path, checksum: str, url: str) -> None:
    """Delete the file and raise ValueError unless it has the published checksum."""
    if not checksum:
        return
    method, _, expected = checksum.partition(":")
    digest = hashlib.new(method)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        path.unlink()
        raise ValueError(
            f"{url} has the {method} {digest.hexdigest()}, expected {expected}; it is deleted, run "
            "the command again to download a new copy"
        )


def unpack(archive: Path, folder: Path, url: str) -> None:
    """Unpack into a new folder.

    Raises:
        ValueError: a member would leave the folder, or the archive is broken; it is deleted.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    logger.info("Unpacking %s", archive)
    try:
        extract_archive(archive, folder)
    except ValueError as error:
        archive.unlink()
        raise ValueError(f"{error} It came from {url}, and is deleted.") from error
