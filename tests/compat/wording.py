"""Compare the texts of the originals, data set by data set, with ours."""

import ast
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import OURS, Failed

sys.path.append(str(OURS))  # behind the checkouts', whose folders have the same names
import prompting.templates

# A list of sentences, or one for each data set.
Templates = list[str] | dict[str, str]
OWN = vars(prompting.templates)
WORDS = "a photo of a"


@dataclass(frozen=True)
class Source:
    """Where an original has its sentences: a variable in a file, and what ours are, made from
    theirs, since theirs name the data sets."""

    label: str
    file: str
    variable: str
    ours: Callable[[Templates], Templates]


def template(own: str) -> Callable[[dict[str, str]], dict[str, str]]:
    """The templates of a method with those of its own, for the data sets that theirs name."""
    templates = OWN[own] if own else {}
    return lambda theirs: {name: OWN["template_for"](name, templates) for name in theirs}


def tcp(theirs: dict[str, str]) -> dict[str, str]:
    """TCP's sentences, where placeholders or words stand for the context."""
    ours = {}
    for name, sentence in theirs.items():
        words = "X X X X" if sentence.startswith("X") else WORDS
        ours[name] = f"{words} {OWN['TCP_ENDINGS'].get(name, '{}.')}"
    return ours


TEMPLATES = {
    "coop": (
        Source("zero-shot templates", "zsclip.py", "CUSTOM_TEMPLATES", template("")),
        Source(
            "selected templates",
            "imagenet_templates.py",
            "IMAGENET_TEMPLATES_SELECT",
            lambda _: list(OWN["IMAGENET_TEMPLATES_SELECT"]),
        ),
    ),
    "kgcoop": (
        Source("KgCoOp's templates", "kgcoop.py", "CUSTOM_TEMPLATES", template("KGCOOP_TEMPLATES")),
    ),
    "prograd": (
        Source(
            "ProGrad's templates", "prograd.py", "CUSTOM_TEMPLATES", template("PROGRAD_TEMPLATES")
        ),
    ),
    "promptsrc": (
        Source(
            "PromptSRC's templates",
            "imagenet_templates.py",
            "IMAGENET_TEMPLATES",
            lambda _: list(OWN["IMAGENET_TEMPLATES"]),
        ),
    ),
    "taskres": (
        Source("TaskRes' templates", "taskres.py", "CUSTOM_TEMPLATES", template("")),
        Source(
            "TaskRes' selected templates",
            "imagenet_templates.py",
            "IMAGENET_TEMPLATES_SELECT",
            lambda _: list(OWN["IMAGENET_TEMPLATES_SELECT"]),
        ),
    ),
    "tcp": (
        Source("TCP's templates", "tcp.py", "CUSTOM_TEMPLATES_ori", template("TCP_TEMPLATES")),
        Source("TCP's sentences", "tcp.py", "CUSTOM_TEMPLATES", tcp),
    ),
}


def check_templates(source: Source, checkout: Path) -> str:
    """That their sentences are ours; raises Failed with the first that is not."""
    theirs = literal(checkout / "trainers" / source.file, source.variable)
    ours = source.ours(theirs)
    if isinstance(theirs, list):
        theirs, ours = (dict.fromkeys(sorted(each)) for each in (theirs, ours))
    for name in theirs.keys() | ours.keys():
        if theirs.get(name, "none") != ours.get(name, "none"):
            raise Failed(f'"{name}": {theirs.get(name, "none")}, ours {ours.get(name, "none")}')
    return f"all {len(theirs)} are ours"


def literal(path: Path, variable: str) -> Templates:
    """The value of a variable that a file sets at its top level; the file is not run."""
    for statement in ast.parse(path.read_text()).body:
        names = [target.id for target in getattr(statement, "targets", ()) if "id" in vars(target)]
        if variable in names:
            return ast.literal_eval(statement.value)
    raise Failed(f"{path} sets no {variable}")
