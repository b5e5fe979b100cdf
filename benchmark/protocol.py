"""Read protocols: a table as data, one per file of `configs/protocols`.

A protocol trains every row (a method, or a method with overrides) on some data sets, for each seed
and number of shots, and tests the trained prompts, on the same data sets or on others. With the
root "demo" the data sets are the demo world and its variants, and the settings `demo.yaml`.
`benchmark.plan` expands it into runs.
"""

from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import yaml
from dassl.engine import TRAINER_REGISTRY

from experiment.config import CONFIGS

PROTOCOLS = CONFIGS / "protocols"
TABLES = ("base2new", "transfer", "few_shot")
SAME = "same"
# The order of the paper; others follow.
ORDER = (
    "base2new",
    "domain_generalization",
    "cross_dataset",
    "few_shot",
    "components",
    "sensitivity_rank",
    "sensitivity_length",
    "sensitivity_depth",
    "few_shot_vit_b32",
    "logits_loss",
)


def comma(text: str) -> list[str]:
    """Read a list of a command line, such as 1,2,3."""
    return [part for part in text.split(",") if part]


def numbers(text: str) -> list[int]:
    """Read a list of numbers."""
    return [int(part) for part in comma(text)]


def positive(text: str) -> int:
    """Read a number from 1."""
    if int(text) < 1:
        raise ArgumentTypeError(f"expected 1 or more, not {text}")
    return int(text)


@dataclass(frozen=True)
class Stage:
    """Name the data sets (stems of configs/datasets) and the classes of one step."""

    datasets: tuple[str, ...]
    classes: str


