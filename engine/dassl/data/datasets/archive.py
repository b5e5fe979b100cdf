"""Unpack archives from untrusted sources."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

TORN = (EOFError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def extract_archive(path: Path, folder: Path) -> None:
    """Unpack a .zip, .tar, .tar.gz or .tgz into ``folder``.

    Raises:
        ValueError: the file ending is unknown, or a member would land outside ``folder`` or is
            neither file nor folder, and nothing is unpacked; or the file is torn.
        OSError: this Python, a patch release before 3.10.12 or 3.11.4, cannot check a tar.
    """
    try:
        _extract(path, folder)
    except TORN as error:
        raise ValueError(
            f"{path} is not whole ({error}): pack it, or download it, again."
        ) from error


def _extract(path: Path, folder: Path) -> None:
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            _check_inside(path, folder, archive.namelist())
            archive.extractall(folder)
    elif path.name.endswith((".tar", ".tar.gz", ".tgz")):
        if not hasattr(tarfile, "data_filter"):
            raise OSError(f"Cannot unpack {path} safely: update Python to its latest patch.")
        with tarfile.open(path) as archive:
            _check_inside(path, folder, archive.getnames())
            try:
                for member in archive.getmembers():  # all, before the first is unpacked
                    tarfile.data_filter(member, str(folder))
            except tarfile.FilterError as error:
                raise ValueError(
                    f"{path} holds {member.name!r}, which would land outside {folder}, or is no "
                    f"file ({error}): nothing was unpacked. Check where the archive comes from."
                ) from error
            archive.extractall(folder, filter="data")
    else:
        raise ValueError(f"Cannot unpack {path}: expected .zip, .tar, .tar.gz or .tgz.")


def _check_inside(path: Path, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{path} holds {name!r}, which would land outside {folder}: nothing was unpacked. "
                "Check where the archive comes from."
            )
