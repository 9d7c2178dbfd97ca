"""The contract of a decoder, and the registry of its kinds."""

from typing import Annotated, Any, NamedTuple

from torch import Tensor, nn

from multimodal.config import Registry
from multimodal.layers import Encoded, KVCache, Memory


class Decoded(NamedTuple):
    """The output of a decoder for each of its input tokens.

    B = batch, L = tokens, V = vocabulary, W = width
    """

    logits: Tensor  # [B, L, V], of the next token
    hidden: Tensor  # [B, L, W], from which the head computes the logits


class Decoder(nn.Module):
    """forward(tokens [B, L], memory, cache) -> Decoded: a token attends to those before it and to the memory."""

    config: Any
    width: int

    def new_cache(self, capacity: int | None = None) -> KVCache:
        """An empty cache for `capacity` tokens; by default as many as the decoder has positions for."""
        raise NotImplementedError

    def project_memory(self, encoded: Encoded) -> Memory:
        """Keys and values of the features [B, M, memory_width] for every layer, computed once per input."""
        raise NotImplementedError


# A builder takes the config and, as `trunk`, the text encoder that the decoder continues, if any.
DECODERS: Registry[Decoder] = Registry("decoder")
DecoderConfig = Annotated[Any, DECODERS]  # the type of config fields that hold the table of a decoder
