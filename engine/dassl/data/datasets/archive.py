"""Unpack archives from untrusted sources."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

TORN = (
    EOFError, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error
)  # fmt: skip
REFUSED = getattr(tarfile, "FilterError", ())  # older patch releases of Python lack it


def extract_archive(path: Path, folder: Path) -> None:
    """Unpack a .zip, .tar, .tar.gz or .tgz into ``folder``.

    Raises:
        ValueError: the file ending is unknown; a member would land outside ``folder``, or is
            neither a file nor a folder; or the file is torn.
        OSError: this Python, a patch release before 3.10.12 or 3.11.4, cannot check a tar.
    """
    try:
        _extract(path, folder)
    except REFUSED as error:
        raise ValueError(
            f"{path} holds {error.tarinfo.name!r}, which would land outside {folder}, or is not a "
            f"regular file ({error}): nothing was written there. "
            "Check where the archive comes from."
        ) from error
    except TORN as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} is not whole ({reason}): pack it, or download it, again."
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
            for member in archive.getmembers():  # all, before the first is unpacked
                tarfile.data_filter(member, str(folder))
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
