"""Unpack archives from untrusted sources."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

HAS_FILTER = hasattr(tarfile, "data_filter")


def extract_archive(path: Path, folder: Path) -> None:
    """Unpack a .zip, .tar, .tar.gz or .tgz into ``folder``.

    Raises:
        ValueError: the file ending is unknown, or a member would land outside ``folder``; in
            both cases nothing is unpacked.
    """
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                _check_inside(path, folder, name, folder / name)
            archive.extractall(folder)
    elif path.name.endswith((".tar", ".tar.gz", ".tgz")):
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                _check_member(path, folder, member)
            # "data" also drops owners and odd modes; older patch releases lack it.
            safe = {"filter": "data"} if HAS_FILTER else {}
            archive.extractall(folder, **safe)
    else:
        raise ValueError(f"Cannot unpack {path}: expected .zip, .tar, .tar.gz or .tgz.")


def _check_member(path: Path, folder: Path, member: tarfile.TarInfo) -> None:
    if not HAS_FILTER and (member.issym() or member.islnk()):
        # Links that point at links cannot be followed before they exist.
        raise ValueError(
            f"{path} holds the link {member.name!r}, which this Python cannot unpack safely: "
            "update it to its latest patch release, or unpack by hand."
        )
    target = folder / member.name
    _check_inside(path, folder, member.name, target)
    if member.issym():
        _check_inside(path, folder, member.name, target.parent / member.linkname)
    elif member.islnk():
        _check_inside(path, folder, member.name, folder / member.linkname)
    elif not (member.isfile() or member.isdir()):
        raise ValueError(
            f"{path} holds {member.name!r}, which is neither a file nor a folder: unpack by hand."
        )


def _check_inside(path: Path, folder: Path, name: str, target: Path) -> None:
    if not target.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{path} holds {name!r}, which would land outside {folder}: nothing was unpacked. "
            "Check where the archive comes from."
        )
