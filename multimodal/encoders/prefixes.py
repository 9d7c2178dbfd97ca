"""Many causal texts at once: every prefix that several texts share is computed once, exactly.

A position of a causal text depends only on the tokens up to it, so equal prefixes have equal features. A thousand
class names in eighty templates are 769 thousand tokens, but only 328 thousand different prefixes.

T = texts, L = the longest of them in tokens, U = different prefixes, W = width, H = heads, D = W / H
"""

from typing import NamedTuple

import torch
from torch import Tensor

from multimodal.encoders.text import TextEncoder
from multimodal.layers import Block, attend, lengths_until, merge_heads, split_heads


class Prefixes(NamedTuple):
    """The different prefixes of some texts, each identified by its last token."""

    tokens: Tensor  # [U], the last token of each prefix
    positions: Tensor  # [U], the position of that token
    prefix: Tensor  # [T, L], the prefix that ends at each token of a text; 0 after its end
    texts: Tensor  # [U], a text that has the prefix


def find_prefixes(tokens: Tensor, lengths: Tensor, vocab_size: int) -> Prefixes:
    """tokens [T, L], lengths [T]"""
    parent = torch.zeros_like(lengths)  # the prefix of each text so far; the empty one to begin with
    index = torch.zeros_like(tokens)
    ids, positions, texts = [], [], []
    count = 0
    for position in range(tokens.shape[1]):
        active = (lengths > position).nonzero().flatten()  # [T']
        key = parent[active] * vocab_size + tokens[active, position]
        different, place = key.unique(return_inverse=True)  # [U'], [T']
        first = torch.empty_like(different).scatter_(0, place, active)  # any text with the prefix
        ids.append(different % vocab_size)
        positions.append(torch.full_like(different, position))
        texts.append(first)
        parent = parent.clone()
        parent[active] = index[active, position] = place + count
        count += len(different)
    return Prefixes(torch.cat(ids), torch.cat(positions), index, torch.cat(texts))


def pool_by_prefix(encoder: TextEncoder, tokens: Tensor) -> Tensor:
    """The pooled output of an encoder with `shares_prefixes`: tokens [T, L] -> [T, W]"""
    assert encoder.shares_prefixes
    assert encoder.positions is not None
    scale = encoder.config.attention_scale
    lengths = lengths_until(tokens, encoder.config.eos_id)  # [T]
    tokens = tokens[:, : int(lengths.max())]
    found = find_prefixes(tokens, lengths, encoder.config.vocab_size)
    x = encoder.embedding(found.tokens) + encoder.positions[found.positions]  # [U, W]
    blocks: list[Block] = list(encoder.blocks)  # type: ignore[arg-type]
    for block in blocks[:-1]:
        q, k, v = _heads(block, x, found.prefix)
        y = merge_heads(attend(q, k, v, causal=True, scale=scale))  # [T, L, W]
        x = _finish(block, x, y[found.texts, found.positions])  # [T, L, W] -> [U, W]
    # The last layer is only needed at the end of each text.
    last, ends = blocks[-1], lengths - 1
    rows = torch.arange(len(tokens), device=tokens.device)
    q, k, v = _heads(last, x, found.prefix)
    mask = torch.arange(tokens.shape[1], device=tokens.device) <= ends[:, None]  # [T, L]
    end = q[rows, :, ends][:, :, None]  # [T, H, L, D] -> [T, H, 1, D]
    y = merge_heads(attend(end, k, v, mask[:, None, None], scale=scale))[:, 0]  # [T, W]
    return encoder.norm(_finish(last, x[found.prefix[rows, ends]], y))


def _heads(block: Block, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prefixes [U, W] -> queries, keys and values of the texts, each [T, H, L, D]."""
    assert block.attention is not None
    qkv = block.attention.qkv(block.norm1(x))[index]  # [U, 3 W] -> [T, L, 3 W]
    q, k, v = (split_heads(part, block.attention.heads) for part in qkv.chunk(3, -1))
    return q, k, v


def _finish(block: Block, x: Tensor, attended: Tensor) -> Tensor:
    """The rest of a block after attention; all [U, W]."""
    assert block.attention is not None
    x = x + block.attention.out(attended)
    return x + block.mlp(block.norm2(x))