@dataclass(frozen=True)
class Protocol:
    """Hold one table as data.

    Attributes:
        name: stem of its file.
        paper: its tables and figures in the paper, if any.
        table: how the report reads it, one of TABLES.
        rows: label to (trainer, KEY VALUE overrides).
        varies: the rows are variants of one method, so that no other can be asked for.
        config: stem of the methods' settings.
        options: KEY VALUE pairs of all runs.
        train, test: the two steps; no data set in `test`: training ends with the only evaluation.
        same: each training is tested on its own data set.
        demo: on the demo world.
    """

    name: str
    title: str
    paper: str
    table: str
    rows: Mapping[str, tuple[str, tuple[str, ...]]]
    varies: bool
    config: str
    options: tuple[str, ...]
    seeds: tuple[int, ...]
    shots: tuple[int, ...]
    train: Stage
    test: Stage
    same: bool
    demo: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the data sets of the table: trained on, then tested on."""
        tested = () if self.same else self.test.datasets
        return tuple(dict.fromkeys((*self.train.datasets, *tested)))


def names() -> list[str]:
    """List the protocols of this repository, in the order of the paper."""
    found = sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))
    return sorted(found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


@cache
def dataset_stems() -> dict[str, str]:
    """Map the registry name of each data set to the stem of its file in configs/datasets."""
    paths = sorted((CONFIGS / "datasets").glob("*.yaml"))
    return {yaml.safe_load(path.read_text())["DATASET"]["NAME"]: path.stem for path in paths}


def load(name: str, demo: bool = False) -> Protocol:
    """Read a protocol by its name or the path of its YAML.

    Raises:
        ValueError, FileNotFoundError: no such protocol, or a value in it that cannot be.
    """
    path = Path(name) if name.endswith(".yaml") else PROTOCOLS / f"{name}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f'No protocol "{name}": choose {", ".join(names())}, or a .yaml.')
    content = yaml.safe_load(path.read_text())
    try:
        return _read(path.stem, content, demo)
    except KeyError as error:
        raise ValueError(f"Protocol {path} lacks the key {error}.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"Protocol {path}: {error}") from error


def _read(name: str, content: dict, demo: bool) -> Protocol:
    known = {f.name for f in fields(Protocol)} - {"name", "varies", "same"} | {"trainers"}
    unknown = set(content) - known
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}; known are {sorted(known)}")
    if content["table"] not in TABLES:
        raise ValueError(f'table is "{content["table"]}": choose {", ".join(TABLES)}')
    trained, tested = content["train"]["datasets"], content.get("test", {}).get("datasets", [])
    same = tested == SAME
    there = content["demo"] if demo else {}
    if demo:
        trained, tested = there["train"], there.get("test", [])
    shots = _listed("shots", content["shots"])
    if content["table"] != "few_shot" and len(shots) > 1:
        raise ValueError(f"shots are {content['shots']}: only few_shot tables have several numbers")
    protocol = Protocol(
        name=name,
        title=there.get("title", content["title"]),
        paper=content.get("paper", ""),
        table=content["table"],
        rows=_rows(_listed("trainers", content["trainers"]), content.get("rows")),
        varies="rows" in content,
        config="demo" if demo else content["config"],
        options=_pairs(there.get("options", content.get("options", {}))),
        seeds=_listed("seeds", content["seeds"]),
        shots=shots,
        train=Stage(_listed("datasets", trained), content["train"]["classes"]),
        test=Stage(
            () if same else _listed("datasets", tested),
            content.get("test", {}).get("classes", "all"),
        ),
        same=same,
        demo=demo,
    )
    for dataset in protocol.columns:
        if not (CONFIGS / "datasets" / f"{dataset}.yaml").is_file():
            raise ValueError(f"there is no configs/datasets/{dataset}.yaml")
    return protocol


def _listed(key: str, value: object) -> tuple:
    if not isinstance(value, list):
        raise ValueError(f"{key} is {value}: expected a list, such as [{value}]")
    return tuple(value)


def _rows(trainers: Sequence[str], rows: Mapping | None) -> dict[str, tuple[str, tuple[str, ...]]]:
    if rows is None:
        return {trainer: (trainer, ()) for trainer in trainers}
    (trainer,) = trainers
    return {label: (trainer, _pairs(options)) for label, options in rows.items()}


def _pairs(options: Mapping) -> tuple[str, ...]:
    empty = [key for key, value in options.items() if value is None]
    if empty:
        raise ValueError(f"{empty[0]} has no value")
    return tuple(str(part) for pair in options.items() for part in pair)


def select(
    protocol: Protocol,
    trainers: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = (),
    shots: Sequence[int] = (),
) -> Protocol:
    """Return the part of a protocol that is asked for; what is not named stays as it is.

    `trainers` may be any registered ones, or "all" that have settings; `seeds` any; data sets and
    shots are the protocol's. A data set that is tested on brings its training along.

    Raises:
        ValueError: a trainer, data set or number of shots that the protocol cannot have.
    """
    if trainers:
        protocol = replace(protocol, rows=_ask_rows(protocol, trainers))
    for kind, asked, known in (
        ("data set", datasets, protocol.columns),
        ("number of shots", shots, protocol.shots),
    ):
        wrong = [str(value) for value in asked if value not in known]
        if wrong:
            raise ValueError(
                f"{protocol.name} has no {kind} {', '.join(wrong)}: "
                f"choose {', '.join(map(str, known))}."
            )
    if datasets:
        protocol = _ask_datasets(protocol, datasets)
    return replace(
        protocol,
        seeds=tuple(seeds) or protocol.seeds,
        shots=tuple(k for k in protocol.shots if k in shots) if shots else protocol.shots,
    )


def _ask_rows(protocol: Protocol, trainers: Sequence[str]) -> dict:
    known = sorted(TRAINER_REGISTRY.registered_names())
    if protocol.varies:
        (own,) = {trainer for trainer, _ in protocol.rows.values()}
        if list(trainers) == [own]:
            return dict(protocol.rows)
        raise ValueError(f"The rows of {protocol.name} are variants of {own}: drop --trainers.")
    with_settings = [name for name in known if has_settings(name, protocol)]
    asked = with_settings if list(trainers) == ["all"] else list(trainers)
    wrong = [trainer for trainer in asked if trainer not in known]
    if wrong:
        raise ValueError(f"Unknown method {', '.join(wrong)}: choose {', '.join(known)}, or all.")
    return {trainer: (trainer, ()) for trainer in asked}


def has_settings(trainer: str, protocol: Protocol) -> bool:
    """Return whether a method is for such tables: some are for few shots alone."""
    there = {path.stem for path in (CONFIGS / "trainers" / trainer).glob("*.yaml")}
    wanted = {protocol.table, protocol.config, "base2new"} - {"demo"}
    return bool(there & wanted) and (protocol.config != "demo" or "demo" in there)


def _ask_datasets(protocol: Protocol, datasets: Sequence[str]) -> Protocol:
    def asked(stage: Stage) -> Stage:
        return replace(stage, datasets=tuple(d for d in stage.datasets if d in datasets))

    if protocol.same or not protocol.test.datasets:
        return replace(protocol, train=asked(protocol.train))
    return replace(protocol, test=asked(protocol.test))
