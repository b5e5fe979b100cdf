"""Test `python -m datasets prepare`, with a server in this process and archives of true layout."""

import functools
import hashlib
import http.server
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from datasets import FAMILY, ON_DISK, prepare
from datasets.__main__ import main
from tests.datasets.served import Handler, serve, write_archive

ROOT = Path(__file__).resolve().parents[2]
NAMES = [loader.__name__ for loader in FAMILY]


@pytest.fixture
def server(tmp_path):
    """Serve a folder; yield (the folder, its address)."""
    folder = tmp_path / "served"
    folder.mkdir()
    Handler.ranges, Handler.slow, Handler.log = True, 0.0, []
    handler = functools.partial(Handler, directory=str(folder))
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture
def offer(miniature, server, monkeypatch):
    """Return a function that serves a data set's miniature, and returns it and the address."""

    def offer(name):
        world = miniature(name)
        if name == "OxfordFlowers":
            names = {str(i + 1): c for i, c in enumerate(world.names)}
            (world.folder / "cat_to_name.json").write_text(str(names).replace("'", '"'))
        serve(name, world, server[0], monkeypatch)
        return world, server[1]

    return offer


def get(root, url, *names):
    return main(["prepare", "--root", str(root), "--mirror", url, *names])


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_is_laid_out_and_loads(name, offer, tmp_path, load, capsys):
    world, url = offer(name)
    root = tmp_path / "new"
    by_hand = {"ImageNet": ["images"], "StanfordCars": ["cars_train", "cars_test"]}.get(name, [])
    status = get(root, url, name)
    if by_hand:
        out = capsys.readouterr().out
        assert status == 1 and f"{name}, by hand: " in out
        for folder in by_hand:
            assert str(root / world.folder.name / folder) in out
            shutil.copytree(world.folder / folder, root / world.folder.name / folder)
        status = get(root, url, name)
    assert status == 0
    assert load(name, root).classnames == world.names
    assert not (root / world.folder.name / ".prepare").exists()


def test_what_is_there_is_not_fetched_again(offer, tmp_path):
    _, url = offer("DescribableTextures")
    assert get(tmp_path / "new", url, "DescribableTextures") == 0
    Handler.log.clear()
    assert get(tmp_path / "new", url, "DescribableTextures") == 0
    assert Handler.log == []
    (tmp_path / "new" / "dtd" / "split_zhou_DescribableTextures.json").unlink()
    assert get(tmp_path / "new", url, "DescribableTextures") == 0
    assert {name for name, _ in Handler.log} == {"split_zhou_DescribableTextures.json"}


def test_a_file_put_there_by_hand_is_taken(offer, tmp_path, server):
    world, _ = offer("DescribableTextures")
    work = tmp_path / "new" / "dtd" / ".prepare"
    shutil.copytree(server[0] / "dtd", work)
    assert get(tmp_path / "new", "http://127.0.0.1:1", "DescribableTextures") == 0
    assert Handler.log == []


def test_interrupted_in_the_middle_of_a_file_and_run_again(offer, tmp_path, server, monkeypatch):
    world, url = offer("FGVCAircraft")
    big = world.folder / "images" / "1000001.jpg"
    content = big.read_bytes() + os.urandom(4 << 20)  # an archive that cannot be compressed
    big.unlink()
    big.write_bytes(content)
    serve("FGVCAircraft", world, server[0], monkeypatch)
    Handler.slow = 0.02  # 4 MiB take more than a second
    root = tmp_path / "new"
    words = ["-m", "datasets", "prepare", "--root", str(root), "--mirror", url, "FGVCAircraft"]
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    work = root / "fgvc_aircraft" / ".prepare"
    deadline = time.time() + 60
    while sum(p.stat().st_size for p in work.glob("*.part")) < 1 << 20 and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (part,) = work.glob("*.part")
    kept = part.stat().st_size
    assert 1 << 20 <= kept < 4 << 20
    assert not (root / "fgvc_aircraft" / "images").exists()

    Handler.slow = 0.0
    Handler.log.clear()
    assert get(root, url, "FGVCAircraft") == 0
    assert Handler.log[-1] == ("fgvc-aircraft-2013b.tar.gz", kept)  # it resumed there
    assert (root / "fgvc_aircraft" / "images" / "1000001.jpg").read_bytes() == content


def test_interrupted_while_unpacking(offer, tmp_path, monkeypatch, load):
    world, url = offer("DescribableTextures")
    root = tmp_path / "new"

    def unpack_half(archive, folder):
        (folder / "dtd" / "images" / "banded").mkdir(parents=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "extract_archive", unpack_half)
        with pytest.raises(KeyboardInterrupt):
            get(root, url, "DescribableTextures")
    assert not (root / "dtd" / "images").exists()
    Handler.log.clear()
    assert get(root, url, "DescribableTextures") == 0
    assert "dtd-r1.0.1.tar.gz" not in {name for name, _ in Handler.log}  # it was complete
    assert load("DescribableTextures", root).classnames == world.names


