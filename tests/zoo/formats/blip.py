"""Small BLIPs of transformers with random weights that write different sentences about different images."""

import torch
import transformers

from tests.preprocess.texts.peers import PEERS

from .transformers_peers import randomised, save, vocabulary

CLS, SEP, PAD = 2, 3, 0  # of the tokenizer made here
SIZE = 32


def config(width=64, vision_width=64, **vision):
    """Heads of width 64 as in all original files, if the widths are multiples of it."""
    size = vocabulary("bert")
    text = {
        "vocab_size": size + 2,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": 48,
        "bos_token_id": size,
        "sep_token_id": SEP,
        "eos_token_id": SEP,
        "pad_token_id": PAD,
    }
    image = {
        "hidden_size": vision_width,
        "intermediate_size": 4 * vision_width,
        "num_hidden_layers": 2,
        "num_attention_heads": max(1, vision_width // 64),
        "image_size": SIZE,
        "patch_size": 8,
    }
    return transformers.BlipConfig(text_config=text, vision_config=image | vision, image_text_hidden_size=24)


def make(kind, config, folder, ends=None, gain=2.0):
    """A peer of the class `kind` with tokenizer and processor, saved in `folder`; `ends`: see `lively`."""
    peer = randomised(getattr(transformers, kind)(config), gain)
    if ends is not None:
        lively(peer, ends)
    tokenizer = PEERS["bert"].make()
    processor = transformers.BlipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    save(folder, peer, tokenizer, processor)
    return peer, tokenizer, processor


@torch.no_grad()
def lively(peer, ends):
    """Make sentences vary without repeating words: strong cross-attention, strong values of the words, and strong
    positions. ends: added to the bias of the end token."""
    for name, parameter in peer.text_decoder.named_parameters():
        if parameter.ndim > 1 and "position_embeddings" in name:
            parameter.mul_(6)
        elif parameter.ndim > 1 and "crossattention" in name:
            parameter.mul_(0.5 if "value" in name or "output" in name else 2)
        elif parameter.ndim > 1 and ("self.value" in name or "attention.output" in name):
            parameter.mul_(1.5)
    peer.text_decoder.cls.predictions.bias[SEP] += ends
    return peer


def written(ids):
    """Rows of ids without the first token, up to the end token.

    `generate` fills up shorter rows with padding or, for beams, with the end token.
    """
    rows = [row[1:] for row in ids.tolist()]
    return [row[: row.index(SEP)] if SEP in row else row for row in rows]


def assert_lively(rows):
    """20 different sentences: some end by themselves, some are cut, and most have more than two words."""
    assert len(rows) == 20
    assert len({tuple(row) for row in rows}) >= 16
    assert len({row[0] for row in rows if row}) >= 5
    assert 2 <= sum(len(row) == 20 for row in rows) <= 18
    assert sum(len(set(row)) > 2 for row in rows) >= 8
