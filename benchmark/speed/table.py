"""The measurements of a speed comparison as tables for the terminal."""

from collections.abc import Mapping, Sequence

from tabulate import tabulate

TITLES = {
    "step": "Training step",
    "seeds": "Training step of several seeds: one after the other, and together",
    "evaluation": "Evaluation",
    "start": "Start: the frozen text features",
}


def text(content: Mapping) -> str:
    """What `python -m benchmark.speed` measured, as it writes it to JSON."""
    parts = [_machine(content["machine"])]
    for what, rows in (
        ("step", _step),
        ("seeds", _seeds),
        ("evaluation", _evaluation),
        ("start", _start),
    ):
        records = [record for record in content["records"] if record["what"] == what]
        if records:
            parts.append(f"{TITLES[what]}\n\n{_table(list(map(rows, records)))}")
    if content.get("projection"):
        parts.append(_projection(content["projection"]))
    return "\n\n".join([*parts, *_notes(content)])


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """The columns in which anything stands."""
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    cells = [[row[name] for name in filled] for row in rows]
    return tabulate(cells, headers=filled, disable_numparse=True, stralign="right")


def _machine(machine: Mapping) -> str:
    peak, version = machine["peak"] / 1e9, machine["versions"]["torch"]
    options = " ".join(["", *machine["options"]])
    return (
        f"{machine['device']}, threads: {machine['threads']}, torch {version}, "
        f"{machine['precision']}, peak {peak:,.0f} GFLOP/s, backbone {machine['backbone']}{options}"
    )


def _step(record: Mapping) -> dict[str, str]:
    return {
        "classes": f"{record['classes']}",
        "batch": f"{record['batch']}",
        **_times(record),
        "memory of a step, MB": _memory(record, "ours", whole=False),
        "reference's": _memory(record, "reference", whole=False),
        "whole process": _memory(record, "ours", whole=True),
        "its": _memory(record, "reference", whole=True),
    }


def _seeds(record: Mapping) -> dict[str, str]:
    ours, together = record.get("ours", {}), record.get("together", {})
    apart = {**ours, "seconds": record["seeds"] * ours["seconds"]} if "seconds" in ours else ours
    return {
        "classes": f"{record['classes']}",
        "batch": f"{record['batch']}",
        "seeds": f"{record['seeds']}",
        "apart, s": _seconds(apart),
        "together, s": _seconds(together),
        "ratio": f"{record['ratio']:.2f}" if "ratio" in record else "",
        "of peak": _share(together),
    }


def _evaluation(record: Mapping) -> dict[str, str]:
    return {
        "classes": f"{record['classes']}",
        "images": f"{record['images']}",
        **_times(record),
        "images/s": _rate(record.get("ours", {})),
        "reference's": _rate(record.get("reference", {})),
    }


def _start(record: Mapping) -> dict[str, str]:
    parts = record.get("ours", {}).get("parts", {})
    ratio = record.get("ratio_warm")
    return {
        "classes": f"{record['classes']}",
        **_times(record),
        "warm s": f"{parts['warm']['frozen']:.3g}" if parts else "",
        "warm ratio": f"{ratio:.0f}" if ratio else "",
        "trainer built, cold s": f"{parts['cold']['whole']:.3g}" if parts else "",
        "warm": f"{parts['warm']['whole']:.3g}" if parts else "",
        "reference's": _whole(record.get("reference", {})),
    }


def _times(record: Mapping) -> dict[str, str]:
    ours, ratio = record.get("ours", {}), record.get("ratio")
    return {
        "ours, s": _seconds(ours),
        "reference, s": _seconds(record.get("reference", {})),
        "ratio": f"{ratio:.2f}" if ratio else "",
        "needed, GFLOP": f"{record['needed'] / 1e9:,.4g}",
        "of peak": _share(ours),
    }


def _share(found: Mapping) -> str:
    share = found.get("share_of_peak")
    return f"{100 * share:.0f} %" if share else ""


def _seconds(found: Mapping) -> str:
    return f"{found['seconds']:.3g}" if "seconds" in found else found.get("failed", "")[:40]


def _rate(found: Mapping) -> str:
    return f"{found['images_per_second']:.3g}" if "seconds" in found else ""


def _whole(found: Mapping) -> str:
    return f"{found['parts']['cold']['whole']:.3g}" if "parts" in found else ""


def _memory(record: Mapping, side: str, whole: bool) -> str:
    memory = record.get(side, {}).get("memory")
    if not memory:
        return ""
    return f"{(memory['peak'] - (0 if whole else memory['before'])) / 2**20:,.0f}"


def _projection(rows: Sequence[Mapping]) -> str:
    shown = [
        {name: "not measured" if value is None else _plain(value) for name, value in row.items()}
        for row in rows
    ]
    return f"Hours of each table, on one such device, without loading data\n\n{_table(shown)}"


def _plain(value: str | int | float) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value}"


def _notes(content: Mapping) -> list[str]:
    """What a reader of the tables must know."""
    shims = content["sides"].get("reference", {}).get("shims", [])
    if not shims:
        return [content["about"]]
    told = "\n".join(f"- {shim}" for shim in shims)
    return [content["about"], f"The reference is PromptSRC's own code; from outside:\n{told}"]
