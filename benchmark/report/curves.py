"""Training curves and prompts of a run, read from its log.txt and its checkpoint."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from dassl.utils import load_checkpoint
from torch import Tensor

BATCH = re.compile(r"epoch \[(\d+)/\d+\] batch \[\d+/\d+\] (.*) lr ")
VALUE = re.compile(r"(\w+) [-+.\deE]+ \(([-+.\deE]+)\)")  # name, last value, mean of the epoch


def loss_curves(folder: Path) -> dict[str, dict[int, float]]:
    """Each term of the loss by epoch: its mean over the epoch, as the last line of it says.

    Logs of a resumed run are read in the order of their times; a repeated epoch is the later one.
    """
    curves: dict[str, dict[int, float]] = {}
    for log in sorted(folder.glob("log.txt*"), key=lambda path: path.stat().st_mtime):
        for epoch, values in BATCH.findall(log.read_text(encoding="utf-8", errors="replace")):
            for name, mean in VALUE.findall(values):
                if name.startswith("loss"):
                    curves.setdefault(name, {})[int(epoch)] = float(mean)
    return curves


def prompt_magnitudes(folder: Path) -> dict[str, list[float]] | None:
    """Mean L2 norm over the T prompt vectors of each prompted layer, for the text and vision tower.

    None for a run without such a checkpoint (of another kind of method, or not there).
    """
    names = sorted(folder.glob("*/checkpoint"))
    if not names:
        return None
    path = names[0].with_name(names[0].read_text(encoding="utf-8").split()[0])
    if not path.exists():
        return None
    prompts = prompts_of(load_checkpoint(path)["state_dict"])
    return prompts and {
        tower: value.norm(dim=-1).mean(dim=-1).tolist() for tower, value in prompts.items()
    }


def prompts_of(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Prompts (J, T, d) of both towers from the state of FullRankPrompts or LowRankPrompts."""
    if {"text", "vision"} <= set(state):
        return {"text": state["text"], "vision": state["vision"]}
    if not {"text_down", "vision_down"} <= set(state):
        return None
    with torch.no_grad():
        ups = {tower: state.get("up", state.get(f"{tower}_up")) for tower in ("text", "vision")}
        downs = {tower: state[f"{tower}_down"] for tower in ups}
        return {tower: ups[tower][: len(downs[tower])] @ downs[tower] for tower in ups}
