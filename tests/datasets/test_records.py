"""Test the records of few-shot draws."""

import hashlib
import json
import os
import random
import shutil

import pytest

from tests.datasets.tiny import build, make_split, record_of, reference_draw, triples


def test_record_has_relative_paths_and_the_hash_of_the_split(world):
    dataset = build(world, subsample="new")
    record = json.loads(record_of(world).read_text())
    train, val = reference_draw(make_split(), 2, 1)
    assert record == {
        "split_sha256": hashlib.sha256((world / "tiny/split_tiny.json").read_bytes()).hexdigest(),
        "train": [list(x) for x in train],  # of all classes, with their own labels
        "val": [list(x) for x in val],
    }
    assert len(dataset.train_x) == 4
    assert os.listdir(record_of(world).parent) == ["shot_2-seed_1.json"]  # no temporary files


def test_record_changes_nothing(world, notes):
    first, state = build(world), random.getstate()
    written = record_of(world).stat().st_mtime_ns
    second = build(world)
    assert random.getstate() == state
    assert triples(second.train_x) == triples(first.train_x)
    assert triples(second.val) == triples(first.val)
    assert record_of(world).stat().st_mtime_ns == written
    assert "shot_2-seed_1.json" not in notes.text


def test_record_moves_with_the_folder(world, tmp_path, notes):
    first = build(world)
    moved = shutil.move(world, tmp_path / "elsewhere")
    second = build(moved)
    assert triples(second.train_x) == triples(first.train_x)
    assert all(item.impath.startswith(str(moved)) for item in second.train_x)
    assert "shot_2-seed_1.json" not in notes.text


def test_a_record_that_differs_counts(world, notes):
    other, state = build(world, seed=2), random.getstate()
    record_of(world, seed=2).rename(record_of(world, seed=1))
    dataset = build(world, seed=1)
    assert triples(dataset.train_x) == triples(other.train_x)
    assert triples(dataset.val) == triples(other.val)
    assert "shot_2-seed_1.json differs from the draw of this run; the file is used" in notes.text
    after = random.getstate()
    assert after != state
    record_of(world, seed=1).unlink()
    build(world, seed=1)
    assert random.getstate() == after


def test_a_stale_record_is_reported_and_replaced(world, notes):
    build(world)
    split = make_split()
    split["train"].reverse()
    (world / "tiny/split_tiny.json").write_text(json.dumps(split))
    dataset = build(world)
    assert triples(dataset.train_x) == reference_draw(split, 2, 1)[0]
    assert "is stale, so shots are drawn again" in notes.text
    notes.clear()
    build(world)
    assert "shot_2-seed_1.json" not in notes.text


def test_a_draw_that_the_seed_does_not_explain_is_not_recorded(world):
    build(world, seed=1, draw_seed=5)
    assert not record_of(world).exists()
    seeded = build(world, seed=1)
    unseeded = build(world, seed=1, draw_seed=5)
    assert triples(unseeded.train_x) == triples(seeded.train_x)


def test_a_negative_seed_has_no_record(world):
    build(world, seed=-1, draw_seed=5)
    assert not record_of(world).parent.exists()
    record_of(world).parent.mkdir()
    record_of(world, seed=-1).write_text("not to be read")
    build(world, seed=-1, draw_seed=5)


def test_pickles_of_upstream_are_ignored(world):
    record_of(world).parent.mkdir()
    record_of(world).with_suffix(".pkl").write_bytes(b"not a pickle")
    assert triples(build(world).train_x) == reference_draw(make_split(), 2, 1)[0]


def test_a_folder_that_cannot_be_written_to_is_no_failure(world, notes):
    record_of(world).parent.write_text("a file in the place of the folder")
    assert triples(build(world).train_x) == reference_draw(make_split(), 2, 1)[0]
    assert "is not recorded because" in notes.text


def test_a_read_only_folder_is_left_alone_even_by_root(world, notes):
    (world / "tiny").chmod(0o555)
    try:
        build(world)
        assert not record_of(world).parent.exists()
        assert "tiny is read-only" in notes.text
    finally:
        (world / "tiny").chmod(0o755)


def test_a_failed_write_leaves_nothing_behind(world, notes, monkeypatch):
    replace = os.replace

    def fail(source, target):
        if target == record_of(world):
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    build(world)
    assert os.listdir(record_of(world).parent) == []
    assert "disk full" in notes.text


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda r: r["train"][0].__setitem__(0, "ant/other.png"), r"1 other \[\('ant/other.png'"),
        (lambda r: r["val"].__delitem__(slice(0, 2)), r"1 label without an image \[4\]"),
        (lambda r: r.pop("split_sha256"), r"is no record .*KeyError\('split_sha256'\).*delete it"),
        (lambda r: r["train"].append(["ant/train_0.png"]), "is no record of a few-shot draw"),
    ],
)
def test_a_broken_record_is_refused(world, change, text):
    build(world)
    record = json.loads(record_of(world).read_text())
    change(record)
    record_of(world).write_text(json.dumps(record))
    with pytest.raises(ValueError, match=text):
        build(world)
