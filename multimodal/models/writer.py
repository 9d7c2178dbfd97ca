"""What all networks with a decoder have."""

from torch import Tensor, nn

from multimodal.decoders import TextDecoder
from multimodal.layers import KVCache
from multimodal.layers.features import Encoded


class Writer(nn.Module):
    """A network that writes: its `decoder` looks at a memory."""

    decoder: TextDecoder
    length_penalty: float  # of beam search, unless another is asked for
    max_new_tokens: int | None = (
        None  # of a sentence, unless another number is asked for; None: as many as can be
    )

    def new_cache(self, memory: Encoded) -> KVCache:
        """An empty cache of the decoder with the keys and values of `memory` computed."""
        return self.decoder.new_cache(memory)

    def decode(self, tokens: Tensor, memory: Encoded | None = None, cache: KVCache | None = None) -> Tensor:
        """tokens [B, L] -> logits [B, L, V]"""
        return self.decoder(tokens, memory, cache)
