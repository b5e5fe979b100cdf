"""Test checkpoints: layout, plain content, refusal of code, partial loading."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from dassl.utils import (
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
)
from torch import nn


def state(epoch=3, **more):
    return {"state_dict": nn.Linear(2, 1).state_dict(), "epoch": epoch, **more}


def test_layout(tmp_path):
    save_checkpoint(state(3), tmp_path / "m")
    save_checkpoint(state(4), tmp_path / "m", is_best=True)
    save_checkpoint(state(5), tmp_path / "m", model_name="last.pth")
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {
        "checkpoint",
        "model.pth.tar-3",
        "model.pth.tar-4",
        "model-best.pth.tar",
        "last.pth",
    }
    assert (tmp_path / "m" / "checkpoint").read_text() == "last.pth\n"
    assert load_checkpoint(tmp_path / "m" / "model-best.pth.tar")["epoch"] == 4


def test_values_come_back_plain(tmp_path):
    weights = OrderedDict({"module.weight": nn.Parameter(torch.ones(1, 2))})
    given = {
        "state_dict": weights,
        "epoch": 1,
        "val_result": np.float64(83.25),
        "scheduler": {"base_lrs": [np.float32(0.5)], "steps": (1, 2), "name": np.str_("a")},
        "optimizer": None,
    }
    save_checkpoint(given, tmp_path)
    assert list(given["state_dict"]) == ["module.weight"]
    loaded = load_checkpoint(tmp_path / "model.pth.tar-1")
    assert type(loaded["val_result"]) is float and loaded["val_result"] == 83.25
    assert loaded["scheduler"] == {"base_lrs": [0.5], "steps": (1, 2), "name": "a"}
    assert type(loaded["state_dict"]["weight"]) is torch.Tensor
    with pytest.raises(TypeError, match=r"state\['scheduler'\]\['inner'\] is a Linear"):
        save_checkpoint(state(scheduler={"inner": nn.Linear(1, 1)}), tmp_path)


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    save_checkpoint(state(3, val_result=1.0), tmp_path)

    def crash(obj, file):
        file.write(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(torch, "save", crash)
        save_checkpoint(state(3, val_result=2.0), tmp_path)
    assert load_checkpoint(tmp_path / "model.pth.tar-3")["val_result"] == 1.0
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint", "model.pth.tar-3"}


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def bare_pickle(obj, path):
    path.write_bytes(pickle.dumps(obj, protocol=2))


@pytest.mark.parametrize("write", [torch.save, bare_pickle])
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, write):
    write({"state_dict": {}, "epoch": Malicious(str(tmp_path / "ran"))}, tmp_path / "bad")
    with pytest.raises(ValueError, match="bad as a checkpoint.*tensors and plain values.*upstream"):
        load_checkpoint(tmp_path / "bad")
    assert not (tmp_path / "ran").exists()


def test_missing_and_broken_files(tmp_path):
    save_checkpoint(state(3), tmp_path)
    with pytest.raises(FileNotFoundError, match="model.pth.tar-9.*Files there: .*model.pth.tar-3"):
        load_checkpoint(tmp_path / "model.pth.tar-9")
    with pytest.raises(ValueError, match="got None"):
        load_checkpoint(None)
    path = tmp_path / "model.pth.tar-3"
    whole = path.read_bytes()
    for content in (whole[:-100], whole[:200], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cut short.*\. Copy the file again, or retrain\.$"):
            load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="Cannot resume.*--resume"):
        resume_from_checkpoint(tmp_path / "none", nn.Linear(2, 1))


def test_resume_returns_the_next_epoch(tmp_path):
    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    save_checkpoint({"state_dict": model.state_dict(), "epoch": 5}, tmp_path)
    assert resume_from_checkpoint(tmp_path, other) == 5
    assert torch.equal(model.weight, other.weight)


def test_pretrained_weights_that_fit_are_loaded(tmp_path, capsys):
    source = {"module.0.weight": torch.ones(2, 2), "1.weight": torch.ones(5, 2), "x": torch.ones(1)}
    torch.save(source, tmp_path / "w.pt")
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    bias = model[0].bias.detach().clone()
    load_pretrained_weights(model, tmp_path / "w.pt")
    assert torch.equal(model[0].weight, torch.ones(2, 2)) and torch.equal(model[0].bias, bias)
    out = capsys.readouterr().out
    assert "Layers discarded due to unmatched keys or size: ['1.weight', 'x']" in out
    with pytest.warns(UserWarning, match="none of its layers has a name and shape"):
        load_pretrained_weights(nn.Conv2d(1, 1, 3), tmp_path / "w.pt")


def test_a_checkpoint_is_read_to_the_cpu_also_where_there_is_a_gpu(tmp_path, monkeypatch):
    """It may come from a GPU that this machine lacks, and the GPU at hand may be full."""
    save_checkpoint({"state_dict": {"w": torch.ones(2)}, "epoch": 1}, tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked = []
    real = torch.load
    monkeypatch.setattr(
        torch, "load", lambda *a, **k: asked.append(k["map_location"]) or real(*a, **k)
    )
    load_checkpoint(tmp_path / "model.pth.tar-1")
    assert asked == ["cpu"]
