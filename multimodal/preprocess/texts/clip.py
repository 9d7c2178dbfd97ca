"""The tokenizer of CLIP."""

from multimodal.preprocess.tokenizers.tokenizer import Tokenizer


class ClipTokenizer(Tokenizer):
    """The tokenizer of CLIP (Radford et al. 2021), from open_clip: the same ids, cut the same way.

    Padding is 0, which is also "!", and follows eos only.
    """

    kind = "clip"
    vocab_size, bos_id, eos_id, pad_id = 49408, 49406, 49407, 0

    def __init__(self, context_length: int = 77) -> None:
        super().__init__(context_length, (self.bos_id,), (self.eos_id,))
        from open_clip.tokenizer import SimpleTokenizer

        self._clip = SimpleTokenizer(context_length=context_length)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self._clip.encode(text) for text in texts]

    def decode_ids(self, ids: list[int]) -> str:
        return " ".join(self._clip.decode([i for i in ids if i != self.bos_id]).split())
