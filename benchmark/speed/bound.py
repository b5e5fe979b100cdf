"""Count the FLOPs of matrix products (2 per multiply-add) that no training step of MMLoP can do
without. They hold for any code that keeps weights and frozen text features between steps:

- the text tower is causal: of each class only its own tokens up to [EOT] are counted;
- the last layer is asked for [EOT] and [CLS] alone; the other tokens give keys and values;
- weights are frozen: backward, a linear layer costs what it costs forward, the two products of
  attention twice that, and layer 1 stops at the prompts, for the other tokens are constants;
- the frozen image pass sees the same patches: their embedding, and layer 1's queries, keys and
  values, serve both passes.

Left out is what is small: the tokens of the prompts, norms, softmax, losses, the optimiser, U V.
"""

from collections.abc import Sequence

import clip
from clip.model import CLIP


def lower_bound(model: CLIP, names: Sequence[str], batch: int, tokens: int) -> int:
    """Return the FLOPs that a step needs.

    Args:
        names: of the classes, two or more.
        batch: images.
        tokens: of a prompt, T.
    """
    visual, joint, classes = model.visual, model.text_projection.shape[1], len(names)
    texts = clip.tokenize([f"{'X ' * tokens}{name}." for name in names])
    shared = int((texts != texts[0]).any(dim=0).int().argmax())
    own = texts.argmax(dim=1) + 1 - shared  # [EOT] has the highest number of all tokens
    seen = int((own * shared + own * (own + 1) // 2).sum())
    rows = int(own.sum())
    text = (model.transformer, rows, seen, classes, rows + classes * shared, tokens)
    patches = len(visual.positional_embedding) - 1
    rows, keys = batch * (1 + patches), 1 + patches + tokens
    image = (visual.transformer, rows, rows * keys, batch, batch * keys, tokens)
    frozen = (visual.transformer, rows, rows * (1 + patches), batch, batch * (1 + patches), 0)
    total = _tower(*text) + _tower(*image) + _tower(*frozen)
    d, d_text = visual.transformer.width, model.transformer.width
    total -= 6 * d * d * rows  # queries, keys and values of layer 1, once
    total += 2 * batch * patches * d * visual.conv1.weight[0].numel()
    total += joint * (4 * d_text * classes + 6 * d * batch)  # projections
    return total + 8 * batch * classes * joint  # logits: forward, backward to both sides, frozen


def _tower(tower, rows: int, pairs: int, outputs: int, last_pairs: int, tokens: int) -> int:
    """Return the FLOPs of a tower forward, and backward where it has prompts.

    Per token keys and values cost 4 d^2, query, output and MLP 20 d^2; per pair of tokens that see
    each other, scores and what they weigh cost 4 d.

    Args:
        rows: tokens in each layer, and `pairs` of them.
        outputs: tokens that the last layer is asked for, and `last_pairs` of them.
        tokens: of a prompt; 0: no backward.
    """
    d, middle = tower.width, tower.layers - 1
    linear, last_linear = 24 * d * d * rows, d * d * (4 * rows + 20 * outputs)
    forward = middle * (linear + 4 * d * pairs) + last_linear + 4 * d * last_pairs
    if not tokens:
        return forward
    first = 18 * d * d * rows + 2 * d * pairs + 4 * d * tokens * rows
    backward = (middle - 1) * (linear + 8 * d * pairs) + last_linear + 8 * d * last_pairs
    return forward + first + backward
