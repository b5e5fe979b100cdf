"""The speed comparison: its command line, its sides, its figures."""

import json
import os
import re
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import clip
import pytest
import torch

from benchmark.speed import __main__ as speed
from benchmark.speed import compare, side

ROOT = Path(speed.__file__).parents[2]
REFERENCE = ("MMLOP_COMPAT_PROMPTSRC", "MMLOP_COMPAT_DASSL")
WHATS = [
    "frozen, cold",
    "built, cold",
    "frozen, warm",
    "built, warm",
    "evaluation",
    "step",
    "seeds",
]


class Pool:
    """A process that answers at once, and notes what it was asked."""

    asked: list[tuple[str, str]]

    def __init__(self, name: str, asked: list, answers: dict) -> None:
        self.name, self.asked, self.answers, self.ended = name, asked, answers, False

    def submit(self, function, do: str, arguments: dict) -> Future:
        assert function is side.ask
        self.asked.append((self.name, do))
        answer, future = self.answers[do], Future()
        answer = answer.pop(0) if isinstance(answer, list) else answer
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    def shutdown(self) -> None:
        self.ended = True


def sides_of(**answers: dict) -> compare.Sides:
    sides, asked = compare.Sides({}), []
    sides.pools = {name: Pool(name, asked, each) for name, each in answers.items()}
    return sides


def steps(*seconds: float) -> dict:
    memory, flops = {"before": 1, "peak": 3}, {"computes": 500, "needed": 400}
    return {"first_steps": memory, "flops": flops, "step": list(seconds)}


def test_sides_are_asked_in_turn():
    sides = sides_of(ours={"step": 1.0}, reference={"step": 2.0})
    pool = sides.pools["ours"]
    assert sides.repeat(3, "step") == {"ours": [1.0] * 3, "reference": [2.0] * 3}
    assert pool.asked == [("ours", "step"), ("reference", "step")] * 3


@pytest.mark.parametrize(
    ("error", "why"),
    [(RuntimeError("IndexError: no"), "IndexError: no"), (BrokenProcessPool(), "no memory?")],
)
def test_a_side_that_fails_is_ended_and_left_out(error, why):
    sides = sides_of(ours=steps(1.0, 1.0), reference=steps(2.0, error))
    bad = sides.pools["reference"]
    found = compare.measure_step(sides, 10, 2, batch=4, peak=1e3)
    assert bad.ended and list(sides.pools) == ["ours"]
    assert why in found["reference"]["failed"]
    assert found["ours"]["seconds"] == 1.0 and "ratio" not in found


def test_a_step_is_the_median_next_to_what_it_needs():
    sides = sides_of(ours=steps(2.0, 9.0, 1.0), reference=steps(10.0, 8.0, 12.0))
    found = compare.measure_step(sides, 10, 3, batch=4, peak=1e3)
    assert (found["ours"]["seconds"], found["reference"]["seconds"]) == (2.0, 10.0)
    assert found["ratio"] == 5.0
    assert found["ours"]["samples"] == [2.0, 9.0, 1.0]
    assert found["ours"]["share_of_peak"] == 400 / 2.0 / 1e3
    assert found["reference"]["memory"] == {"before": 1, "peak": 3}
    assert (found["needed"], found["reference"]["computes"]) == (400, 500)


def test_seeds_together_next_to_as_many_steps_of_one():
    sides = sides_of(ours={"gradients": [2.0, 4.0, 1.0, 3.0, 3.0, 5.0]})
    found = compare.measure_seeds(sides, 10, 3, batch=4)
    assert found["ours"]["samples"] == [2.0, 1.0, 3.0]
    assert found["together"]["samples"] == [4.0, 3.0, 5.0]
    assert found["ratio"] == 3 * 2.0 / 4.0


def test_a_start_is_cold_then_warm():
    built = [{"frozen": 9.0, "built": 10.0}, {"frozen": 0.1, "built": 1.0}]
    sides = sides_of(
        ours={"build": built * 2}, reference={"build": {"frozen": 50.0, "built": 60.0}}
    )
    found = {each["what"]: each for each in compare.measure_start(sides, 10, 2, "cache")}
    assert {what: each["ours"]["seconds"] for what, each in found.items()} == {
        "frozen, cold": 9.0, "built, cold": 10.0, "frozen, warm": 0.1, "built, warm": 1.0
    }  # fmt: skip
    assert found["frozen, warm"]["ratio"] == 500.0


