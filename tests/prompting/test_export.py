"""The exported file is the model: other batch sizes, the preprocessing, the labels."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import prompting.export
from prompting import Backbone, PromptedCLIP, predict
from prompting.export import FILE, MergedClassifier, difference, export, main
from prompting.hub import save_prompts
from prompting.preprocess import ImageSettings, describe_preprocessing, image_transform
from tests.conftest import build_clip
from tests.docs.pages import blocks
from tests.prompting.learners import MODELS, NAMES, low_rank, moved

EXTRA = "pip install onnx onnxscript onnxruntime"
SCRIPT = next(b for b in blocks("docs/predict.md", "python") if "InferenceSession" in b)


@pytest.fixture(scope="module")
def shallow():
    """Three layers: what takes time here is the tracing."""
    return Backbone(build_clip(layers=3), "tiny", "0" * 64, "fp32", torch.device("cpu"))


@pytest.fixture(scope="module")
def exported(shallow, tmp_path_factory):
    """A model and its file."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=EXTRA)
    torch.manual_seed(0)
    model = moved(low_rank(shallow, depths=(2, 2)))
    return model, export(model, tmp_path_factory.mktemp("onnx") / "out")


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"conditional"}))
def test_text_and_logit_scale_are_merged_into_one_matrix(tiny_backbone, name):
    model, images = moved(MODELS[name](tiny_backbone)), torch.randn(3, 3, 32, 32)
    merged = MergedClassifier(model)
    assert merged.weight.shape == (3, 32)
    with torch.no_grad(), model.fixed_text():
        torch.testing.assert_close(merged(images), model(images), rtol=0, atol=1e-5)


def test_what_differs_from_image_to_image_is_refused(tiny_backbone, tmp_path):
    with pytest.raises(ValueError, match=r"differ from image to image \(CoCoOp\)"):
        export(MODELS["conditional"](tiny_backbone), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["low rank", "adapters"])
def test_the_traced_towers_take_any_batch_size(shallow, name):
    """Without the extras: the graph that becomes ONNX, with other sizes than the example's."""
    merged = MergedClassifier(moved(MODELS[name](shallow))).eval()
    sizes = ({0: torch.export.Dim("batch")},)
    with torch.no_grad():
        program = torch.export.export(merged, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=sizes)
        for count in (1, 3):
            images = torch.randn(count, 3, 32, 32)
            found = program.module()(images)
            torch.testing.assert_close(found, merged(images), rtol=0, atol=1e-4)


def test_the_file_gives_the_model_s_logits_for_any_batch_size(exported):
    import onnxruntime

    model, path = exported
    assert difference(model, path) <= 1e-4
    session = onnxruntime.InferenceSession(path)
    for count in (1, 4, 7):
        images = torch.randn(count, 3, 32, 32)
        (found,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            expected = model(images)
        assert found.shape == (count, 3)
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-4)


def test_labels_and_preprocessing_are_in_the_file_and_no_path_of_this_machine(exported):
    import onnx

    model, path = exported
    about = {p.key: json.loads(p.value) for p in onnx.load(path).metadata_props}
    assert about["labels"] == NAMES
    assert about["preprocessing"] == describe_preprocessing(32)
    assert about["backbone"] == {"name": "tiny", "sha256": "0" * 64}
    assert b".py" not in path.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == [FILE]


def test_a_difference_is_seen(exported):
    model, path = exported
    text = model.text_classifier()
    with model.fixed_text():
        model.fix_text(text.roll(1, dims=0))
        assert difference(model, path) > 1e-3


