"""Runs a checkout's own script, unedited, on a machine that may lack a GPU, weights or packages.

    python launch.py PLAN.json

What is missing is put in from outside, and each such thing is printed as a line "shim: ...". PLAN:

    path     folders to import from, first to last
    script   the script, run in the current folder
    runs     its command lines, one after the other in this process
    weights  file that stands for every CLIP that `clip` would download; empty: none does
    before   Python to run first
    scores   file for the scores (images, classes) of the last evaluation of every run, a list
"""

import importlib
import importlib.abc
import importlib.machinery
import json
import os
import runpy
import sys
import types
from collections.abc import Sequence

import numpy as np
import torch

# Imported by every start of upstream Dassl or CoOp; of them all a run needs only the F1 score.
ABSENT = ("gdown", "pandas", "scipy", "sklearn", "wilds")


def shim(what: str) -> None:
    print(f"shim: {what}")


def macro_f1(y_true: Sequence[int], y_pred: Sequence[int], **_) -> float:
    """What `sklearn.metrics.f1_score` returns for average="macro" over the labels that occur."""
    true, guess = np.asarray(y_true), np.asarray(y_pred)
    hits = [(2 * ((true == c) & (guess == c)).sum(), c) for c in np.unique(true)]
    return float(np.mean([hit / ((true == c).sum() + (guess == c).sum()) for hit, c in hits]))


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for the packages of ABSENT that are not installed; asked last of all finders.

    Only imports in `folders` get them: libraries ask for optional packages, and shall find none.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = tuple(folders)

    def find_spec(self, name: str, path=None, target=None):
        package = name.split(".")[0]
        if package not in ABSENT or not _importer().startswith(self.folders):
            return None
        if name == package:
            shim(f"no {package}")
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec) -> types.ModuleType:
        return types.ModuleType(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.f1_score = macro_f1
        module.__getattr__ = _nothing


def _nothing(name: str) -> None:
    if name.startswith("__"):
        raise AttributeError(name)


def _importer() -> str:
    """The file whose import statement is being carried out."""
    frame = sys._getframe(2)
    while "importlib" in frame.f_code.co_filename:
        frame = frame.f_back
    return os.path.abspath(frame.f_code.co_filename)


def stay_on_cpu() -> None:
    """Without a GPU `.cuda()` leaves a tensor or a module where it is."""
    if not torch.cuda.is_available():
        shim(".cuda() stays on the CPU")
        torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_, **__: self


def serve_weights(path: str) -> None:
    """Every download of the `clip` in use, and of TCP's second one, gives `path`."""
    packages = ["clip"]
    if os.path.isdir(os.path.join("trainers", "clip_text")):
        packages.append("trainers.clip_text")
    for package in packages:
        importlib.import_module(f"{package}.clip")._download = lambda *_, **__: path


def record_scores() -> list[torch.Tensor]:
    """The scores of the latest evaluation, batch by batch, in a list that fills as it goes."""
    from dassl.evaluation import Classification

    scores: list[torch.Tensor] = []
    reset, process = Classification.reset, Classification.process

    def reset_both(self) -> None:
        scores.clear()
        reset(self)

    def process_and_keep(self, mo, gt) -> None:
        scores.append(mo.detach().float().cpu())
        process(self, mo, gt)

    Classification.reset, Classification.process = reset_both, process_and_keep
    return scores


def check_origin(package: str, folders: Sequence[str]) -> None:
    """Exit unless `package` comes from the first folder that holds it, not from an installation."""
    module = importlib.import_module(package)
    expected = next((f for f in folders if os.path.isdir(os.path.join(f, package))), "")
    if not module.__file__.startswith(expected):
        sys.exit(f"{package} was imported from {module.__file__}, not from {expected}.")


def main(plan: dict) -> None:
    torch.set_num_threads(1)  # tiny matrices, and the same sums in every run
    sys.path[:1] = plan["path"]
    sys.meta_path.append(Absent(plan["path"]))
    for package in ("dassl", "clip"):
        check_origin(package, plan["path"])
    exec(plan["before"], {})
    stay_on_cpu()
    if plan["weights"]:
        serve_weights(plan["weights"])
    scores, kept = record_scores(), []
    for arguments in plan["runs"]:
        sys.argv = [plan["script"], *arguments]
        runpy.run_path(plan["script"], run_name="__main__")
        kept.append(torch.cat(scores) if scores else torch.empty(0))
    torch.save(kept, plan["scores"])


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        main(json.load(file))
