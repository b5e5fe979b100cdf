"""How much arithmetic training, evaluation and start-up need, from shapes alone.

FLOPs of matrix products and of the convolution, 2 a multiply-add. What is `needed` holds for any
code that keeps nothing from one step to the next but weights and frozen text features:

- text: the tower is causal, so the tokens that all classes share are computed once, and of each
  class its own up to [EOT];
- prompts that the next layer overwrites give keys and values, and nothing else;
- the last layer is asked for [EOT] and [CLS] alone; the other tokens give keys and values;
- prompts that are the same for all images give their keys and values once a batch;
- weights are frozen: backward, a linear layer costs what it costs forward, the two products of
  attention twice that, and layer 1 stops at the prompts, for the other tokens are constants;
- the frozen image pass sees the same patches: their embedding, and layer 1's queries, keys and
  values, serve both passes.

Left out is what is no product of matrices (norms, softmax, activations, losses, the optimiser), and
the prompts' own U V. `plain` counts what the code of MaPLe and PromptSRC does instead: 77 tokens a
class, all of them in all layers, backward too.

Letters: B images, C classes, T prompt tokens, J prompted layers, N patches, d width, D joint width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from clip.model import CLIP

from prompting import Sentences
from prompting.text import CONTEXT_LENGTH


@dataclass(frozen=True)
class Tower:
    """Width d, layers, and J of a tower."""

    width: int
    layers: int
    depth: int


@dataclass(frozen=True)
class Shape:
    """A prompted CLIP: its towers, T, N, the values in a patch, and D."""

    text: Tower
    image: Tower
    tokens: int
    patches: int
    patch_values: int
    joint: int


@dataclass(frozen=True)
class Words:
    """Sentences, one a class: how many leading tokens they share, how many more each has."""

    shared: int
    own: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """What a layer computes: keys and values of `rows` tokens, the output of `queries` tokens,
    which see `pairs` keys in all."""

    rows: int
    queries: int
    pairs: int

    def linear(self, width: int) -> int:
        """Keys and values 4 d^2 a token; query, output and MLP 20 d^2."""
        return width**2 * (4 * self.rows + 20 * self.queries)

    def products(self, width: int) -> int:
        """Scores, and what they weigh: 2 d each."""
        return 4 * width * self.pairs


def shape_of(model: CLIP, tokens: int, depths: tuple[int, int]) -> Shape:
    """The shape of a CLIP whose image tower is a transformer.

    Args:
        tokens: T.
        depths: J of the text and of the image tower.
    """
    text, visual = model.transformer, model.visual
    return Shape(
        text=Tower(text.width, text.layers, depths[0]),
        image=Tower(visual.transformer.width, visual.transformer.layers, depths[1]),
        tokens=tokens,
        patches=len(visual.positional_embedding) - 1,
        patch_values=visual.conv1.weight[0].numel(),
        joint=model.text_projection.shape[1],
    )


def words_of(sentences: Sentences) -> Words:
    """Tokenised sentences as counts."""
    return Words(sentences.shared, tuple((sentences.end + 1 - sentences.shared).tolist()))


def needed_step(shape: Shape, batch: int, words: Words) -> int:
    """A training step on B images: prompted towers forward and backward, frozen images forward."""
    classes, joint, image, text = len(words.own), shape.joint, shape.image, shape.text
    text_layers = _text(shape, words, shape.tokens)
    image_layers = _image(shape, batch, shape.tokens)
    total = _forward(text_layers, text) + _backward(text_layers, text, shape.tokens)
    total += _forward(image_layers, image) + _backward(image_layers, image, shape.tokens)
    total += _forward(_image(shape, batch, tokens=0), image)
    total -= 6 * image.width**2 * batch * (1 + shape.patches)  # layer 1's, of the prompted pass
    total += 4 * joint * classes * text.width  # projections, forward and backward
    total += 6 * joint * batch * image.width  # and of the frozen pass
    total += 8 * batch * classes * joint  # logits: forward, backward to both sides, frozen
    return total + _embedding(shape, batch)


def needed_evaluation(shape: Shape, images: int, words: Words) -> int:
    """Classifying B images: the text once, and each image."""
    classes, joint = len(words.own), shape.joint
    total = _forward(_text(shape, words, shape.tokens), shape.text)
    total += _forward(_image(shape, images, shape.tokens), shape.image)
    total += 2 * joint * (classes * shape.text.width + images * shape.image.width)
    return total + 2 * images * classes * joint + _embedding(shape, images)


def needed_frozen_text(shape: Shape, templates: Sequence[Words]) -> int:
    """The frozen text features of these templates, each with all classes."""
    return sum(
        _forward(_text(shape, words, tokens=0), shape.text)
        + 2 * shape.text.width * shape.joint * len(words.own)
        for words in templates
    )


def plain_step(shape: Shape, batch: int, classes: int) -> int:
    """What a step of the plain code does."""
    total = _plain_text(shape, classes, learns=True)
    total += _plain_image(shape, batch, shape.tokens, learns=True)
    total += _plain_image(shape, batch, tokens=0, learns=False)
    return total + 8 * batch * classes * shape.joint


def plain_evaluation(shape: Shape, images: int, classes: int, batches: int) -> int:
    """What the plain code does for B images in all: the text for every batch."""
    total = batches * _plain_text(shape, classes, learns=False)
    total += _plain_image(shape, images, shape.tokens, learns=False)
    return total + 2 * images * classes * shape.joint


def plain_frozen_text(shape: Shape, classes: int, templates: int) -> int:
    """What the plain code does for the frozen text features."""
    return templates * _plain_text(shape, classes, learns=False)


def _text(shape: Shape, words: Words, tokens: int) -> list[Layer]:
    """The text tower's layers; [SOS] comes first, then T prompts, then whatever else is shared."""
    tower, shared, classes = shape.text, words.shared, len(words.own)
    own = sum(words.own)
    own_pairs = sum(count * shared + _triangle(count) for count in words.own)
    layers = []
    for number in range(1, tower.layers + 1):
        idle = tokens if number < tower.depth else 0
        head_pairs = _triangle(shared) - (_triangle(1 + idle) - 1)
        layers.append(Layer(shared + own, shared - idle + own, head_pairs + own_pairs))
    layers[-1] = Layer(shared + own, classes, classes * shared + own)
    return layers


