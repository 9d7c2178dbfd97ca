"""The original files of BLIP (Li et al. 2022): a state dict under "model", whose shapes describe the model."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from multimodal.models import encoder_configs
from multimodal.preprocess import ImageTransform, read_tokenizer_json
from multimodal.zoo.formats import transformers_blip
from multimodal.zoo.formats.format import FORMATS, Checkpoint, third_party
from multimodal.zoo.formats.hf_tokenizer import build_tokenizer, token_ids
from multimodal.zoo.formats.transformers_blip import ANSWERER, CAPTIONER, MATCHER
from multimodal.zoo.weights import SUFFIXES, CheckpointError, read_weights

MARK = "visual_encoder.cls_token"  # a key that all of them have
ADDED_TOKENS = 2  # after the vocabulary of BERT: [DEC], with which the decoder begins, and [ENC]
HEAD_WIDTH = 64  # of attention
# Only for training: momentum copies, queues and the temperature of distillation
TRAINING = re.compile(r"(.*_m\..*|.*_queue|.*queue_ptr|ptr_queue)")
MATCHING = ("text_encoder.", "vision_proj.", "text_proj.", "itm_head.")


class SalesforceFormat:
    """A file of weights, with the vocab.txt of bert-base-uncased beside it or in the folder `tokenizer`.

    A pretrained model, which matches and captions, is opened as a captioner.
    """

    def recognises(self, path: Path) -> bool:
        return path.is_file() and path.suffix.lower() in SUFFIXES and MARK in read_weights(path)

    def open(self, path: Path, tokenizer: Path | None) -> Checkpoint:
        state = {key: tensor for key, tensor in read_weights(path).items() if not TRAINING.fullmatch(key)}
        if "itm_head.weight" in state and has_decoder(state):
            state = {key: tensor for key, tensor in state.items() if not key.startswith(MATCHING)}
        folder = path.parent if tokenizer is None else tokenizer
        try:
            tokenizer_json = read_tokenizer_json(folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{path}: expected the vocab.txt or tokenizer.json of bert-base-uncased beside it, or its folder as "
                "`tokenizer`, got neither"
            ) from error
        bos_id, eos_id, pad_id = token_ids(tokenizer_json, "[CLS]", "[SEP]", "[PAD]")
        special = {"bos_id": bos_id, "eos_id": eos_id, "pad_id": pad_id}
        config = read_model(state, eos_id)
        encoders = encoder_configs(config)
        text = encoders.get("text") or config.decoder
        inputs = {
            "image": ImageTransform(encoders["image"].image_size, resize="squash"),
            "text": build_tokenizer(folder, tokenizer_json, {}, text, clean_up_tokenization_spaces=True, **special),
        }
        temperature = state.pop("temp", None)
        weights = transformers_blip.convert_weights(state, config)
        if temperature is not None and "logit_scale" in weights:
            weights["logit_scale"] = -temperature.float().log().reshape(())
        return third_party("Salesforce BLIP", path.stem, path, config, weights, inputs)


def has_decoder(state: Mapping[str, Tensor]) -> bool:
    return "text_decoder.bert.embeddings.word_embeddings.weight" in state


def read_model(state: Mapping[str, Tensor], eos_id: int) -> Any:
    """The model that the shapes of a state dict describe, by way of a config.json of transformers.

    Raises CheckpointError if a tensor is missing.
    eos_id: of [SEP], with which texts end
    """
    _, positions, image_width = _shape(state, "visual_encoder.pos_embed", 3)
    patch_size = _shape(state, "visual_encoder.patch_embed.proj.weight", 4)[-1]
    bert = "text_decoder.bert." if has_decoder(state) else "text_encoder."
    vocab_size, text_width = _shape(state, f"{bert}embeddings.word_embeddings.weight", 2)
    if vocab_size <= ADDED_TOKENS:
        raise CheckpointError(f"weights: expected the vocabulary of BERT and {ADDED_TOKENS} more, got {vocab_size}")
    table: dict[str, Any] = {
        "model_type": "blip",
        "vision_config": {
            "image_size": math.isqrt(positions - 1) * patch_size,
            "patch_size": patch_size,
            "hidden_size": image_width,
            "intermediate_size": _shape(state, "visual_encoder.blocks.0.mlp.fc1.weight", 2)[0],
            "num_hidden_layers": _count_blocks(state, r"visual_encoder\.blocks\.(\d+)\..*"),
            "num_attention_heads": image_width // HEAD_WIDTH,
            "layer_norm_eps": 1e-6,
        },
        "text_config": {
            "vocab_size": vocab_size,
            "max_position_embeddings": _shape(state, f"{bert}embeddings.position_embeddings.weight", 2)[0],
            "hidden_size": text_width,
            "intermediate_size": _shape(state, f"{bert}encoder.layer.0.intermediate.dense.weight", 2)[0],
            "num_hidden_layers": _count_blocks(state, re.escape(bert) + r"encoder\.layer\.(\d+)\..*"),
            "num_attention_heads": text_width // HEAD_WIDTH,
            "bos_token_id": vocab_size - 2,  # [DEC]
            "sep_token_id": eos_id,
        },
    }
    if not has_decoder(state):
        kind, table["image_text_hidden_size"] = MATCHER, _shape(state, "vision_proj.weight", 2)[0]
    else:
        kind = ANSWERER if "text_encoder.embeddings.word_embeddings.weight" in state else CAPTIONER
    return transformers_blip.read_model(table | {"architectures": [kind]}, matching_id=vocab_size - 1)  # [ENC]


def _shape(state: Mapping[str, Tensor], key: str, dimensions: int) -> tuple[int, ...]:
    shape = tuple(state[key].shape) if key in state else None
    if shape is None or len(shape) != dimensions or 0 in shape:
        raise CheckpointError(f"weights: expected {key} of {dimensions} dimensions, got {shape or 'none'}")
    return shape


def _count_blocks(state: Mapping[str, Tensor], pattern: str) -> int:
    found = (re.fullmatch(pattern, key) for key in state)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


FORMATS.register("salesforce_blip", SalesforceFormat())
