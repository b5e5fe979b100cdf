"""Check that archives unpack into their folder and nowhere else."""

import io
import tarfile
import zipfile

import pytest
from dassl.data.datasets.archive import extract_archive


def make_tar(path, name, link=None):
    member = tarfile.TarInfo(name)
    with tarfile.open(path, "w:gz") as archive:
        if link is None:
            member.size = 2
            archive.addfile(member, io.BytesIO(b"ok"))
        else:
            member.type, member.linkname = tarfile.SYMTYPE, link
            archive.addfile(member)


def make_zip(path, name):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "ok")


@pytest.mark.parametrize(("make", "file"), [(make_tar, "a.tar.gz"), (make_zip, "a.zip")])
def test_members_stay_inside(tmp_path, make, file):
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder / file, "images/a.txt")
    extract_archive(folder / file, folder)
    assert (folder / "images" / "a.txt").read_text() == "ok"

    for name in ("../out.txt", str(tmp_path / "out.txt")):
        make(folder / file, name)
        with pytest.raises(ValueError, match="would land outside"):
            extract_archive(folder / file, folder)
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(("make", "file"), [(make_tar, "a.tar.gz"), (make_zip, "a.zip")])
def test_a_torn_archive_is_named(tmp_path, make, file):
    make(tmp_path / file, "inside.txt")
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{file} is not whole"):
        extract_archive(tmp_path / file, tmp_path / "data")


def test_links_stay_inside(tmp_path):
    make_tar(tmp_path / "a.tar.gz", "link", link="../../etc")
    with pytest.raises(ValueError, match="would land outside"):
        extract_archive(tmp_path / "a.tar.gz", tmp_path)
    with pytest.raises(ValueError, match="expected .zip, .tar"):
        extract_archive(tmp_path / "a.rar", tmp_path)


def test_a_link_that_leads_outside_through_another(tmp_path):
    """Found only while unpacking, when the first link is there."""
    folder, path = tmp_path / "data", tmp_path / "a.tar"
    folder.mkdir()
    with tarfile.open(path, "w") as archive:
        for name, target in (("up", ".."), ("up/out", "../..")):
            member = tarfile.TarInfo(f"sub/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    with pytest.raises(ValueError, match="Check where the archive comes from"):
        extract_archive(path, folder)
    assert not list(tmp_path.glob("out"))


def test_a_device_is_no_file(tmp_path):
    member = tarfile.TarInfo("disk")
    member.type = tarfile.BLKTYPE
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("first"))
        archive.addfile(member)
    with pytest.raises(
        ValueError, match="'disk', which .* or is not a regular file .*nothing was written there"
    ):
        extract_archive(tmp_path / "a.tar", tmp_path)
    assert not (tmp_path / "first").exists()


def test_a_python_without_the_filter_unpacks_no_tar(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    make_tar(tmp_path / "a.tar.gz", "a.txt")
    with pytest.raises(OSError, match="safely: update Python to its latest patch"):
        extract_archive(tmp_path / "a.tar.gz", tmp_path)
