"""`python -m benchmark.gpu` on a CPU: its sections, small, and how it ends. Whole runs take long:
SURVIVAL=full."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from benchmark.gpu import __main__ as gpu
from benchmark.gpu import machine, sections
from benchmark.gpu.machine import Check, Machine
from experiment import cli
from experiment.exit_status import NO_GPU, UNEXPECTED
from prompting import share_backbones

ROOT = Path(machine.__file__).parents[2]
INSIDE = ("environment", "compute", "capture", "recovery", "weights", "speed", "loop", "memory")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a section in this process, of one method; train.py too."""

    def train(self, name, *words):
        output = ["--output-dir", str(self.scratch / name), "--trainer", "MMLoP", "--seed", "1"]
        cli.main([*output, *words])
        return 0

    def call(name):
        gpu.run_section(name, "cpu", tmp_path / "checks")
        return [json.loads(line) for line in (tmp_path / "checks").read_text().splitlines()]

    monkeypatch.setenv("MMLOP_CACHE", "off")
    monkeypatch.setattr(Machine, "methods", ["MMLoP"])
    monkeypatch.setattr(Machine, "train", train)
    monkeypatch.setattr(sections, "BATCHES", 2)
    return call


@pytest.mark.parametrize("name", INSIDE)
def test_a_section_passes_on_a_cpu(run, name):
    checks = run(name)
    assert checks and all(check["passed"] for check in checks), checks


@pytest.mark.skipif(os.environ.get("SURVIVAL") != "full", reason="minutes of whole runs")
@pytest.mark.parametrize("name", ["routing", "runs"])
def test_whole_runs_pass_on_a_cpu(name):
    checks = gpu.call_section(name, "cpu")
    assert checks and all(check["passed"] for check in checks), checks


def test_every_method_that_a_section_takes_has_gradients_and_settings(tmp_path, monkeypatch):
    """What draws, or has nothing to train, is left out: its gradients differ, or no graph is."""
    monkeypatch.setenv("MMLOP_CACHE", "off")
    here = Machine("cpu", tmp_path)
    assert {"CLIPAdapter", "MMLoP", "TaskRes"} < set(here.methods)
    assert not {"CLIPLoRA", "TipAdapter", "ZeroshotCLIP"} & set(here.methods)
    with share_backbones():
        for method in here.methods:
            assert sections._gradients(here.build(method, "fp32")).norm() > 0, method
            assert Machine("cuda", tmp_path).config(method).is_file()


def test_every_section_is_in_the_document():
    page = (ROOT / "docs" / "speed.md").read_text()
    assert all(f"| `{name}` |" in page for name in gpu.SECTIONS)
    assert set(INSIDE) | {"routing", "runs"} == set(gpu.SECTIONS)


def test_wrong_gradients_fail():
    expected, noise = torch.randn(1000), torch.randn(1000)
    for precision, apart, passed in (
        ("fp32", 0.5e-4, True),
        ("fp32", 2e-4, False),
        ("tf32", 2e-4, True),
        ("tf32", 2e-2, False),
        ("amp", 0.1, True),
        ("amp", 0.2, False),
    ):
        check = sections._compared("", precision, expected + apart * noise, expected)
        assert check.passed is passed, (precision, apart)


def test_what_a_step_waits_for_fails(tmp_path, monkeypatch):
    calls, real = iter(range(1000)), machine.PromptTrainer.compute

    def waits(self, *batch):
        if next(calls) == 1:  # the first one is not watched
            raise RuntimeError("called a synchronizing CUDA operation\nat some place")
        return real(self, *batch)

    monkeypatch.setattr(machine.PromptTrainer, "compute", waits)
    first = next(sections.capture(Machine("cpu", tmp_path)))
    assert not first.passed and first.found["waits"].startswith("called a synchronizing")


def sections_of(monkeypatch, **functions):
    found = {name: gpu.Section(function, 30) for name, function in functions.items()}
    monkeypatch.setattr(gpu, "SECTIONS", found)


