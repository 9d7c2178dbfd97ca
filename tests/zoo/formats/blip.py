"""Small BLIPs of transformers at random weights, which write different sentences about different pictures."""

import torch
import transformers

from tests.preprocess.texts.peers import PEERS

from .transformers_peers import randomised, save, vocabulary

CLS, SEP, PAD = 2, 3, 0  # of the tokenizer made here
SIZE = 32


def config(width=64, vision_width=64, **vision):
    """Heads of 64, as in all original files, where the widths are multiples of it."""
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
    """What is written shall vary and not repeat itself: the decoder looks hard at its memory but does not forget the
    words over it, and minds the place it is at. ends: how much likelier than others the end token is."""
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
    """The rows of ids without what `generate` begins with, up to their end.

    It fills up what is shorter with padding, and of beams with the end token (as 0, the padding, is "no" to it).
    """
    rows = [row[1:] for row in ids.tolist()]
    return [row[: row.index(SEP)] if SEP in row else row for row in rows]


def assert_lively(rows):
    """20 sentences that differ, of which some end by themselves and some are cut, and none says one word only."""
    assert len(rows) == 20
    assert len({tuple(row) for row in rows}) >= 16
    assert len({row[0] for row in rows if row}) >= 5
    assert 2 <= sum(len(row) == 20 for row in rows) <= 18
    assert sum(len(set(row)) > 2 for row in rows) >= 8
