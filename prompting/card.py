"""The model card of a folder of prompts: what was trained, on what, how good, how to use it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

CARD = """\
---
license: mit
library_name: mmlop
pipeline_tag: image-classification
tags:
- clip
- prompt-learning
- {tag}
---

# {title}

Prompts for a frozen CLIP: {count} numbers that make an image classifier of it.

| | |
|---|---|
{table}

{figures}
## Use

```python
from PIL import Image
from prompting import load_prompts

model, preprocess = load_prompts("FOLDER")  # or the name of this repository on the Hub
probs = model(preprocess(Image.open("image.jpg"))[None]).softmax(dim=-1)
print(model.classnames[probs.argmax()])
```

`load_prompts("FOLDER", classnames=[...])` classifies into other classes. The backbone's weights are
not in this folder; weights with another hash are refused.

{classes}
## Paper

The code is that of MMLoP, multi-modal low-rank prompting for CLIP,
[arXiv 2602.21397](https://arxiv.org/abs/2602.21397){settings}.

## Licence

MIT, as the code. The backbone and the images that were trained on have licences of their own.
"""
HEADER = "| evaluated on | split | accuracy | right | of |\n|---|---|---|---|---|\n"
TRAINING = {
    "data set": "dataset",
    "classes": "subsample",
    "shots": "shots",
    "seed": "seed",
    "epochs": "epochs",
}


def model_card(
    config: Mapping[str, Any], state: Mapping[str, Tensor], results: Sequence[Mapping[str, Any]]
) -> str:
    """Return a model card in Markdown, with the front matter that the Hub reads.

    Args:
        config: `adapter_config.json`.
        state: the tensors.
        results: contents of `results.json` files; none where unknown.
    """
    count = sum(value.numel() for value in state.values())
    training = config["training"]
    method = training.get("trainer", config["prompt_learner"])
    backbone, names = config["backbone"], config["classnames"]
    rows = {"method": method, "numbers": f"{count:,}"}
    rows |= {name: training[key] for name, key in TRAINING.items() if key in training}
    rows |= {
        "backbone": backbone["name"],
        "hash of its weights": f"`{backbone['sha256']}`",
        "precision": config["precision"],
        "text": f"`{config['template']}`",
    }
    commits = {r["commit"] for r in results if r.get("commit")}
    if commits:
        rows["commit"] = ", ".join(f"`{commit}`" for commit in sorted(commits))
    where = f" on {training['dataset']}" if "dataset" in training else ""
    return CARD.format(
        tag=method.lower(),
        title=_cell(f"{method}{where}, {backbone['name']}"),
        count=f"{count:,}",
        table="\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items()),
        figures=_figures(results),
        settings=", which has the method's settings" if method == "MMLoP" else "",
        classes=f"## Classes\n\n{len(names)}: {json.dumps(names, ensure_ascii=False)[1:-1]}\n",
    )


def _figures(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return "No figures: these prompts were saved without results.\n"
    lines = [
        f"| {_cell(r['dataset'])}, {r['subsample']} classes | {r['split']} | {r['accuracy']:.2f} % "
        f"| {r['correct']} | {r['total']} |"
        for r in results
    ]
    return "## Figures\n\n" + HEADER + "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    """Return a value as text that stays within its cell of a table."""
    return " ".join(str(value).replace("|", "\\|").split())