@pytest.mark.parametrize("method", ["", "bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(50, 40), (40, 51), (32, 32), (20, 33), (133, 64)])
def test_the_described_preprocessing_is_the_model_s(size, method):
    """By PIL and numpy alone, as the script on the page does it."""
    settings = None
    if method:
        pytest.importorskip("open_clip")
        settings = ImageSettings((0.5, 0.4, 0.3), (0.2, 0.3, 0.5), method, "shortest")
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    scope = {"p": describe_preprocessing(32, settings), "np": np, "image": image}
    lines = SCRIPT[SCRIPT.index("    image = ") : SCRIPT.index("    (logits,)")].splitlines()
    source = "\n".join(line[4:] for line in lines).replace("Image.open(path)", "image")
    exec(compile(source, "docs/predict.md", "exec"), scope)
    found = torch.from_numpy(scope["x"].transpose(2, 0, 1)).float()
    torch.testing.assert_close(found, image_transform(32, settings)(image))


def test_another_preprocessing_is_not_described_as_clip_s(tiny_backbone, tmp_path):
    squashed = ImageSettings((0.5,) * 3, (0.5,) * 3, "bicubic", "squash")
    backbone = replace(tiny_backbone, images=squashed)
    with pytest.raises(ValueError, match='The preprocessing of backbone "tiny" is not CLIP\'s'):
        export(low_rank(backbone), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_script_of_the_page_runs_without_torch(exported, tmp_path):
    """In a process in which torch cannot be imported; what it prints is what predict says."""
    model, path = exported
    files = []
    for seed, size in enumerate([(60, 40), (33, 70), (32, 32)]):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        files.append(tmp_path / f"{seed}.png")
        Image.fromarray(pixels).save(files[-1])
    body = SCRIPT.partition("session =")[2].splitlines()
    assert len(body) <= 11
    script = tmp_path / "classify.py"
    script.write_text(f"import sys\nsys.modules['torch'] = None\n{SCRIPT}")
    command = [sys.executable, script, *files]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    for file, prediction, (name, found) in zip(files, predict(model, files), lines, strict=True):
        with torch.no_grad():
            largest = model(model.backbone.preprocess(Image.open(file))[None]).max().item()
        label, _, logit = found.rpartition(" ")
        assert (name, label) == (str(file), prediction.labels[0])
        assert float(logit) == pytest.approx(largest, abs=1e-3)


@pytest.mark.parametrize("largest", [0, 1 << 30])
def test_large_weights_lie_in_a_second_file_and_a_full_disk_leaves_nothing(
    tiny_backbone, tmp_path, monkeypatch, largest
):
    asked = []

    def save(path, external_data):
        path.write_bytes(b"half")
        asked.append(external_data)
        raise OSError("No space left on device")

    program = SimpleNamespace(model=SimpleNamespace(graph=[], metadata_props={}), save=save)
    monkeypatch.setattr(prompting.export, "_trace", lambda *_: program)
    monkeypatch.setattr(prompting.export, "LARGEST", largest)
    with pytest.raises(OSError, match="No space left"):
        export(low_rank(tiny_backbone), tmp_path / "out")
    assert asked == [largest == 0] and list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_replaced(tiny_backbone, tmp_path):
    with pytest.raises(FileExistsError, match=f"{tmp_path} is there already: name another"):
        export(low_rank(tiny_backbone), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match=f"{tmp_path / 'file'} is a file and no folder"):
        export(low_rank(tiny_backbone), tmp_path / "file" / "out")


def test_another_precision_is_refused(tiny_clip, tmp_path):
    backbone = Backbone(tiny_clip, "tiny", "0" * 64, "amp", torch.device("cpu"))
    model = PromptedCLIP(backbone, low_rank(backbone).prompt_learner, NAMES, "X X X X {}.")
    with pytest.raises(ValueError, match="fp32 on the CPU, this one is in amp on cpu: load the"):
        export(model, tmp_path / "out")


def test_without_the_packages_the_export_is_one_sentence(tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=re.escape("pip install onnx onnxscript.")):
        export(low_rank(tiny_backbone), tmp_path / "out")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="is written, but not checked: pip install onnxruntime"):
        difference(low_rank(tiny_backbone), tmp_path / FILE)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_is_wrong(tiny_backbone, tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"prompting.export: {tmp_path} is no folder of")
    folder = save_prompts(low_rank(tiny_backbone), tmp_path / "prompts")
    assert main([str(folder), str(tmp_path / "out")]) == 2  # "tiny" is no backbone to load
    assert '"tiny" is neither a file nor a known name' in capsys.readouterr().err
