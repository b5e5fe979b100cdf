"""Files from outside never run code: wherever a pickle is given, it is refused, unread."""

import os
import pickle
import shutil
import zipfile

import pytest
import torch

from experiment import cli


class Payload:
    """Unpickled as Python does it, this makes the canary."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def saved(content, path):
    torch.save(content, path)


def bare(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


def old(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


WRITERS = (saved, bare, old)


@pytest.fixture
def canary(tmp_path):
    """A payload; at the end, that it never ran."""
    path = tmp_path / "canary"
    yield {"state_dict": Payload(path), "epoch": 2}
    assert not path.exists()
    bare(Payload(path), tmp_path / "proof")  # it is one
    pickle.loads((tmp_path / "proof").read_bytes())
    assert path.exists()


@pytest.fixture
def refused(words, capsys):
    def call(*arguments, **flags):
        with pytest.raises(SystemExit) as end:
            cli.main(words("CoOp", "refused", *arguments, **flags))
        printed = capsys.readouterr().err.strip()
        assert end.value.code == 2, printed
        return printed.splitlines()[-1]

    return call


def test_as_checkpoint_to_resume(words, refused, canary, tmp_path):
    cli.main(words("CoOp", "run"))
    folder = tmp_path / "run"
    (folder / "results.json").unlink()
    for write in WRITERS:
        write(canary, folder / "prompt_learner" / "model.pth.tar-2")
        printed = refused(output_dir=folder, resume=folder)
        assert "Cannot read" in printed and "model.pth.tar-1, is whole" in printed


@pytest.mark.parametrize("write", WRITERS)
def test_as_model_dir(refused, canary, tmp_path, write):
    folder = tmp_path / "downloaded" / "prompt_learner"
    folder.mkdir(parents=True)
    write(canary, folder / "model.pth.tar-2")
    (folder / "checkpoint").write_text("model.pth.tar-2\n")
    assert "Cannot read" in refused("--eval-only", model_dir=folder.parent)


@pytest.mark.parametrize("write", WRITERS)
def test_as_backbone(refused, canary, tmp_path, write):
    write(canary, tmp_path / "clip.pt")
    assert "is no CLIP file that can be read safely" in refused(backbone=tmp_path / "clip.pt")


def test_as_weights_to_start_from(refused, canary, tmp_path):
    saved(canary, tmp_path / "prompts.pth")
    assert "Cannot read" in refused("MODEL.INIT_WEIGHTS", str(tmp_path / "prompts.pth"))


def test_within_a_torchscript_archive(refused, canary, tmp_path):
    """Neither unread nor trusted: TorchScript's reader knows no Python objects."""
    saved(canary, tmp_path / "plain.pt")
    shutil.copy(tmp_path / "plain.pt", tmp_path / "clip.pt")
    with zipfile.ZipFile(tmp_path / "clip.pt", "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("plain/constants.pkl", pickle.dumps(canary, protocol=2))
    printed = refused(backbone=tmp_path / "clip.pt")
    assert "none of those that OpenAI published" in printed
    trusted = refused("MODEL.BACKBONE.TRUST", "True", backbone=tmp_path / "clip.pt")
    assert "is no CLIP file that can be read safely" in trusted


def test_as_few_shot_cache(words, refused, canary, tiny_root, tmp_path):
    """CoOp's caches are pickles, and are not read; ours are JSON, and nothing else is."""
    root = tmp_path / "data"
    shutil.copytree(tiny_root, root)
    cache = root / "caltech-101" / "split_fewshot"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    bare(canary, cache / "shot_2-seed_1.pkl")
    cli.main(words("CoOp", "run", root=root, output_dir=tmp_path / "run"))
    bare(canary, cache / "shot_2-seed_1.json")
    assert "is no record of a few-shot draw" in refused(root=root)


def test_yaml_makes_no_objects(refused, canary, tmp_path):
    """Neither the file of a method nor the configuration of a run."""
    text = f"OPTIM:\n  NAME: !!python/object/apply:os.mkdir ['{canary['state_dict'].canary}']\n"
    (tmp_path / "method.yaml").write_text(text)
    assert "is not valid YAML" in refused(config_file=tmp_path / "method.yaml")
    (tmp_path / "refused").mkdir(exist_ok=True)
    (tmp_path / "refused" / "config.yaml").write_text(text)
    assert "cannot be read" in refused(resume=tmp_path / "refused")
