"""Imports point down only, as CONTRIBUTING.md says, and never in a circle."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What each room may import of this repository, itself apart.
BELOW = {
    "prompting": set(),
    "dassl": set(),
    "datasets": {"dassl", "prompting"},
    "trainers": {"dassl", "prompting"},
    "experiment": {"dassl", "prompting", "datasets", "trainers"},
    "inference": {"dassl", "prompting", "datasets", "trainers", "experiment"},
    "benchmark": {"dassl", "prompting", "datasets", "trainers", "experiment"},
    "train": {"experiment"},
    "predict": {"inference"},
}
LIBRARY = {
    "torch",
    "clip",
    "safetensors",
    "PIL",
    "filelock",
}  # all that prompting takes from others
EXTRAS = {"huggingface_hub", "onnxscript", "onnxruntime", "open_clip"}  # within functions alone
SCHEDULER = {f"benchmark.{n}" for n in ("run", "scheduler", "slurm", "unit", "worker", "summary")}


def sources() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {name: ROOT / f"{name}.py" for name in ("train", "predict")}
    for above in (ROOT, ROOT / "engine"):
        for room in BELOW:
            for path in (above / room).rglob("*.py"):
                parts = path.relative_to(above).with_suffix("").parts
                found[".".join(p for p in parts if p != "__init__")] = path
    return found


MODULES = sources()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports(name: str, tree: ast.AST | None = None) -> set[str]:
    """The modules that a module, or a part of it, imports."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree or TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join([*above, node.module or ""] if node.level else [node.module])
            module = module.rstrip(".")
            for alias in node.names:
                deeper = f"{module}.{alias.name}"
                found.add(deeper if deeper in MODULES else module)
    return found


def at_the_top(name: str) -> set[str]:
    """The modules that are imported with a module, not first within a function."""
    top = [n for n in TREES[name].body if not isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return set().union(*(imports(name, node) for node in top))


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    room = name.split(".")[0]
    rooms = {module.split(".")[0] for module in imports(name)} & set(BELOW)
    assert rooms <= BELOW[room] | {room}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("prompting")])
def test_the_library_takes_torch_clip_and_safetensors_only(name):
    for found, allowed in ((imports(name), LIBRARY | EXTRAS), (at_the_top(name), LIBRARY)):
        others = {module.split(".")[0] for module in found} - {"prompting"}
        assert others - set(sys.stdlib_module_names) <= allowed


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("benchmark.report")])
def test_the_report_knows_no_scheduler(name):
    assert not imports(name) & SCHEDULER


def test_there_is_no_circle():
    graph = {}
    for name in TREES:
        graph[name] = (at_the_top(name) & set(MODULES)) - {name}
        # A package's own list of its modules is no circle: they do not need the package.
        graph[name] -= {name.rpartition(".")[0]}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("name", MODULES)
def test_an_import_within_a_function_has_its_reason_beside_it(name):
    lines = MODULES[name].read_text(encoding="utf-8").splitlines()
    for function in ast.walk(TREES[name]):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                start = function.body[0].lineno - 1
                beside = lines[max(start - 2, 0) : node.end_lineno]
                assert any("#" in line for line in beside), f"{name}, line {node.lineno}"


def test_sizes():
    """No file above 300 lines, no function above 50."""
    for name, path in MODULES.items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, name
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.FunctionDef):
                first = node.body[0]
                documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                length = node.end_lineno - (first.end_lineno if documented else node.lineno)
                assert length <= 50, f"{name}.{node.name} has {length} lines"
