"""Configs of the text towers of transformers that open_clip uses by name, so that no hub is asked."""

from collections.abc import Mapping
from typing import Any

from multimodal.zoo.weights import CheckpointError

# The kinds of text towers that open_clip supports, see its `hf_configs.py`
KINDS = ("bert", "m2m_100", "mt5", "roberta", "xlm-roberta")

BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}
ROBERTA = {
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
XLM_ROBERTA = {"model_type": "xlm-roberta", "vocab_size": 250_002} | ROBERTA
MT5 = {
    "model_type": "mt5",
    "vocab_size": 250_112,
    "d_kv": 64,
    "feed_forward_proj": "gated-gelu",
    "layer_norm_epsilon": 1e-6,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
NLLB = {
    "model_type": "m2m_100",
    "vocab_size": 256_206,
    "d_model": 1024,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "activation_function": "relu",
    "scale_embedding": True,
    "max_position_embeddings": 1024,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
TOWERS: dict[str, dict[str, Any]] = {
    "roberta-base": {"model_type": "roberta", "vocab_size": 50_265} | ROBERTA | BASE,
    "xlm-roberta-base": XLM_ROBERTA | BASE,
    "xlm-roberta-large": XLM_ROBERTA | LARGE,
    "google/mt5-base": MT5 | {"d_model": 768, "d_ff": 2048, "num_heads": 12, "num_layers": 12},
    "google/mt5-xl": MT5 | {"d_model": 2048, "d_ff": 5120, "num_heads": 32, "num_layers": 24},
    "facebook/nllb-200-distilled-600M": NLLB
    | {"encoder_layers": 12, "decoder_layers": 12, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096},
    "facebook/nllb-200-distilled-1.3B": NLLB
    | {"encoder_layers": 24, "decoder_layers": 24, "encoder_ffn_dim": 8192, "decoder_ffn_dim": 8192},
}


def tower_config(name: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a text tower: `beside`, the config.json of the folder, if it is one, or a known one by `name`.

    Raises CheckpointError if there is neither.
    """
    if beside.get("model_type") in KINDS:
        return dict(beside)
    if name not in TOWERS:
        raise CheckpointError(
            f"text tower: expected the config.json of {name} beside the weights, got {beside.get('model_type')}"
        )
    return TOWERS[name]
