"""Data sets copied to a node's own disk: once, whole, or not at all."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from benchmark import stage
from benchmark.calls import Call, Plan
from benchmark.worker import work
from tests.conftest import CONFIGS, write_dataset


@pytest.fixture
def root(tmp_path) -> Path:
    write_dataset(tmp_path / "data", classes=2)
    return tmp_path / "data"


@pytest.fixture
def words(root) -> list[str]:
    dataset = CONFIGS / "datasets" / "caltech101.yaml"
    return ["--root", str(root), "--trainer", "IVLP", "--dataset-config-file", str(dataset)]


def staged(words: list[str], disk: Path) -> list[str]:
    return stage.staged(Call(words, Path(), True), disk).arguments


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_is_copied_once(root, words, tmp_path, monkeypatch):
    there = staged(words, tmp_path / "disk")
    home = Path(there[1])
    assert home.parent == tmp_path / "disk" and files(home) == files(root)
    assert there[2:] == words[2:]
    monkeypatch.setattr(stage, "_fill", lambda *_: pytest.fail("it was copied again"))
    assert staged(words, tmp_path / "disk") == there


@pytest.mark.parametrize(
    ("kind", "ending"), [("zip", ".zip"), ("tar", ".tar"), ("gztar", ".tar.gz")]
)
def test_an_archive_beside_it_is_unpacked_instead(root, words, tmp_path, kind, ending):
    before = files(root)
    shutil.make_archive(str(root / "caltech-101"), kind, root, "caltech-101")
    packed = root / f"caltech-101{ending}"
    content = packed.read_bytes()
    shutil.rmtree(root / "caltech-101")
    packed.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"caltech-101{ending} is not whole .*: pack it, or"):
        staged(words, tmp_path / "disk")
    packed.write_bytes(content)
    assert files(Path(staged(words, tmp_path / "disk")[1])) == before


def test_a_copy_that_is_not_whole_is_refused_and_made_again(root, words, tmp_path, monkeypatch):
    copy = shutil.copytree

    def torn(source, target, *rest):
        copy(source, target, *rest)
        if source == root / "caltech-101":
            (target / "split_zhou_Caltech101.json").write_text("{")

    with monkeypatch.context() as patch:
        patch.setattr(stage.shutil, "copytree", torn)
        with pytest.raises(ValueError, match="lacks split_zhou_Caltech101.json: check"):
            staged(words, tmp_path / "disk")
    assert files(Path(staged(words, tmp_path / "disk")[1])) == files(root)


def test_a_variant_of_imagenet_brings_the_names_that_it_reads_there(tmp_path):
    for name in ("imagenet/classnames.txt", "imagenet-rendition/imagenet-r/n01443537/a.jpg"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    dataset = CONFIGS / "datasets" / "imagenet_r.yaml"
    words = ["--root", str(tmp_path / "data"), "--dataset-config-file", str(dataset)]
    home = Path(staged([*words, "--trainer", "IVLP"], tmp_path / "disk")[1])
    assert set(files(home)) == {
        "imagenet-rendition/classnames.txt",
        "imagenet-rendition/imagenet-r/n01443537/a.jpg",
    }


def test_two_jobs_of_a_node_copy_it_once(root, words, tmp_path, monkeypatch):
    fill, copied = stage._fill, []
    monkeypatch.setattr(stage, "_fill", lambda *args: (copied.append(args), fill(*args)))
    monkeypatch.setattr(stage.time, "sleep", lambda _: None)
    jobs = [threading.Thread(target=staged, args=(words, tmp_path / "disk")) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(copied) == 1


def test_the_demo_world_has_no_files_to_copy(tmp_path):
    assert staged(["--trainer", "IVLP"], tmp_path / "disk") == ["--trainer", "IVLP"]
    assert not (tmp_path / "disk").exists()


def test_a_disk_that_is_full_fails_the_unit_with_its_reason(words, tmp_path):
    (tmp_path / "disk").write_text("a file stands in its place")
    call = Call(words, tmp_path / "seed1" / "train", True)
    (outcome,) = work([call], Plan(tmp_path, [[call]], stage=str(tmp_path / "disk")))
    assert outcome.kind == "failed" and outcome.reason.startswith("--stage: ")


def test_a_run_reads_the_copy(words, tiny_pairs, tmp_path):
    """What results.json records is the copy's folder."""
    folder = tmp_path / "seed1" / "train"
    words[words.index("IVLP")] = "ZeroshotCLIP"
    call = Call([*words, "--output-dir", str(folder), *tiny_pairs], folder, True)
    (outcome,) = work([call], Plan(tmp_path, [[call]], stage=str(tmp_path / "disk")))
    assert outcome.kind == "finished"
    record = json.loads((folder / "results.json").read_text())
    assert Path(record["config"]["DATASET"]["ROOT"]).parent == tmp_path / "disk"
