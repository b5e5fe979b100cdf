"""The cache gives the same bits, only for the same key, and whatever happens to it costs no run."""

import errno
import logging
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from prompting import feature_cache, frozen_text_features, model

NAMES = ["cat", "striped_star", "dog house"]
TEMPLATES = ("a photo of a {}.", "art of a {}.")
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MMLOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch) -> list:
    """An entry for each time that frozen text features are computed."""
    calls, compute = [], model._frozen_text_features
    monkeypatch.setattr(
        model, "_frozen_text_features", lambda *args: calls.append(args) or compute(*args)
    )
    return calls


def value() -> torch.Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(1))


def look_up(compute=value) -> torch.Tensor:
    return feature_cache.cached({"names": NAMES}, CPU, compute)


def must_not_compute():
    raise AssertionError("computed again")


def test_the_second_time_is_read_and_the_same(tiny_backbone, folder, computed, caplog):
    first = frozen_text_features(tiny_backbone, NAMES, TEMPLATES)
    assert len(computed) == 1 and len(list(folder.iterdir())) == 1
    draws = torch.get_rng_state()
    with caplog.at_level(logging.INFO, "dassl"):
        again = frozen_text_features(tiny_backbone, NAMES, TEMPLATES)
    assert len(computed) == 1
    assert torch.equal(first, again) and first.stride() == again.stride()
    assert not again.requires_grad and torch.equal(draws, torch.get_rng_state())
    assert f"read from {next(folder.iterdir())}" in caplog.text


def test_every_part_of_the_key_counts(tiny_backbone, folder, computed, monkeypatch):
    def features(backbone=tiny_backbone, names=NAMES, templates=TEMPLATES, **options):
        return frozen_text_features(backbone, names, templates, **options)

    def with_setting(owner, name, other):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, other)
            return features()

    cases = [
        features,
        lambda: features(replace(tiny_backbone, sha256="1" * 64)),
        lambda: features(replace(tiny_backbone, precision="amp")),
        lambda: features(names=NAMES[::-1]),
        lambda: features(names=NAMES[:2]),
        lambda: features(templates=TEMPLATES[::-1]),
        lambda: features(templates=TEMPLATES[:1]),
        lambda: features(normalize=True),
        lambda: with_setting(torch, "get_num_threads", lambda: 64),
        lambda: with_setting(torch, "__version__", "99.0"),
        lambda: with_setting(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT"),
        lambda: with_setting(feature_cache, "processor", lambda: "another"),
        lambda: with_setting(feature_cache, "_code", lambda: "another"),
    ]
    first = [case() for case in cases]
    assert len(computed) == len(list(folder.iterdir())) == len(cases)
    assert all(torch.equal(a, case()) for a, case in zip(first, cases, strict=True))
    assert len(computed) == len(cases)


def test_the_gpu_is_part_of_the_key(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    one, two = (feature_cache._surroundings(torch.device("cuda", index)) for index in (1, 2))
    assert one["device"] == ["GPU 1"] and one != two and feature_cache.processor() != "GPU 1"


def test_the_code_is_that_of_the_encoders():
    import clip

    assert Path(model.__file__).parent == Path(feature_cache.__file__).parent
    assert Path(clip.model.__file__).parent == Path(clip.__file__).parent
    assert len(feature_cache._code()) == 64


def empty(path):
    path.write_bytes(b"")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def foreign(path):
    path.write_text("no tensors at all")


def of_another_key(path):
    """As of a file that was renamed."""
    other = feature_cache.cached({"names": ["x"]}, CPU, lambda: value() + 1)
    assert not torch.equal(other, value())
    next(p for p in path.parent.iterdir() if p != path).replace(path)


def without_a_key(path):
    save_file({"features": value()}, path)


def of_another_name(path):
    save_file({"weights": value()}, path)


@pytest.mark.parametrize(
    "spoil",
    [empty, cut_short, flipped, foreign, of_another_key, without_a_key, of_another_name],
)
def test_what_is_not_whole_is_replaced(folder, caplog, spoil):
    look_up()
    (path,) = folder.iterdir()
    spoil(path)
    assert torch.equal(look_up(), value())
    assert caplog.text.count("is no whole entry of the cache") == 1 and str(path) in caplog.text
    assert list(folder.iterdir()) == [path]
    assert torch.equal(look_up(must_not_compute), value())


def test_a_file_appears_when_it_is_whole(folder, monkeypatch):
    before = []
    monkeypatch.setattr(os, "fsync", lambda file: before.extend(folder.iterdir()))
    look_up()
    (path,) = folder.iterdir()
    assert [p.suffix for p in before] == [".part"] and path.suffix == ".safetensors"


def hurry(start, rounds):
    """Look up, and delete what was found, so that others read and write at the same time."""
    feature_cache.logger.warning = lambda *args: os._exit(3)  # half a file, or a failed write
    large = torch.arange(400_000.0).view(400, 1000)
    start.wait()
    for index in range(rounds):
        if not torch.equal(feature_cache.cached({}, CPU, lambda: large), large):
            os._exit(4)
        if index < rounds - 1:
            for path in feature_cache.cache_folder().glob("*.safetensors"):
                path.unlink(missing_ok=True)


def test_eight_runs_at_once(folder):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(8)
    runs = [context.Process(target=hurry, args=(start, 10)) for _ in range(8)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0] * 8
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]
    found = feature_cache.cached({}, CPU, must_not_compute)
    assert torch.equal(found, torch.arange(400_000.0).view(400, 1000))


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MMLOP_CACHE", str(tmp_path / "file"))
    assert torch.equal(look_up(), value())
    assert caplog.text.count("are not kept for the next run") == 1 == len(caplog.records)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk(folder, monkeypatch, caplog, call):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    assert torch.equal(look_up(), value())
    assert "not kept for the next run: [Errno 28] No space left on device" in caplog.text
    assert len(caplog.records) == 1 and not list(folder.iterdir())


def test_an_interrupted_write_leaves_nothing(folder, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        look_up()
    assert not list(folder.iterdir())


def test_where_it_lies(monkeypatch):
    monkeypatch.setenv("MMLOP_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert feature_cache.cache_folder() == Path("/one")
    monkeypatch.delenv("MMLOP_CACHE")
    assert feature_cache.cache_folder() == Path("/two/mmlop")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert feature_cache.cache_folder() == Path.home() / ".cache" / "mmlop"


@pytest.mark.parametrize("switch", ["off", ""])
def test_switched_off(tiny_backbone, tmp_path, monkeypatch, computed, switch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("MMLOP_CACHE", switch)
    for _ in range(2):
        frozen_text_features(tiny_backbone, NAMES, TEMPLATES)
    assert len(computed) == 2 and not list(tmp_path.iterdir())
