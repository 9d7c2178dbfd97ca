"""Many causal texts at once: what they begin alike with is computed once, and nothing is approximated.

A position of a causal text depends on the tokens up to it alone, so equal beginnings have equal features: a
thousand class names in eighty templates are 769 thousand tokens, but 328 thousand different beginnings.

T = texts, L = the longest of them in tokens, U = different beginnings, W = width, H = heads, D = W / H
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.encoders.text import TextEncoder
from multimodal.layers import Block, lengths_until, merge_heads, split_heads


class Beginnings(NamedTuple):
    """The different beginnings of some texts, each known by its last token."""

    tokens: Tensor  # [U]
    positions: Tensor  # [U], of those tokens
    of_texts: Tensor  # [T, L], the beginning that ends at each token; 0 after the end of a text
    texts: Tensor  # [U], a text that begins so


def shareable(encoder: object) -> bool:
    """Whether `pool_by_prefix` computes what the encoder does."""
    if not isinstance(encoder, TextEncoder):
        return False
    return encoder.config.causal and encoder.config.pooling == "eos" and encoder.config.norm == "pre"


def find_beginnings(tokens: Tensor, lengths: Tensor, vocab_size: int) -> Beginnings:
    """tokens [T, L], lengths [T]"""
    parent = torch.zeros_like(lengths)  # of each text, the beginning so far; there is one empty beginning
    of_texts = torch.zeros_like(tokens)
    ids, positions, texts = [], [], []
    count = 0
    for position in range(tokens.shape[1]):
        alive = (lengths > position).nonzero().flatten()  # [T']
        key = parent[alive] * vocab_size + tokens[alive, position]
        different, place = key.unique(return_inverse=True)  # [U'], [T']
        first = torch.empty_like(different).scatter_(0, place, alive)  # any of those that begin so
        ids.append(different % vocab_size)
        positions.append(torch.full_like(different, position))
        texts.append(first)
        parent = parent.clone()
        parent[alive] = of_texts[alive, position] = place + count
        count += len(different)
    return Beginnings(torch.cat(ids), torch.cat(positions), of_texts, torch.cat(texts))


def pool_by_prefix(encoder: TextEncoder, tokens: Tensor) -> Tensor:
    """tokens [T, L], of an encoder that is `shareable` -> pooled [T, W], as the encoder itself gives it."""
    lengths = lengths_until(tokens, encoder.config.eos_id)  # [T]
    tokens = tokens[:, : int(lengths.max())]
    found = find_beginnings(tokens, lengths, encoder.config.vocab_size)
    x = encoder.embedding(found.tokens) + encoder.positions[found.positions]  # [U, W]
    *blocks, last = encoder.blocks
    for block in blocks:
        assert isinstance(block, Block)
        q, k, v = _heads(block, x, found.of_texts)
        seen = merge_heads(F.scaled_dot_product_attention(q, k, v, is_causal=True))  # [T, L, W]
        x = _finish(block, x, seen[found.texts, found.positions])  # [T, L, W] -> [U, W]
    # Of the last layer nothing is needed but the end of each text.
    assert isinstance(last, Block)
    ends = lengths - 1
    rows = torch.arange(len(tokens), device=tokens.device)
    q, k, v = _heads(last, x, found.of_texts)
    mask = torch.arange(tokens.shape[1], device=tokens.device) <= ends[:, None]  # [T, L]
    end = q[rows, :, ends][:, :, None]  # [T, H, L, D] -> [T, H, 1, D]
    seen = merge_heads(F.scaled_dot_product_attention(end, k, v, mask[:, None, None]))[:, 0]  # [T, W]
    return encoder.norm(_finish(last, x[found.of_texts[rows, ends]], seen))


def _heads(block: Block, x: Tensor, of_texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Beginnings [U, W] -> queries, keys and values of the texts, each [T, H, L, D]."""
    assert block.attention is not None
    qkv = block.attention.qkv(block.norm1(x))[of_texts]  # [U, 3 W] -> [T, L, 3 W]
    q, k, v = (split_heads(part, block.attention.heads) for part in qkv.chunk(3, -1))
    return q, k, v


def _finish(block: Block, x: Tensor, seen: Tensor) -> Tensor:
    """The rest of a block after attention; all [U, W]."""
    assert block.attention is not None
    x = x + block.attention.out(seen)
    return x + block.mlp(block.norm2(x))
