"""Fetch the files of a data set and lay them out as the loaders expect them.

An archive comes into DATA/<data set>/.prepare, is checked, unpacked there, and what is needed of it
is moved to its place in one step. So whatever is in its place is whole, and a run that was killed
is taken up where it stopped: in the middle of a file, or with the next one.
"""

import gzip
import hashlib
import logging
import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

from dassl.data.datasets.archive import extract_archive

from datasets import ON_DISK
from datasets.sources import Source

logger = logging.getLogger("dassl")

WORK = ".prepare"  # folder for what is not complete yet


def prepare(name: str, root: Path, mirror: str = "") -> None:
    """Fetch what is missing of one data set.

    Args:
        mirror: an address that has the files as <mirror>/<folder of the data set>/<file name>;
            without one they come from their authors.

    Raises:
        OSError, ValueError: a file cannot be had, or is not what it should be.
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
    """Fetch one source and put what it brings in place."""
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
        _move(_member(unpacked, member, url), folder / target)
    archive.unlink()


def _member(unpacked: Path, member: str, url: str) -> Path:
    path = unpacked / member
    if not path.exists():
        held = sorted(p.name for p in unpacked.iterdir())[:5]
        raise ValueError(
            f"the archive from {url} must hold {member}, it holds {held}: move what is needed into "
            f"place by hand, or delete {unpacked.parent} to download it anew"
        )
    return path


def _move(path: Path, target: Path) -> None:
    """Into place in one step; an earlier run may have been killed between two of them."""
    if not target.exists():
        os.replace(path, target)


def fetch(url: str, path: Path) -> None:
    """Download `url` to `path`, from where an interrupted download stopped.

    A file that lies there already came whole, or was put there by hand.

    Raises:
        OSError: the file cannot be had; what came of it is kept for the next time.
    """
    if path.is_file():
        return
    try:
        import gdown
    except ImportError:
        raise OSError(f"downloading {url} needs gdown: pip install gdown") from None
    begun = {part: part.stat().st_size for part in path.parent.glob(f"{path.name}*.part")}
    try:
        try:
            gdown.download(url, str(path), resume=True, use_cookies=False)
        except gdown.exceptions.DownloadError:
            # Servers such as python -m http.server know no ranges: begin again, once.
            stuck = [p for p, size in begun.items() if p.exists() and p.stat().st_size == size]
            if not stuck:
                raise
            for part in stuck:
                part.unlink()
            gdown.download(url, str(path), use_cookies=False)
    except (gdown.exceptions.DownloadError, OSError) as error:
        raise OSError(
            f"{url} did not come whole ({' '.join(str(error).split())}): run the command again to "
            f"go on, or put the file at {path} by hand"
        ) from error


def verify(path: Path, checksum: str, url: str) -> None:
    """ValueError, and the file is deleted, unless it has the published checksum."""
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
            f"{url} came with the {method} {digest.hexdigest()}, expected {expected}; it is "
            "deleted, run the command again to download it anew"
        )


def unpack(archive: Path, folder: Path, url: str) -> None:
    """Unpack into a new folder.

    Raises:
        ValueError: a member that would leave the folder, or a broken archive, which is deleted.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    logger.info("Unpacking %s", archive)
    try:
        extract_archive(archive, folder)
    except ValueError:
        archive.unlink()
        raise
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        archive.unlink()
        raise ValueError(
            f"{url} is no whole archive ({error}); it is deleted, run the command again"
        ) from error
