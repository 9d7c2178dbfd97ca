"""Small BLIPs of transformers at random weights, which write different sentences about different pictures."""

import torch
import transformers

from tests.preprocess.tokenizers.peers import PEERS

from .peers import randomised, save, vocabulary

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


def make(kind, config, folder, seed=0):
    """A peer of the class `kind` with tokenizer and processor, saved in `folder` and in float32."""
    peer = lively(randomised(getattr(transformers, kind)(config), scale=0.25, seed=seed))
    tokenizer = PEERS["bert"].make()
    processor = transformers.BlipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    save(folder, peer, tokenizer, processor)
    return peer, tokenizer, processor


@torch.no_grad()
def lively(peer, ends=4.0):
    """What is written shall depend on the picture, not repeat itself and come to an end: the decoder looks hard at
    its memory and at the place it is at, and the end token is likelier than others."""
    if hasattr(peer, "text_decoder"):
        for name, parameter in peer.text_decoder.named_parameters():
            if "crossattention" in name and parameter.ndim > 1:
                parameter.mul_(2)
            if "position_embeddings" in name:
                parameter.mul_(4)
        peer.text_decoder.cls.predictions.bias[SEP] += ends
    return peer
