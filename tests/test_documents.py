"""The examples of the documents run: the library, a method of one's own, MMLoP in a checkout."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dassl.engine import TRAINER_REGISTRY
from PIL import Image

import prompting
import trainers
from tests.docs.pages import ROOT, blocks, text


def test_the_readme_s_example_of_the_library_runs(monkeypatch, tmp_path, capsys):
    """With the demo's weights in place of OpenAI's."""
    (source,) = blocks("README.md", "python")
    assert 'load_backbone("ViT-B/16")' in source
    load = prompting.load_backbone
    monkeypatch.setattr(prompting, "load_backbone", lambda name: load("demo"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (90, 60), (200, 30, 30)).save("cat.jpg")
    exec(compile(source, "README.md", "exec"), {})
    (row,) = ast.literal_eval(capsys.readouterr().out.removeprefix("tensor(").rstrip(")\n"))
    assert len(row) == 2 and sum(row) == pytest.approx(1, abs=1e-3)


def test_the_example_method_runs(run, monkeypatch, tmp_path):
    """The page's own text, registered and trained."""
    source = next(
        block for block in blocks("CONTRIBUTING.md", "python") if "class Shallow" in block
    )
    scope = {"__name__": "shallow"}
    try:
        exec(compile(source, "CONTRIBUTING.md", "exec"), scope)
        everything = trainers.add_config

        def add_config(cfg):
            everything(cfg)
            scope["add_config"](cfg)

        monkeypatch.setattr(trainers, "add_config", add_config)
        results = run("Shallow", "shallow")
    finally:
        TRAINER_REGISTRY._obj_map.pop("Shallow", None)
    assert results["trainable_parameters"] == 4 * 128


def test_what_a_checkout_copies_is_complete(tmp_path):
    """The commands of docs/compatibility.md on a made-up checkout: no import is left out."""
    block = text("docs/compatibility.md").partition("## MMLoP in your checkout")[2]
    (script, *_) = re.findall(r"```bash\n(.*?)```", block, re.DOTALL)
    for folder in ("trainers", "configs/trainers"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "train.py").write_text(
        "import trainers.zsclip\n\n\ndef setup_cfg(args):\n    extend_cfg(cfg)\n"
    )
    environment = {"MMLOP": str(ROOT), "PATH": "/usr/bin:/bin"}
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=environment, check=True)
    lines = (tmp_path / "train.py").read_text().splitlines()
    assert lines[1] == "import trainers.mmlop" and lines[-1] == "    trainers.mmlop.add_config(cfg)"
    copied = sorted(path.stem for path in (tmp_path / "trainers").glob("*.py"))
    assert len(copied) <= 4
    ours = {"benchmark", "datasets", "experiment", "prompting", "train", "trainers"}
    for path in (tmp_path / "trainers").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        for module in (module for module in found if module.split(".")[0] in ours):
            file = tmp_path / f"{module.replace('.', '/')}.py"
            assert file.exists() or (file.with_suffix("") / "__init__.py").exists(), module


def test_the_examples_of_the_page_on_trained_prompts_run(tiny_file, tmp_path, monkeypatch, capsys):
    """All but the one that reads ONNX, which tests/prompting/test_export.py runs."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_file, "tiny.pth")
    backbone = prompting.load_backbone("tiny.pth")
    model = prompting.zero_shot(backbone, ["owl", "horse"])
    prompting.save_prompts(model, "prompts")
    Path("photos").mkdir()
    Image.new("RGB", (40, 50), "red").save("photos/a.jpg")
    sources = [b for b in blocks("docs/predict.md", "python") if "onnxruntime" not in b]
    assert len(sources) == 2
    for source in sources:
        scope = {}
        exec(compile(source, "docs/predict.md", "exec"), scope)
        assert callable(scope["model"]) and callable(scope["preprocess"])
    assert scope["model"].classnames == ("cat", "dog")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "a.jpg" in line]
    assert "'owl'" in line and "'horse'" in line


def test_the_citation_is_that_of_the_readme():
    content = yaml.safe_load(text("CITATION.cff"))
    paper = content["preferred-citation"]
    assert {"cff-version", "message", "title", "authors"} <= set(content)
    bibtex = text("README.md").replace("{{MMLoP}", "MMLoP")
    assert paper["title"] in bibtex
    for author in paper["authors"]:
        assert f"{author['family-names']}, {author['given-names']}" in bibtex
