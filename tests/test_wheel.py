"""`pip install .`: the library alone, and nothing heavy with it."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Of the extras, and of the rooms above the library.
HEAVY = {
    "dassl", "huggingface_hub", "jinja2", "matplotlib", "onnx", "onnxruntime", "onnxscript",
    "open_clip", "pandas", "pyarrow", "scipy", "tabulate", "tensorboard", "timm", "yacs",
}  # fmt: skip


def test_importing_the_library_imports_nothing_heavy():
    code = "import json, sys, prompting, prompting.export; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert {"torch", "clip", "safetensors", "prompting"} <= found
    assert not found & HEAVY


def test_the_wheel_holds_the_library_and_asks_for_no_more(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "prompting", source / "prompting")
    for other in ("trainers", "inference", "tests"):  # what lies beside it stays out
        (source / other).mkdir()
        (source / other / "__init__.py").touch()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = (name for name in names if name.endswith("/METADATA"))
        lines = archive.read(about).decode().splitlines()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"prompting", "mmlop"}
    expected = {f"prompting/{path.name}" for path in (ROOT / "prompting").glob("*.py")}
    expected |= {"prompting/demo_clip.safetensors", "prompting/DEMO_CLIP.md"}
    assert {name for name in names if name.startswith("prompting/")} == expected
    asked = [line.split()[1] for line in lines if line.startswith("Requires-Dist: ")
             and "extra ==" not in line]  # fmt: skip
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in asked}
    assert names == {"torch", "clip-anytorch", "safetensors", "filelock", "setuptools"}
