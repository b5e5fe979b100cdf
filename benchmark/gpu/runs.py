"""Check whole runs as a user starts them: their GPU, how they end, how they load images."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from dassl.utils import latest_checkpoint, load_checkpoint
from PIL import Image

from benchmark.gpu.machine import ROOT, Check, Checks, Machine
from benchmark.speed.__main__ import class_names
from experiment.exit_status import STOPPED
from trainers.checkpoint import FOLDER

# Read by every Python process as it starts: notes what it sees then, and once it imports clip.
NOTES = """
import importlib.abc, json, os, pathlib, sys
start = os.environ.get("CUDA_VISIBLE_DEVICES")
class Note(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "clip":
            folder = pathlib.Path(os.environ["BENCHMARK_GPU_NOTES"])
            (folder / str(os.getpid())).write_text(json.dumps(start))
sys.meta_path.insert(0, Note())
"""
TIME = re.compile(r"batch \[\d+/\d+\] time \S+ \((\S+)\) data \S+ \((\S+)\)")


def routing(machine: Machine) -> Checks:
    """Check that each run's process starts with its own GPU out of --gpus."""
    count = torch.cuda.device_count()
    gpus = [str(number) for number in range(min(count, 2))] if machine.on_gpu else ["3", "5"]
    shown = {} if machine.on_gpu else {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5"}
    notes = machine.scratch / "notes"
    notes.mkdir()
    (machine.scratch / "sitecustomize.py").write_text(NOTES)
    paths = [str(machine.scratch), os.environ.get("PYTHONPATH", "")]
    environment = {
        **{k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"},
        **shown,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "BENCHMARK_GPU_NOTES": str(notes),
    }
    process = subprocess.Popen(
        _protocol(machine.scratch / "out", "1,2", "--gpus", ",".join(gpus), "--jobs", "2"),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    errors = process.communicate()[1].strip()
    seen = {p.name: json.loads(p.read_text()) for p in notes.iterdir()}
    seen.pop(str(process.pid), None)  # the command itself sees all
    devices = [json.loads(p.read_text())["device"] for p in machine.scratch.rglob("results.json")]
    found = {"asked": gpus, "seen at the start": seen, "devices": devices}
    found |= {"errors": errors[-300:]} if process.returncode else {}
    passed = not process.returncode and set(seen.values()) == set(gpus) and len(devices) == 2
    yield Check("--gpus", passed, found)


def _protocol(output: Path, seeds: str, *words: str) -> list[str]:
    command = [sys.executable, "-m", "benchmark.run", "base2new", "--root", "demo"]
    command += ["--output", str(output), "--seeds", seeds, "--only", "train"]
    return [*command, *words, "OPTIM.MAX_EPOCH", "2", "DATASET.NUM_SHOTS", "1"]


def runs(machine: Machine) -> Checks:
    """Compare runs by graph, eager and on a CPU; stop and resume; evaluate elsewhere."""
    fixed = ("OPTIM.MAX_EPOCH", "2", "DATASET.NUM_SHOTS", "16" if machine.on_gpu else "1")
    fixed += ("DATASET.SUBSAMPLE_CLASSES", "base", "TRAIN.CHECKPOINT_FREQ", "1")
    fixed += ("TRAINER.MMLOP.PREC", "fp32", "USE_CUDA", str(machine.on_gpu))
    variants = {
        "graph": (),
        "again": (),
        "eager": ("TRAIN.CUDA_GRAPH", "False"),
        "cpu": ("USE_CUDA", "False"),
    }
    for name, pairs in variants.items():
        status = machine.train(name, *fixed, *pairs)
        found = _results(machine.scratch / name) if status == 0 else {}
        yield Check(f"a run: {name}", status == 0, found)
    noise = _apart(machine, "again", "graph")
    for other, allowed in (("eager", max(1e-3, 3 * noise)), ("cpu", max(1e-2, 3 * noise))):
        apart = _apart(machine, other, "graph")
        found = {"difference": apart, "of two runs": noise}
        yield Check(f"prompts, graph and {other}", apart <= allowed, found)
    stopped = _stop(machine, fixed)
    status = machine.train("cut", "--resume", str(machine.scratch / "cut"), *fixed)
    apart = _apart(machine, "cut", "graph") if status == 0 else float("inf")
    found = {"difference": apart, "status of the stop": stopped}
    yield Check("stop and resume", stopped == STOPPED and apart <= max(1e-3, 3 * noise), found)
    for trained, device in (("graph", "cpu"), ("cpu", machine.device)):
        name, prompts = f"{trained} on {device}", str(machine.scratch / trained)
        pairs = (*fixed, "USE_CUDA", str(device == "cuda"))
        status = machine.train(name, "--eval-only", "--model-dir", prompts, *pairs)
        pair = [_results(machine.scratch / n).get("accuracy", -100) for n in (name, trained)]
        passed = status == 0 and abs(pair[0] - pair[1]) < 0.5
        yield Check(f"prompts of {trained}, evaluated on {device}", passed, {"accuracies": pair})
    yield _together(machine)


def _results(folder: Path) -> dict:
    path = folder / "results.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return {k: found[k] for k in ("accuracy", "precision", "cuda_graph", "device") if k in found}


def _apart(machine: Machine, one: str, other: str) -> float:
    """Return the difference of two runs' prompts, relative to their norm."""
    folders = (machine.scratch / name / FOLDER for name in (one, other))
    paths = [latest_checkpoint(folder) for folder in folders]
    if None in paths:
        return float("inf")
    states = [load_checkpoint(path)["state_dict"].values() for path in paths]
    found, expected = (torch.cat([v.flatten() for v in state]) for state in states)
    return ((found - expected).norm() / expected.norm()).item()


def _stop(machine: Machine, words: tuple[str, ...]) -> int:
    """Start a run, stop it after its first epoch, and return its exit status."""
    folder = machine.scratch / "cut"
    command = [sys.executable, "train.py", "--output-dir", str(folder), "--trainer", "MMLoP"]
    run = subprocess.Popen([*command, "--seed", "1", *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    while run.poll() is None and latest_checkpoint(folder / FOLDER) is None:
        time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    return run.wait()


def _together(machine: Machine) -> Check:
    """Compare three seeds stepped together with the same three apart."""
    for name, words in (("together", ("--together",)), ("apart", ())):
        command = _protocol(machine.scratch / name, "1,2,3", "--jobs", "1", *words)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            return Check("three seeds together", False, {name: done.stderr.strip()[-300:]})
    paths = list((machine.scratch / "together").rglob("results.json"))
    together = all(json.loads(path.read_text()).get("together") == [1, 2, 3] for path in paths)
    names = [str(path.parent.relative_to(machine.scratch)) for path in paths]
    apart = [_apart(machine, name, name.replace("together", "apart", 1)) for name in names]
    passed = together and len(apart) == 3 and max(apart) <= 1e-2
    return Check("three seeds together", passed, {"apart": apart, "together": together})


def loop(machine: Machine) -> Checks:
    """Train on JPEG files as a run does: the share of loading, the seconds between epochs."""
    classes, epochs, workers = (50, 3, 8) if machine.on_gpu else (4, 2, 2)
    per_class = 16 if machine.on_gpu else 4
    _write_images(machine.dataset(classes), classes, per_class)
    words = machine.words("MMLoP", "auto", classes)
    pairs = ("DATALOADER.NUM_WORKERS", str(workers), "OPTIM.MAX_EPOCH", str(epochs))
    pairs += ("TRAIN.PRINT_FREQ", "1", "TEST.NO_TEST", "True", "DATASET.NUM_SHOTS", str(per_class))
    began = time.monotonic()
    status = machine.train("loop", *words, *pairs)
    text = "".join(path.read_text() for path in (machine.scratch / "loop").glob("log.txt*"))
    every = [tuple(map(float, pair)) for pair in TIME.findall(text)]
    steps = len(every) // epochs
    ends = every[steps - 1 :: steps] if steps else []  # the averages of each epoch
    found = {"seconds": time.monotonic() - began, "steps": steps, "workers": workers}
    found |= {"per step": [e[0] for e in ends], "of these loading": [e[1] for e in ends]}
    if status == 0:
        last = load_checkpoint(latest_checkpoint(machine.scratch / "loop" / FOLDER))
        stepping = steps * sum(e[0] for e in ends)
        found["between epochs"] = (last["seconds"] - stepping) / epochs
    yield Check("the loop over JPEGs", status == 0 and len(ends) == epochs, found)


def _write_images(root: Path, classes: int, count: int) -> None:
    """Replace the training images of a data set by JPEGs of noise, of the usual size."""
    path = root / "caltech-101" / "split_zhou_Caltech101.json"
    split = json.loads(path.read_text())
    split["train"] = []
    for label, name in enumerate(class_names(classes)):
        for number in range(count):
            file = f"{name}/{number}.jpg"
            noise = Image.effect_noise((500, 375), 80).convert("RGB")
            noise.save(path.parent / "101_ObjectCategories" / file)
            split["train"].append([file, label, name])
    path.write_text(json.dumps(split))