def test_a_server_without_ranges(offer, tmp_path, load):
    world, url = offer("DescribableTextures")
    Handler.ranges = False
    work = tmp_path / "new" / "dtd" / ".prepare"
    work.mkdir(parents=True)
    (work / "dtd-r1.0.1.tar.gz12345678.part").write_bytes(b"begun")
    assert get(tmp_path / "new", url, "DescribableTextures") == 0
    assert load("DescribableTextures", tmp_path / "new").classnames == world.names


def test_another_checksum_is_refused(offer, tmp_path, server, capsys, monkeypatch):
    _, url = offer("DescribableTextures")
    archive = server[0] / "dtd" / "dtd-r1.0.1.tar.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-1] + b"?")
    assert get(tmp_path / "new", url, "DescribableTextures") == 1
    error = capsys.readouterr().err
    digests = [hashlib.md5(content).hexdigest() for content in (archive.read_bytes(), whole)]
    assert f"has the md5 {digests[0]}, expected {digests[1]}; it is deleted" in error
    assert not (tmp_path / "new" / "dtd" / "images").exists()
    archive.write_bytes(whole)
    assert get(tmp_path / "new", url, "DescribableTextures") == 0


def evil_tar(path, member):
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member, io.BytesIO(b"evil"[: member.size]))


def evil_members():
    up = tarfile.TarInfo("../../../evil.txt")
    absolute = tarfile.TarInfo("/tmp/mmlop_evil.txt")
    up.size = absolute.size = 4
    link = tarfile.TarInfo("data")
    link.type, link.linkname = tarfile.SYMTYPE, "../../.."
    return {"up": up, "absolute": absolute, "link": link}


def archive_at(root, loader):
    return root / loader.dataset_dir / ".prepare" / loader.sources[0].name


@pytest.mark.parametrize("kind", ["up", "absolute", "link", "zip"])
def test_no_path_leaves_the_target_folder(kind, offer, tmp_path, server, capsys, monkeypatch):
    name = "UCF101" if kind == "zip" else "FGVCAircraft"
    _, url = offer(name)
    loader = ON_DISK[name]
    archive = server[0] / loader.dataset_dir / loader.sources[0].name
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("../../../evil.txt", "evil")
    else:
        evil_tar(archive, evil_members()[kind])
    root = tmp_path / "new"
    assert get(root, url, name) == 1
    error = capsys.readouterr().err
    assert "which would land outside" in error
    done = "written there" if kind == "link" else "unpacked"
    assert f"nothing was {done}. Check where the archive comes from." in error
    assert not archive_at(root, loader).exists()
    assert not list(tmp_path.rglob("evil.txt")) and not Path("/tmp/mmlop_evil.txt").exists()
    assert not (root / loader.dataset_dir / loader.image_dir).exists()


def test_an_archive_of_another_layout(offer, tmp_path, server, capsys):
    world, url = offer("UCF101")
    write_archive(
        server[0] / "ucf101" / "UCF-101-midframes.zip",
        [("frames", world.folder / "UCF-101-midframes")],
    )
    assert get(tmp_path / "new", url, "UCF101") == 1
    assert "must hold UCF-101-midframes, it holds ['frames']" in capsys.readouterr().err


def test_a_broken_archive_is_deleted(offer, tmp_path, server, capsys):
    _, url = offer("FGVCAircraft")
    archive = server[0] / "fgvc_aircraft" / "fgvc-aircraft-2013b.tar.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    assert get(tmp_path / "new", url, "FGVCAircraft") == 1
    assert "is not whole" in capsys.readouterr().err
    archive.write_bytes(whole)
    assert get(tmp_path / "new", url, "FGVCAircraft") == 0


def test_a_failed_download_does_not_stop_the_next(offer, tmp_path, capsys):
    _, url = offer("DescribableTextures")
    assert get(tmp_path / "new", url, "Food101", "DescribableTextures") == 1
    out, error = capsys.readouterr()
    assert "Food101: http" in error and "was not downloaded completely" in error and "404" in error
    assert f"put the file at {tmp_path}/new/food-101/.prepare/food-101.tar.gz by hand" in error
    assert re.search(r"DescribableTextures +yes .* ready", out)
    # Not again the command that has just failed.
    assert re.search(r"Food101 .* see above\n", out) and "datasets prepare" not in out
    assert get(tmp_path / "new", url, "ImageNet") == 1
    out = capsys.readouterr().out
    assert re.search(r"ImageNet .* see above, by hand\n", out) and "datasets prepare" not in out
    assert f"into {tmp_path}/new/imagenet/images" in out.partition("ImageNet: by hand: ")[2]


def test_without_gdown(offer, tmp_path, capsys, monkeypatch):
    _, url = offer("DescribableTextures")
    monkeypatch.setitem(sys.modules, "gdown", None)
    assert get(tmp_path / "new", url, "DescribableTextures") == 1
    assert "needs gdown: pip install gdown" in capsys.readouterr().err
