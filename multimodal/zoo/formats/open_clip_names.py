"""open_clip: the names of its parameters.

W = width, D = width of the shared space
"""

from collections.abc import Mapping

from torch import Tensor

from multimodal.encoders import ENCODERS
from multimodal.models import DualEncoderConfig
from multimodal.zoo.formats import names

# Where the text tower is not under "text.", only these keys belong to it.
TEXT_KEYS = r"(?:token_embedding|positional_embedding|transformer|ln_final|text_projection|cls_emb|proj|pooler)"


def convert_weights(state: Mapping[str, Tensor], config: DualEncoderConfig) -> dict[str, Tensor]:
    """A state dict of open_clip by the names of our network of `config`."""
    image, text, decoder = config.encoders["image"], config.encoders["text"], getattr(config, "decoder", None)
    rules = [*names.rules("open_clip")]
    if ENCODERS.kind_of(image) == "open_clip_image":
        rules.append((r"visual\.", "encoders.image.tower."))
    elif image.pooling == "map":
        rules += names.rules("timm_vit", r"visual\.trunk\.", "encoders.image.")
    else:
        norm = "pool.norm." if image.pooling == "queries" else "norm."
        rules += [(r"visual\.proj", "projections.image.weight"), (r"visual\.ln_post\.", f"encoders.image.{norm}")]
        rules += names.rules("open_clip_vit", r"visual\.", "encoders.image.")
    # CLIP has its text tower at the top, CustomTextCLIP and CoCa have it under "text."
    prefix = "" if "positional_embedding" in state else r"text\."
    if ENCODERS.kind_of(text) == "open_clip_text":
        rules.append((rf"{prefix}(?={TEXT_KEYS}\b)", "encoders.text.tower."))
    else:
        rules.append((rf"{prefix}text_projection", "projections.text.weight"))
        rules.append((rf"{prefix}text_projection\.", "projections.text."))
        rules += names.rules("open_clip_text", prefix, "encoders.text.")
    for i in range(0 if decoder is None else decoder.layers):
        block = text.layers + 2 * i  # after the blocks of the text encoder; a cross block follows each block
        rules += names.rules("block", rf"text_decoder\.resblocks\.{i}\.", f"decoder.blocks.{block}.")
        rules += names.rules("open_clip_cross", rf"text_decoder\.cross_attn\.{i}\.", f"decoder.blocks.{block + 1}.")
    named = names.convert(state, rules)
    for key in ("projections.image.weight", "projections.text.weight", "decoder.head.weight"):
        affine = key == "projections.text.weight" and config.projections["text"] == "affine"
        if key in named and not affine:  # a bare matrix [W, D]; a linear layer has [D, W]
            named[key] = named[key].T
    return named
