import pytest

from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import DualEncoderConfig
from multimodal.preprocess import BPESettings, HFSettings, HFTokenizer
from multimodal.training.start import with_tokenizer


def test_the_network_reads_what_the_tokenizer_writes():
    encoders = {"image": ImageEncoderConfig(image_size=32), "text": TextEncoderConfig()}
    config = DualEncoderConfig(encoders=encoders, embed_dim=16)
    tokenizer = BPESettings(12, 300).train(["a cat"])
    text = with_tokenizer(config, tokenizer).encoders["text"]
    assert (text.vocab_size, text.context_length, text.eos_id) == (tokenizer.vocab_size, 12, 2)
    endless = HFTokenizer(tokenizer.tokenizer_json, HFSettings(12, pad_id=0))
    with pytest.raises(ValueError, match="expected one with an eos_id, which marks the end of a text, got none"):
        with_tokenizer(config, endless)
