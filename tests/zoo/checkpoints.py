"""Small third-party checkpoints with random weights, made and saved by the libraries that they belong to."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from tests.preprocess.texts.peers import PEERS, clip_files

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 2},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
# With an image tower that stays open_clip's
OPEN_CLIP_TOWER = OPEN_CLIP | {
    "vision_cfg": {"image_size": 64, "timm_model_name": "test_resnet", "timm_pool": "", "timm_proj": "linear"}
}


def spread(network: nn.Module) -> nn.Module:
    """Weights that make different inputs differ clearly."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
            elif parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@cache
def letters() -> Any:
    """CLIP's tokenizer without merges: 512 tokens of one letter, and the two ends."""
    from transformers import CLIPTokenizer

    ends = {"<|startoftext|>": 512, "<|endoftext|>": 513}
    vocab = {token: number for token, number in clip_files()[0].items() if number < 512}
    return CLIPTokenizer(vocab=vocab | ends, merges=[])


def saved_clip(folder: Path) -> Path:
    """CLIP of transformers."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    text = TOWER | {"max_position_embeddings": 64, "vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513}
    config = CLIPConfig(text_config=text, vision_config=TOWER | {"image_size": 32, "patch_size": 16}, projection_dim=16)
    spread(CLIPModel(config)).save_pretrained(folder)
    letters().save_pretrained(folder)
    square = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=square).save_pretrained(folder)
    return folder


def saved_blip(folder: Path, kind: str) -> Path:
    """BLIP of transformers: "ForConditionalGeneration", "ForImageTextRetrieval" or "ForQuestionAnswering"."""
    import transformers

    tokenizer = PEERS["bert"].make()
    size = len(tokenizer)
    text = TOWER | {
        "vocab_size": size,
        "max_position_embeddings": 32,
        "encoder_hidden_size": 32,
        "projection_dim": 16,
        "bos_token_id": size - 1,
        "pad_token_id": 0,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
    }
    vision = TOWER | {"image_size": 32, "patch_size": 16}
    config = transformers.BlipConfig(
        text_config=text, vision_config=vision, projection_dim=16, image_text_hidden_size=16
    )
    spread(getattr(transformers, f"Blip{kind}")(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def saved_open_clip(folder: Path, table: dict[str, Any] = OPEN_CLIP) -> Path:
    """CLIP of open_clip, as it is pushed to a hub."""
    import open_clip

    folder.mkdir(parents=True)
    network = spread(open_clip.CLIP(**table))
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic"}
    config = {"model_cfg": table, "preprocess_cfg": preprocess | {"resize_mode": "shortest"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


KINDS = {
    "clip": saved_clip,
    "open_clip": saved_open_clip,
    "open_clip tower": lambda folder: saved_open_clip(folder, OPEN_CLIP_TOWER),
    "captioner": lambda folder: saved_blip(folder, "ForConditionalGeneration"),
    "matcher": lambda folder: saved_blip(folder, "ForImageTextRetrieval"),
    "answerer": lambda folder: saved_blip(folder, "ForQuestionAnswering"),
}