def _image(shape: Shape, images: int, tokens: int) -> list[Layer]:
    """The image tower's layers; every token sees every other."""
    tower, patches = shape.image, images * (1 + shape.patches)
    keys = 1 + shape.patches + tokens
    layers = []
    for number in range(1, tower.layers + 1):
        rows = patches + (tokens if number <= tower.depth else images * tokens)
        queries = patches + (0 if number < tower.depth else images * tokens)
        queries = images if number == tower.layers else queries
        layers.append(Layer(rows, queries, queries * keys))
    return layers


def _triangle(count: int) -> int:
    """1 + 2 + ... + count: pairs of tokens in causal attention."""
    return count * (count + 1) // 2


def _forward(layers: Sequence[Layer], tower: Tower) -> int:
    return sum(layer.linear(tower.width) + layer.products(tower.width) for layer in layers)


def _backward(layers: Sequence[Layer], tower: Tower, tokens: int) -> int:
    if tower.depth == 0:
        return 0
    (first, *others), width = layers, tower.width
    total = sum(layer.linear(width) + 2 * layer.products(width) for layer in others)
    total += width**2 * (18 * first.queries + 4 * tokens)  # outputs, MLPs; the prompts' own
    return total + 2 * width * first.pairs + 4 * width * tokens * first.queries


def _embedding(shape: Shape, images: int) -> int:
    return 2 * images * shape.patches * shape.patch_values * shape.image.width


def _plain_text(shape: Shape, classes: int, learns: bool) -> int:
    tower, rows = shape.text, classes * CONTEXT_LENGTH
    total = _plain_tower(tower, rows, CONTEXT_LENGTH, learns)
    return total + (1 + learns) * 2 * tower.width * shape.joint * classes


def _plain_image(shape: Shape, images: int, tokens: int, learns: bool) -> int:
    tower, length = shape.image, 1 + shape.patches + tokens
    total = _plain_tower(tower, images * length, length, learns) + _embedding(shape, images)
    return total + (1 + learns) * 2 * tower.width * shape.joint * images


def _plain_tower(tower: Tower, rows: int, keys: int, learns: bool) -> int:
    layer = Layer(rows, rows, rows * keys)
    products = layer.products(tower.width)
    total = layer.linear(tower.width) + products
    if learns:
        total += layer.linear(tower.width) + 2 * products
    return tower.layers * total
