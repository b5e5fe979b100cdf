"""Packed sentences against the same ones, each by itself."""

import pytest
import torch

from prompting.text_packing import pack

LENGTHS, SHARED, HEADS, WIDTH = (
    [4, 7, 5],
    3,
    2,
    8,
)  # tokens of three sentences, with the shared ones


def packing(shared=SHARED, source=None):
    end = torch.tensor(LENGTHS) - 1
    return pack(end, torch.full((3, 7), -1) if source is None else source, shared)


def sentences(x):
    """Each sentence's tokens (length, width) of packed ones (P + N, width)."""
    own = x[SHARED:].split([length - SHARED for length in LENGTHS])
    return [torch.cat([x[:SHARED], part]) for part in own]


def attention(query, key_value):
    """Causal attention of one sentence, token by token and head by head."""
    key, value = key_value.chunk(2, dim=-1)
    rows = []
    for t in range(len(query)):
        parts = []
        for part in range(HEADS):
            cut = slice(part * WIDTH // HEADS, (part + 1) * WIDTH // HEADS)
            scores = key[: t + 1, cut] @ query[t, cut] / (WIDTH // HEADS) ** 0.5
            parts.append(scores.softmax(dim=0) @ value[: t + 1, cut])
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def test_shared_tokens_come_once_and_nothing_is_padded():
    packed = packing()
    assert packed.row.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert packed.column.tolist() == [0, 1, 2, 3, 3, 4, 5, 6, 3, 4]
    assert packed.end.tolist() == [3, 7, 9]


@pytest.mark.parametrize("sequences", [1, 2])
def test_attention_stays_within_a_sentence(sequences):
    query = torch.randn(sequences, 10, WIDTH).requires_grad_()
    key_value = torch.randn(sequences, 10, 2 * WIDTH).requires_grad_()
    packed = packing()
    found = packed.attend(query, key_value, HEADS)
    for one, q, kv in zip(found, query, key_value, strict=True):
        expected = [attention(*pair) for pair in zip(sentences(q), sentences(kv), strict=True)]
        for got, wanted in zip(sentences(one), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(found)
    expected = torch.stack(
        [
            torch.cat([parts[0][:SHARED], *(part[SHARED:] for part in parts)])
            for parts in (
                [attention(*pair) for pair in zip(sentences(q), sentences(kv), strict=True)]
                for q, kv in zip(query, key_value, strict=True)
            )
        ]
    )
    got = torch.autograd.grad((found * weights).sum(), (query, key_value))
    wanted = torch.autograd.grad((expected * weights).sum(), (query, key_value))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sequences", [1, 2])
def test_attention_at_the_ends_alone(sequences):
    query, key_value = torch.randn(sequences, 10, WIDTH), torch.randn(sequences, 10, 2 * WIDTH)
    packed = packing()
    expected = packed.attend(query, key_value, HEADS)[:, packed.end]
    found = packed.attend_at_ends(packed.at_ends(query), key_value, HEADS)
    torch.testing.assert_close(found, expected)


def test_a_prompt_fills_its_slots():
    source = torch.full((3, 7), -1)
    source[:, 1:3] = torch.tensor([0, 1])
    x, prompt = torch.zeros(1, 10, WIDTH), torch.randn(2, WIDTH)
    filled = packing(source=source).fill(x, prompt)
    assert torch.equal(filled[0, 1:3], prompt)
    assert not filled[0, [0, 3, 4, 5, 6, 7, 8, 9]].any()


def test_a_prompt_of_each_sentence_among_its_own_tokens():
    source = torch.full((3, 7), -1)
    source[:, 2] = 0
    source[1, 5] = 1
    x, prompts = torch.zeros(1, 3, WIDTH), torch.randn(3, 2, WIDTH)
    packed = packing(shared=1, source=source)
    x = torch.zeros(1, len(packed.row), WIDTH)
    filled = packed.fill(x, prompts)[0]
    where = list(zip(packed.row.tolist(), packed.column.tolist(), strict=True))
    for row in range(3):
        assert torch.equal(filled[where.index((row, 2))], prompts[row, 0])
    assert torch.equal(filled[where.index((1, 5))], prompts[1, 1])
    assert int(filled.any(dim=1).sum()) == 4


def test_unpacking_gives_each_sentence_its_own_copy():
    few, many = packing(), packing(shared=1)
    x = torch.randn(2, 10, WIDTH)
    moved = few.unpack(x, many)
    for row, column, token in zip(many.row, many.column, moved[1], strict=True):
        same = (few.column == column) & ((few.row == row) | (few.column < SHARED))
        assert torch.equal(x[1, same][0], token)