def good(machine):
    yield Check("one", True, {"figure": 1.5})


def test_an_error_in_a_section_is_a_check_that_failed(run, monkeypatch):
    def broken(machine):
        yield from good(machine)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    sections_of(monkeypatch, broken=broken)
    one, end = run("broken")
    assert one["passed"] and not end["passed"]
    assert end["found"]["error"].startswith("RuntimeError: CUDA error: an illegal")


@pytest.fixture
def processes(monkeypatch):
    """Stand-ins for the sections' own processes: what each does, by name."""
    ends = {}

    class Process:
        def __init__(self, command, **_):
            words = dict(zip(command[1::2], command[2::2], strict=False))
            self.pid, self.do = 0, ends[words["--inside"]]
            self.output = Path(words["--output"])

        def wait(self, limit=None):
            self.returncode = None
            if limit:
                self.returncode = self.do(self.output)
            return self.returncode

        def poll(self):
            return self.returncode

    monkeypatch.setattr(gpu.subprocess, "Popen", Process)
    monkeypatch.setattr(gpu, "commit", lambda: None)
    return ends


def test_the_lines_the_file_and_the_exit_status(processes, monkeypatch, tmp_path, capsys):
    def passes(output):
        output.write_text(json.dumps(Check("one", True, {"figure": 1.5})._asdict()))
        return 0

    def hangs(output):
        passes(output)
        raise gpu.subprocess.TimeoutExpired("section", 30)

    killed = []
    monkeypatch.setattr(gpu.os, "killpg", lambda *arguments: killed.append(arguments))
    processes.update(passes=passes, hangs=hangs, crashes=lambda output: -11)
    sections_of(monkeypatch, passes=good, hangs=good, crashes=good)
    words = ["--device", "cpu", "--output", str(tmp_path / "gpu.json")]
    with pytest.raises(SystemExit) as end:
        gpu.main(words)
    assert end.value.code == UNEXPECTED and killed == [(0, signal.SIGKILL)]
    lines = [line for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert lines == [
        "PASS passes: one",
        "PASS hangs: one",
        "FAIL hangs: the end",
        "FAIL crashes: the end",
        f"2 of 4 passed; the figures are in {tmp_path / 'gpu.json'}",
    ]
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["sections"]["passes"][0]["found"] == {"figure": 1.5}
    assert content["sections"]["crashes"][-1]["found"] == {"ended": -11}
    with pytest.raises(SystemExit) as end:
        gpu.main([*words, "--sections", "passes"])
    assert end.value.code == 0


def test_a_section_that_is_killed_in_the_middle_of_a_line_keeps_its_others(processes):
    def killed(output):
        line = json.dumps(Check("one", True, {"figure": 1.5})._asdict())
        output.write_text(f"{line}\n{line[:20]}")
        return -9

    processes.update(memory=killed)
    one, end = gpu.call_section("memory", "cpu")
    assert one["passed"] and (end["passed"], end["found"]) == (False, {"ended": -9})


def test_ctrl_c_ends_the_section_that_runs(processes, monkeypatch):
    def interrupted(output):
        raise KeyboardInterrupt

    killed = []
    monkeypatch.setattr(gpu.os, "killpg", lambda *arguments: killed.append(arguments))
    processes.update(runs=interrupted)
    with pytest.raises(KeyboardInterrupt):
        gpu.call_section("runs", "cpu")
    assert killed == [(0, signal.SIGKILL)]


def test_without_a_gpu_it_says_so(capsys):
    with pytest.raises(SystemExit) as end:
        gpu.main([])
    assert end.value.code == NO_GPU == 7
    assert "PyTorch finds no GPU here" in capsys.readouterr().err


def test_an_unknown_section(capsys):
    with pytest.raises(SystemExit) as end:
        gpu.parse_args(["--sections", "sped"])
    assert end.value.code == 2 and "--sections sped is unknown" in capsys.readouterr().err
