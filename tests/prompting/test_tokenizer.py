import clip
import pytest
import torch

from prompting import load_backbone, tokenize
from prompting.prompts import context_words, word_embeddings
from prompting.text_encoder import move_classnames
from prompting.tokenizer import CLIP_TOKENIZER, OtherTokenizer, Tokenizer
from tests.conftest import build_clip

WORDS = {w: 10 + i for i, w in enumerate(["x", "a", "photo", "of", "cat", "red", "star", "dog"])}


def stand_in(begin=(), end=(), pad=0, split=False):
    """A tokenizer of whole words, padded as those of the named models are."""

    def call(texts, length):
        rows = []
        for text in texts:
            words = text.lower().replace(".", "").split()
            ids = [WORDS[word] for word in words for _ in range(2 if split else 1)]
            row = [*begin, *ids[: length - len(begin) - len(end)], *end]
            rows.append(row + [pad] * (length - len(row)))
        return torch.tensor(rows)

    return call


KINDS = {
    "SigLIP": (dict(end=[1], pad=1), dict(causal=False, pool="last"), 0, 15),
    "SigLIP 2": (dict(end=[1], pad=0), dict(causal=False, pool="last"), 0, 15),
    "CLIPA": (dict(begin=[101], end=[0], pad=0), dict(causal=False, pool="last"), 1, 14),
    "MetaCLIP 2": (dict(begin=[0], end=[2], pad=1), dict(causal=True, pool="eos", eos=2), 1, 14),
    "mT5": (dict(end=[1], pad=0), dict(causal=True, pool="eos", eos=1), 0, 15),
}


@pytest.mark.parametrize("kind", KINDS)
def test_slots_stand_in_front_of_the_words(kind):
    made, given, lead, limit = KINDS[kind]
    tokenizer = OtherTokenizer.measured(stand_in(**made), 16, **given)
    assert (tokenizer.lead, tokenizer.limit) == (lead, limit)
    assert tokenizer.count("a photo of a cat.") == 5
    texts = ["x x cat.", "x x red star."]
    tokenized = tokenize(texts, 2, tokenizer)
    expected = stand_in(**made)(texts, 16)
    length = tokenized.tokens.shape[1]
    assert length == (16 if tokenizer.full else lead + 5)
    assert torch.equal(tokenized.tokens, expected[:, :length])
    assert tokenized.source[:, lead : lead + 2].tolist() == [[0, 1]] * 2
    assert (tokenized.source >= 0).sum() == 4
    end = [15, 15] if given["pool"] == "last" else [lead + 3, lead + 4]
    assert tokenized.end.tolist() == end

    moved = move_classnames(tokenized, ["cat", "red star"], "front", tokenizer)
    assert moved.tokens[1, lead : lead + 2].tolist() == [WORDS["red"], WORDS["star"]]
    assert moved.source[1, lead : lead + 4].tolist() == [-1, -1, 0, 1]


def test_texts_that_are_too_long_or_too_short():
    tokenizer = OtherTokenizer.measured(stand_in(end=[1], pad=1), 8, causal=False, pool="last")
    tokenize(["cat " * 7], 2, tokenizer)
    with pytest.raises(ValueError, match="has 8 tokens, and CLIP takes 7"):
        tokenize(["cat " * 8], 2, tokenizer)
    with pytest.raises(ValueError, match="has 1 token, fewer than the prompt's 2"):
        tokenize(["cat"], 2, tokenizer)
    with pytest.raises(ValueError, match='"a cat" has 2 tokens, fewer than the 4 prompt tokens'):
        context_words("a cat", 4, tokenizer)


def test_a_tokenizer_that_splits_the_placeholder_is_refused():
    with pytest.raises(ValueError, match='splits "X", which holds the place of a prompt token'):
        OtherTokenizer.measured(stand_in(split=True), 16, causal=False)


def test_clip_s_own_is_measured_alike():
    def call(texts, length):
        return clip.tokenize(texts, context_length=length, truncate=True)

    measured = OtherTokenizer.measured(call, 77, causal=True)
    assert (measured.lead, measured.limit, measured.full) == (1, 75, False)
    texts = ["a photo of a cat.", "yellow-bellied sapsucker"]
    for prompt in (0, 3):
        ours, theirs = tokenize(texts, prompt), tokenize(texts, prompt, measured)
        assert all(torch.equal(getattr(ours, f), getattr(theirs, f)) for f in ("tokens", "end"))
        assert ours.prefix == theirs.prefix


@pytest.mark.parametrize("length", [24, 248])
def test_a_table_of_positions_of_another_length(tmp_path, length):
    """It is read from the file; texts may have two tokens less."""
    model = build_clip(layers=2)
    table = torch.randn(length, 128) * 0.02
    torch.save({**model.state_dict(), "positional_embedding": table}, tmp_path / "weights.pth")
    backbone = load_backbone(str(tmp_path / "weights.pth"), activation="quick_gelu")
    assert backbone.tokenizer == Tokenizer(length)
    text = " ".join(["dog"] * (length - 2))
    assert tokenize([text], tokenizer=backbone.tokenizer).tokens.shape == (1, length)
    with pytest.raises(ValueError, match=f"has {length - 1} tokens, and CLIP takes {length - 2}"):
        tokenize([f"{text} dog"], tokenizer=backbone.tokenizer)
    embedded = word_embeddings(backbone, "a photo")
    rows = CLIP_TOKENIZER.encode(["a photo"])[0, 1:3]
    assert torch.equal(embedded, model.token_embedding.weight[rows])
