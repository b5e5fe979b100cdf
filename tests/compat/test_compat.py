"""The compatibility scripts: always their parts and pages, whole where checkouts are given.

MMLOP_COMPAT_COOP, _MAPLE, _PROMPTSRC, _DASSL, _KGCOOP, _PROGRAD, _TCP, _MMA, _LORA and so on name
the checkouts.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import clip
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUN = ("coop", "maple", "promptsrc", "dassl")
ORIGINALS = (
    *("coop", "kgcoop", "prograd", "maple", "promptsrc", "tcp", "mma"),
    *("lora", "tip", "clip_adapter", "taskres", "lp_plus_plus", "mmrl", "two_stage"),
)


@pytest.fixture
def module(monkeypatch):
    """Imports one of the scripts as they import each other."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module


def script(name: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, HERE / name, *arguments], capture_output=True, text=True, cwd=ROOT
    )


@pytest.mark.parametrize(("name", "known"), [("run.py", RUN), ("originals.py", ORIGINALS)])
def test_passes_on_the_checkouts_given(name, known):
    given = {
        n: os.environ[key] for n in known if (key := f"MMLOP_COMPAT_{n.upper()}") in os.environ
    }
    if not given:
        pytest.skip("no checkout is given by MMLOP_COMPAT_COOP and the like")
    done = script(name, *[part for n, path in given.items() for part in (f"--{n}", path)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout


def test_without_a_checkout_it_says_which_flags_there_are():
    done = script("run.py")
    assert done.returncode == 2
    assert "no checkout is given: pass --coop, --maple, --promptsrc, --dassl." in done.stderr


def test_another_folder_is_refused(module, tmp_path, capsys):
    run = module("run")
    with pytest.raises(SystemExit) as stop:
        run.main(["--coop", str(tmp_path)])
    assert stop.value.code == 2
    expected = f"--coop {tmp_path} holds no trainers/coop.py: pass a checkout of KaiyangZhou/CoOp."
    assert expected in capsys.readouterr().err


def test_a_check_that_fails_is_printed_and_gives_status_1(module, capsys):
    bench = module("bench")

    def fails():
        raise bench.Failed("the scores differ by up to 1.0e+00")

    assert bench.report([("first", lambda: "fine"), ("second", fails)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok   first: fine",
        "FAIL second: the scores differ by up to 1.0e+00",
        "1 failed",
    ]
    assert bench.report([("first", lambda: "fine")]) == 0


def test_a_process_that_fails_says_its_last_lines(module, tmp_path):
    bench = module("bench")
    with pytest.raises(bench.Failed, match="exit status 3:\n.*so it is"):
        bench.execute([sys.executable, "-c", "print('so it is'); raise SystemExit(3)"], tmp_path)


def test_the_documented_commands_copy_all_that_mmlop_needs(module, tmp_path):
    """Into a folder with just what the commands say they meet there."""
    bench = module("bench")
    (tmp_path / "configs" / "trainers").mkdir(parents=True)
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "__init__.py").touch()
    (tmp_path / "trainers" / "zsclip.py").touch()
    (tmp_path / "train.py").write_text(
        "import trainers.zsclip\n\n\ndef setup_cfg(cfg):\n    extend_cfg(cfg)\n    return cfg\n"
    )
    bench.execute(
        ["bash", "-euc", bench.documented("MMLoP in your checkout")], tmp_path, MMLOP=str(ROOT)
    )
    output = bench.execute(
        [
            sys.executable,
            "-c",
            "import train; from dassl.config import get_cfg_default as defaults\n"
            "train.extend_cfg = print\n"
            "cfg = train.setup_cfg(defaults())\n"
            "cfg.merge_from_file('configs/trainers/MMLoP/base2new.yaml')\n"
            "print(cfg.TRAINER.MMLOP.RANK, train.trainers.__file__)",
        ],
        tmp_path,
        PYTHONPATH=str(ROOT / "engine"),
    )
    assert output.splitlines()[-1] == f"1 {tmp_path / 'trainers' / '__init__.py'}"


def test_the_documented_lines_mend_upstream_s_scheduler(module, monkeypatch):
    """A warm-up built and stepped as upstream's: it takes `verbose`, saves plain values, and goes
    on at the right rate."""
    for name in ("__init__", "state_dict", "load_state_dict"):
        monkeypatch.setattr(LRScheduler, name, getattr(LRScheduler, name))
    exec(module("bench").documented("MMLoP on Dassl.pytorch"), {})

    class Warmup(LRScheduler):
        def __init__(self, optimizer, successor):
            self.successor = successor
            super().__init__(optimizer, -1, False)

        def get_lr(self):
            return self.successor.get_last_lr() if self.last_epoch else [1e-5]

        def step(self):
            if self.last_epoch < 1:
                return super().step()
            self.successor.step()
            self._last_lr = self.successor.get_last_lr()

    def start():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return optimizer, Warmup(optimizer, CosineAnnealingLR(optimizer, 4))

    def steps(optimizer, scheduler, count):
        rates = []
        for _ in range(count):
            optimizer.step()
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    whole = steps(*start(), 4)
    optimizer, scheduler = start()
    first = steps(optimizer, scheduler, 2)
    state = scheduler.state_dict()
    assert all(isinstance(v, (int, float, bool, list, dict, type(None))) for v in state.values())
    resumed, again = start()
    resumed.load_state_dict(optimizer.state_dict())
    again.load_state_dict(state)
    assert first + steps(resumed, again, 2) == whole
    assert len(set(whole)) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_archive_reads_like_openai_s(module, tmp_path):
    world = module("world")
    state = world.clip_state(text=64, vision=64, joint=16, layers=1, patch=16, side=32)
    world.save_archive(state, 32, tmp_path / "tiny.pt")
    model, _ = clip.load(str(tmp_path / "tiny.pt"), device="cpu")
    assert model.visual.input_resolution == 32
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name].half().float(), rtol=0, atol=0)


def test_the_stand_in_for_scikit_learn_counts_like_our_evaluator(module):
    from dassl.evaluation.evaluator import macro_f1

    true, guess = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2]
    counts = torch.zeros(3, 3, dtype=torch.long)
    for label, found in zip(true, guess, strict=True):
        counts[label, found] += 1
    stand_in = module("launch").macro_f1(true, guess, average="macro", labels=[0, 1, 2])
    assert stand_in == pytest.approx(macro_f1(counts.numpy()))