def test_the_command_measures_our_trainer(tmp_path, tiny_file, capsys):
    """The true trainer, in a process of its own."""
    output = tmp_path / "speed.json"
    words = ["--backbone", tiny_file, "--classes", "4", "--batch", "2", "--repeats", "1"]
    speed.main([*words, "--threads", "1", "--project", "--output", str(output)])
    content = json.loads(output.read_text())
    assert [found["what"] for found in content["records"]] == WHATS
    found = {each["what"]: each for each in content["records"]}
    assert all(each["ours"]["seconds"] > 0 for each in found.values()), found
    seconds = {what: each["ours"]["seconds"] for what, each in found.items()}
    assert seconds["built, cold"] > seconds["frozen, cold"] > seconds["frozen, warm"]
    step = found["step"]
    assert step["needed"] < step["ours"]["computes"] < 1.2 * step["needed"]
    assert step["ours"]["memory"]["peak"] >= step["ours"]["memory"]["before"] > 0
    share = step["needed"] / step["ours"]["seconds"] / content["machine"]["peak"]
    assert step["ours"]["share_of_peak"] == pytest.approx(share)
    assert found["seeds"]["together"]["seconds"] > 0 and found["seeds"]["ratio"] > 0
    assert set(content["projection"]) == {"ours"}  # the side that ran
    assert content["projection"]["ours"]["base2new"] is None  # of one number of classes
    printed = capsys.readouterr().out
    assert all(word in printed for word in (*WHATS, "of peak", "base2new"))


@pytest.mark.skipif(
    not all(os.environ.get(name) for name in REFERENCE),
    reason=f"{' and '.join(REFERENCE)} name no checkouts",
)
def test_the_reference_runs_unchanged_next_to_ours(tmp_path, tiny_file):
    promptsrc, dassl = (os.environ[name] for name in REFERENCE)
    output = tmp_path / "speed.json"
    words = ["--backbone", tiny_file, "--classes", "4", "--batch", "4", "--repeats", "1"]
    words += ["--threads", "1", "--measure", "step,evaluation,start", "--output", str(output)]
    speed.main([*words, "--against", promptsrc, "--dassl", dassl])
    records = json.loads(output.read_text())["records"]
    assert [found["reference"].get("failed") for found in records] == [None] * 6
    assert all(found["ratio"] > 0 for found in records)
    assert records[-1]["reference"]["computes"] > 2 * records[-1]["needed"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", "10,1"], "--classes takes two or more each, got 1."),
        (["--measure", "steps"], "--measure steps is unknown: choose step, seeds"),
        (["--against", "."], "--against and --dassl go together"),
        (
            ["--against", ".", "--dassl", "."],
            "is no such checkout: it holds no trainers/promptsrc.py",
        ),
    ],
)
def test_what_cannot_be_measured_is_reported_at_once(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        speed.parse_args(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_commands_of_the_page_are_ones_that_run(tmp_path, monkeypatch):
    names = ("PROMPTSRC_CHECKOUT", "DASSL_CHECKOUT")
    for marker, folder in zip(speed.CHECKOUTS.values(), names, strict=True):
        (tmp_path / folder / marker).parent.mkdir(parents=True)
        (tmp_path / folder / marker).touch()
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "speed.md").read_text()
    commands = re.findall(r"python -m benchmark\.speed([^`\n]*)", page)
    assert len(commands) >= 2
    parsed = [speed.parse_args(command.split("#")[0].split()) for command in commands]
    assert any(args.against for args in parsed) and any(args.project for args in parsed)


def test_names_are_different_and_of_two_tokens():
    names = speed.class_names(1000)
    assert len(set(names)) == 1000
    assert set((clip.tokenize(names) != 0).sum(dim=1).tolist()) == {4}  # with [SOS] and [EOT]
    assert len({name.split()[0] for name in speed.class_names(10)}) == 10


def test_random_weights_are_always_the_same(tmp_path, monkeypatch):
    small = dict(
        embed_dim=8, image_resolution=32, vision_layers=1, vision_width=64, vision_patch_size=16,
        context_length=77, vocab_size=49408, transformer_width=64, transformer_heads=1,
        transformer_layers=1,
    )  # fmt: skip
    monkeypatch.setattr(speed, "VIT_B16", small)
    for name in ("one", "two"):
        assert speed.write_weights("random", tmp_path / name) == 32
    one, two = (torch.load(tmp_path / name) for name in ("one", "two"))
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert one["visual.proj"].dtype == torch.float16


def test_stand_ins_are_gone_when_the_checkout_is_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(side, "UNUSED", ("not_a_package", "not_a_package.part"))
    (tmp_path / "theirs.py").write_text("from not_a_package.part import f1_score\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with side._stand_ins():
        import theirs  # only now can it be imported
    assert f"{100 * theirs.f1_score([], average='macro'):.1f}" == "0.0"
    monkeypatch.delitem(sys.modules, "theirs")
    with pytest.raises(ModuleNotFoundError):
        import not_a_package  # noqa: F401  # as above
    with suppress(ModuleNotFoundError), side._stand_ins():
        raise ModuleNotFoundError
    assert "not_a_package" not in sys.modules


def test_an_error_of_a_side_comes_back_as_its_text(monkeypatch):
    class Broken:
        def step(self) -> None:
            raise IndexError("list index out of range")

    monkeypatch.setattr(side, "_side", Broken(), raising=False)
    with pytest.raises(RuntimeError, match="^IndexError: list index out of range$"):
        side.ask("step", {})
