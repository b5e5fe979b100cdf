"""The speed comparison: its sides, its figures, its command line."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from benchmark.speed import __main__ as speed
from benchmark.speed import bench as speed_bench
from benchmark.speed import reference as speed_reference
from benchmark.speed import world as speed_world
from benchmark.speed.bench import Bench, Checkouts
from benchmark.speed.sides import Comparison, Failed, Process

REFERENCE = ("MMLOP_COMPAT_PROMPTSRC", "MMLOP_COMPAT_DASSL")
BROKEN = """
import re

import torch


def take_what_is_free():
    with open("/proc/meminfo") as file:
        free = 1024 * int(re.search(r"MemAvailable:\\s+(\\d+)", file.read())[1])
    torch.empty(int(0.98 * free), dtype=torch.uint8)


ENDS = [take_what_is_free, lambda: [][0]]


def prepare(plan, clock):
    def make():
        print("a trainer talks")
        ENDS.pop(0)()

    return make, {}
"""


class Fake:
    """A side that counts what it is asked, and takes as long as it is told."""

    def __init__(self, name: str, seconds=(), asked: list | None = None, fails: int = -1) -> None:
        self.name, self.seconds, self.fails = name, list(seconds), fails
        self.asked = [] if asked is None else asked
        self.closed = False

    def ask(self, do: str, **arguments) -> dict:
        if len(self.asked) == self.fails:
            raise Failed("not enough memory")
        self.asked.append((self.name, do))
        return getattr(self, do)()

    def build(self) -> dict:
        ours = self.name == "ours"
        return {
            "device": "cpu",
            "shims": [] if ours else ["a shim"],
            "templates": 60 if ours else 1,
            "of_templates": 60,
            "seconds": {"whole": 5.0, "model": 4.0, "frozen": 2.0 if ours else 1.0},
        }

    def warm_up(self) -> dict:
        return {"before": 2**30, "peak": 3 * 2**30, "loss": 1.0}

    def step(self) -> dict:
        return {"seconds": self.seconds.pop(0) if self.seconds else 1.0}

    def evaluate(self) -> dict:
        return {"seconds": 4.0, "text": 1.0}

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _known_peak(monkeypatch):
    """Of a machine that need not be measured."""
    monkeypatch.setattr(speed_bench, "peak_rate", lambda _: 1e10)


@pytest.fixture
def bench(tiny_file, tmp_path) -> Bench:
    return Bench(tiny_file, "fp32", 1, 3, None, tmp_path)


def with_fakes(bench: Bench, monkeypatch, **sides: Fake) -> Bench:
    monkeypatch.setattr(bench, "launch", lambda *_, **__: Comparison(sides))
    return bench


def test_sides_are_asked_in_turn():
    asked = []
    sides = Comparison({name: Fake(name, asked=asked) for name in ("ours", "reference")})
    sides.repeat(3, "step")
    assert asked == [("ours", "step"), ("reference", "step")] * 3


def test_a_side_that_fails_is_closed_and_left_out():
    good, bad = Fake("ours"), Fake("reference", fails=1)
    sides = Comparison({"ours": good, "reference": bad})
    found = sides.repeat(3, "step")
    assert {name: len(answers) for name, answers in found.items()} == {"ours": 3}
    assert sides.failed == {"reference": "not enough memory"}
    assert bad.closed and not good.closed


def test_a_step_is_the_median_beside_what_it_needs(bench, monkeypatch):
    ours, theirs = Fake("ours", [2.0, 9.0, 1.0]), Fake("reference", [10.0, 8.0, 12.0])
    record = with_fakes(bench, monkeypatch, ours=ours, reference=theirs).step(4, 2)
    assert (record["ours"]["seconds"], record["reference"]["seconds"]) == (2.0, 10.0)
    assert record["ratio"] == 5.0
    assert record["ours"]["samples"] == [2.0, 9.0, 1.0]
    assert record["ours"]["share_of_peak"] == pytest.approx(record["needed"] / 2.0 / bench.peak)
    assert record["ours"]["memory"] == {"before": 2**30, "peak": 3 * 2**30}
    assert record["reference"]["computes"] > record["needed"]
    assert ours.closed and theirs.closed


def test_seeds_together_beside_as_many_steps_of_one(bench, monkeypatch):
    sides = {1: Fake("ours", [2.0, 1.0, 3.0]), 3: Fake("together", [4.0, 3.0, 5.0])}
    monkeypatch.setattr(bench, "_ours", lambda classes, batch, templates, seeds=1: sides[seeds])
    record = bench.seeds(4, 2)
    assert record["ratio"] == 3 * 2.0 / 4.0
    share = 3 * record["needed"] / 4.0 / bench.peak
    assert record["together"]["share_of_peak"] == pytest.approx(share)


def test_a_side_without_memory_leaves_the_other_s_figures(bench, monkeypatch):
    sides = {"ours": Fake("ours"), "reference": Fake("reference", fails=1)}
    record = with_fakes(bench, monkeypatch, **sides).step(4, 2)
    assert record["reference"] == {"failed": "not enough memory"}
    assert record["ours"]["seconds"] == 1.0
    assert "ratio" not in record


def test_the_reference_is_charged_for_the_templates_that_it_did_not_make(bench, monkeypatch):
    sides = {"ours": Fake("ours"), "reference": Fake("reference")}
    record = with_fakes(bench, monkeypatch, **sides).start(4)
    assert record["ours"]["seconds"] == 2.0
    assert record["reference"]["seconds"] == 60.0
    assert record["reference"]["parts"]["cold"] == {"whole": 64.0, "model": 63.0, "frozen": 60.0}
    assert (record["ratio"], record["ratio_warm"]) == (30.0, 30.0)


def test_an_evaluation_has_a_rate(bench, monkeypatch):
    record = with_fakes(bench, monkeypatch, ours=Fake("ours")).evaluation(4, batches=2)
    assert record["images"] == 200
    assert record["ours"]["images_per_second"] == 50.0
    assert record["ours"]["text_seconds"] == 1.0


def test_names_and_data_are_the_same_for_both_sides(tmp_path):
    names = speed_world.class_names(speed_world.MOST)
    assert len(set(names)) == speed_world.MOST == 1000
    for side in ("ours", "reference"):
        speed_world.write_dataset(tmp_path / side, names[:3])
    contents = [
        {path.relative_to(tmp_path / side): path.read_bytes() for path in files}
        for side in ("ours", "reference")
        if (files := [p for p in (tmp_path / side).rglob("*") if p.is_file()])
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3 * 3 + 1


def test_the_random_clip_is_always_the_same(monkeypatch):
    small = dict(
        embed_dim=8, image_resolution=32, vision_layers=1, vision_width=64, vision_patch_size=16,
        context_length=77, vocab_size=49408, transformer_width=64, transformer_heads=1,
        transformer_layers=1,
    )  # fmt: skip
    monkeypatch.setattr(speed_world, "VIT_B16", small)
    one = speed_world.load_model("random").state_dict()
    torch.randn(3)
    two = speed_world.load_model("random").state_dict()
    assert all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is not limited")
def test_what_goes_wrong_in_a_process_is_an_answer(tmp_path):
    """A lack of memory, any other error, the end of the process; what it prints is no answer."""
    (tmp_path / "side.py").write_text(BROKEN)
    plan = {"side": str(tmp_path / "side.py"), "path": [], "threads": 1}
    side = Process(plan, tmp_path, tmp_path / "log")
    try:
        for message in ("not enough memory", "IndexError: list index out of range"):
            with pytest.raises(Failed, match=f"^{message}$"):
                side.ask("build")
        side.process.kill()
        with pytest.raises(Failed, match="^not enough memory$"):
            side.ask("build")
    finally:
        side.close()
    assert "a trainer talks" in (tmp_path / "log").read_text()


def test_our_side_does_all_it_is_asked_for(bench, tmp_path):
    """The true trainer, in a process of its own."""
    with bench.launch(4, 2, templates=2) as sides:
        built = bench.build(sides, cache=str(tmp_path / "cache"))["ours"]
        memory = sides.ask("warm_up", batch=2)["ours"]
        steps = sides.repeat(2, "step")["ours"]
        evaluation = sides.ask("evaluate", images=3, batches=2)["ours"]
        again = bench.build(sides, cache=str(tmp_path / "cache"))["ours"]
    assert sides.failed == {}
    assert (built["templates"], built["of_templates"]) == (2, 60)
    assert built["seconds"]["whole"] > built["seconds"]["model"] > built["seconds"]["frozen"] > 0
    assert again["seconds"]["frozen"] < built["seconds"]["frozen"]
    assert list((tmp_path / "cache").iterdir())
    assert memory["peak"] >= memory["before"] > 2**20
    assert all(step["seconds"] > 0 for step in steps)
    assert evaluation["seconds"] > evaluation["text"] > 0


def test_seeds_are_stepped_together(bench):
    """The true trainers, in a process of their own."""
    with Comparison({"together": bench._ours(4, 2, 1, 3)}) as sides:
        sides.ask("build")
        warm = sides.ask("warm_up", batch=2)["together"]
        steps = sides.repeat(2, "step")["together"]
    assert sides.failed == {}
    assert warm["loss"] > 0 and all(step["seconds"] > 0 for step in steps)


def test_the_command_prints_tables_and_writes_all_figures(tmp_path, monkeypatch, capsys, tiny_file):
    def launch(self, *_, **__):
        return Comparison({"ours": Fake("ours"), "reference": Fake("reference")})

    monkeypatch.setattr(Bench, "launch", launch)
    monkeypatch.setattr(Bench, "_ours", lambda *_: Fake("ours"))
    (tmp_path / "trainers").mkdir()
    (tmp_path / "dassl" / "engine").mkdir(parents=True)
    (tmp_path / speed_reference.MARKER).touch()
    (tmp_path / speed_reference.ENGINE_MARKER).touch()
    output = tmp_path / "speed.json"
    speed.main(
        ["--backbone", tiny_file, "--classes", "4,8", "--batch", "4", "--repeats", "2",
         "--threads", "1", "--against", str(tmp_path), "--dassl", str(tmp_path), "--project",
         "--output", str(output)]
    )  # fmt: skip
    content = json.loads(output.read_text())
    kinds = [(record["what"], record["classes"]) for record in content["records"]]
    assert kinds == [(what, n) for n in (4, 8) for what in speed.MEASURES]
    assert content["machine"]["peak"] > 0
    assert content["sides"]["reference"]["shims"][0] == "a shim"
    assert {row["table"] for row in content["projection"]} >= {"base2new", "few_shot"}
    printed = capsys.readouterr().out
    for words in (
        "Training step",
        "several seeds",
        "Evaluation",
        "Start: ",
        "base2new",
        "- a shim",
        "of peak",
    ):
        assert words in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", "2000"], "--classes takes 1 to 1000, got 2000."),
        (["--repeats", "0"], "--repeats must be at least 1, got 0."),
        (
            ["--measure", "steps"],
            "--measure steps is unknown: choose step, seeds, evaluation, start.",
        ),
        (
            ["--project", "--classes", "10"],
            "--project needs step, evaluation, start at two numbers",
        ),
        (["--against", "."], "--against and --dassl go together"),
        (
            ["--against", ".", "--dassl", ".", "--precision", "bf16"],
            "PromptSRC does not run in bf16",
        ),
        (["--against", ".", "--dassl", "."], "holds no trainers/promptsrc.py: pass a checkout of"),
    ],
)
def test_what_cannot_be_is_said_at_once(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        speed.main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_packages_are_lent_to_the_checkout_alone(tmp_path, monkeypatch):
    lender = speed_reference.Lender(["a_package_that_is_not"], [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, lender])
    (tmp_path / "theirs.py").write_text("from a_package_that_is_not.part import something\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import theirs  # noqa: F401

    for name in ("a_package_that_is_not.part", "a_package_that_is_not", "theirs"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError):
        import a_package_that_is_not  # noqa: F401


def test_an_installed_package_is_not_taken_for_the_checkout_s(tmp_path):
    speed_reference.check_origin("dassl", str(Path(speed.__file__).parents[2] / "engine"))
    with pytest.raises(
        ImportError, match=f"^dassl was imported from .*, expected below {tmp_path}"
    ):
        speed_reference.check_origin("dassl", str(tmp_path))


@pytest.mark.skipif(
    not all(os.environ.get(name) for name in REFERENCE),
    reason=f"{' and '.join(REFERENCE)} name no checkouts",
)
def test_the_reference_runs_unchanged_beside_ours(tiny_file, tmp_path):
    checkouts = Checkouts(*(Path(os.environ[name]).resolve() for name in REFERENCE))
    bench = Bench(tiny_file, "fp32", 1, 2, checkouts, tmp_path)
    records = [bench.step(4, 2), bench.evaluation(4, 1), bench.start(4)]
    assert [record["reference"].get("failed") for record in records] == [None] * 3
    assert all(record["ratio"] > 0 for record in records)
    assert any("encode" in shim or "cuda" in shim for shim in bench.told["reference"]["shims"])
    assert speed_bench.REFERENCE in bench.told
