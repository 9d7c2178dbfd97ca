"""Abilities of networks, and what every registered kind of model has in common."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from multimodal.decoders import DECODERS, TextDecoder, TextDecoderConfig
from multimodal.encoders import ENCODERS, ImageEncoderConfig, TextEncoderConfig
from multimodal.models import (
    MODELS,
    BlipAnswererConfig,
    BlipConfig,
    BlipMatcherConfig,
    CoCaConfig,
    DualEncoder,
    DualEncoderConfig,
    Embeds,
    EncoderDecoderConfig,
    Generates,
    Matches,
    abilities,
    build_model,
    encoder_configs,
)

from .towers import LinearEncoder

SIZES = {"width": 16, "layers": 1, "heads": 2}
IMAGE = ImageEncoderConfig(image_size=16, patch_size=8, **SIZES)
TEXT = TextEncoderConfig(vocab_size=20, context_length=8, eos_id=3, **SIZES)
DECODER = TextDecoderConfig(vocab_size=20, context_length=8, **SIZES)
BOTH = {"image": IMAGE, "text": TEXT}
CONFIGS = {
    "dual_encoder": DualEncoderConfig(encoders=BOTH, embed_dim=8, projections={"text": "affine"}),
    "coca": CoCaConfig(encoders=BOTH, embed_dim=8, decoder=DECODER, generation={"max_new_tokens": 4}),
    "encoder_decoder": EncoderDecoderConfig(encoder=IMAGE, decoder=DECODER),
    "blip_matcher": BlipMatcherConfig(encoders=BOTH, embed_dim=8),
    "blip_answerer": BlipAnswererConfig(encoders=BOTH, decoder=DECODER),
    "blip": BlipConfig(encoders=BOTH, embed_dim=8, decoder=DECODER, matching_id=5),
}
INPUTS = {"image": torch.randn(2, 3, 16, 16), "text": torch.tensor([[4, 5, 3, 0], [6, 7, 8, 3]])}


class LanguageModel(nn.Module):
    """A decoder alone."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder, self.sources, self.defaults = TextDecoder(DECODER), (), {}

    def memory(self, inputs):
        return None


def dual_encoder(*modalities: str) -> DualEncoder:
    return DualEncoder({name: LinearEncoder(name, 3, 4) for name in modalities}, 5)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (CONFIGS["dual_encoder"], {"classify", "search"}),
        (CONFIGS["coca"], {"classify", "search", "caption"}),
        (replace(CONFIGS["coca"], source="text"), {"classify", "search", "generate"}),
        (CONFIGS["encoder_decoder"], {"caption"}),
        (EncoderDecoderConfig(encoder=TEXT, decoder=DECODER), {"generate"}),
        (CONFIGS["blip_matcher"], {"classify", "search", "match"}),
        (CONFIGS["blip_answerer"], {"answer"}),
        (CONFIGS["blip"], {"classify", "search", "match", "caption"}),
        (dual_encoder("signal", "text"), {"classify", "search"}),
        (dual_encoder("image", "signal", "text"), {"classify", "search"}),
        (dual_encoder("image", "signal"), set()),  # two modalities that no class name can describe
        (dual_encoder("text"), set()),
        (LanguageModel(), {"generate"}),
        (nn.Linear(2, 2), set()),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, set) else "-".join(sorted(value)) or "nothing",
)
def test_abilities(network, expected):
    if not isinstance(network, nn.Module):
        network = build_model(network)
    assert abilities(network) == expected


@pytest.mark.parametrize("kind", MODELS.names())
@torch.no_grad()
def test_every_kind_keeps_the_contract(kind):
    config = CONFIGS[kind]
    assert MODELS.kind_of(config) == kind
    restored = MODELS.from_dict(MODELS.to_dict(config))
    assert restored == config
    torch.manual_seed(0)
    network = build_model(config).eval()
    assert network.config is config
    torch.manual_seed(1)
    again = build_model(restored).eval()
    again.load_state_dict(network.state_dict())  # the same parameters
    can = abilities(network)
    assert can
    assert isinstance(network, Embeds) == ("search" in can)
    assert isinstance(network, Matches) == ("match" in can)
    assert isinstance(network, Generates) == bool(can & {"caption", "answer", "generate"})
    if isinstance(network, Embeds):
        for modality in network.modalities:
            embedding = network.encode(modality, INPUTS[modality], normalize=True)
            assert embedding.shape == (2, network.embed_dim)
            torch.testing.assert_close(again.encode(modality, INPUTS[modality], normalize=True), embedding)
        assert network.logit_scale.shape == ()
    if isinstance(network, Matches):
        assert network.match(INPUTS).shape == (2, 2)
    if isinstance(network, Generates):
        assert network.defaults == config.generation
        memory = network.memory({source: INPUTS[source] for source in network.sources})
        decoded = network.decoder(INPUTS["text"], memory)
        assert decoded.logits.shape == (2, 4, 20)
        torch.testing.assert_close(again.decoder(INPUTS["text"], again.memory(INPUTS)).logits, decoded.logits)


def test_encoder_configs_by_modality():
    for kind, config in CONFIGS.items():
        assert encoder_configs(config) == ({"image": IMAGE} if kind == "encoder_decoder" else BOTH)
    assert encoder_configs(EncoderDecoderConfig(encoder=TEXT, decoder=DECODER)) == {"text": TEXT}
    assert encoder_configs(DECODER) == {}


@pytest.mark.parametrize("kind", MODELS.names())
def test_names_of_parameters(kind):
    """Checkpoints depend on them."""
    names = build_model(CONFIGS[kind]).state_dict()
    prefixes = {
        ".".join(name.split(".")[:2]) if name.startswith(("encoders", "projections")) else name.split(".")[0]
        for name in names
    }
    both = {"encoders.image", "encoders.text"}
    dual = both | {"projections.image", "projections.text", "logit_scale"}
    assert (
        prefixes
        == {
            "dual_encoder": dual,
            "coca": dual | {"decoder"},
            "encoder_decoder": {"encoders.image", "decoder"},
            "blip_matcher": dual | {"matching_head"},
            "blip_answerer": both | {"decoder"},
            "blip": dual | {"matching_head", "decoder"},
        }[kind]
    )


def test_a_model_of_parts_from_outside():
    """An encoder, a decoder and a model that are registered elsewhere."""

    @dataclass(frozen=True, kw_only=True)
    class SignalConfig:
        width: int = 6

    @dataclass(frozen=True, kw_only=True)
    class NotesConfig(TextDecoderConfig):
        pass

    @dataclass(frozen=True, kw_only=True)
    class ComposerConfig(EncoderDecoderConfig):
        pass

    class Composer(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.encoders = nn.ModuleDict({"signal": ENCODERS.build(config.encoder)})
            self.decoder = DECODERS.build(replace(config.decoder, memory_width=None))
            self.sources, self.defaults = ("signal",), config.generation

        def memory(self, inputs):
            return None

    registered = [
        (ENCODERS, "signal", SignalConfig, lambda config: LinearEncoder("signal", 3, config.width)),
        (DECODERS, "notes", NotesConfig, TextDecoder),
        (MODELS, "composer", ComposerConfig, Composer),
    ]
    for registry, kind, config, build in registered:
        registry.register(kind, config, build)
    try:
        table = {
            "kind": "composer",
            "encoder": {"kind": "signal"},
            "decoder": {"kind": "notes", "vocab_size": 20, "width": 16, "heads": 2, "layers": 1},
        }
        network = build_model(MODELS.from_dict(table))
        assert abilities(network) == {"caption"}
        assert network.encoders["signal"].width == 6
        assert type(network.config.decoder) is NotesConfig
        assert MODELS.from_dict(MODELS.to_dict(network.config)) == network.config
        dual = DualEncoderConfig(encoders={"signal": SignalConfig(), "text": TEXT}, embed_dim=8)
        assert MODELS.from_dict(MODELS.to_dict(dual)) == dual
        assert build_model(dual).encode("signal", torch.randn(2, 3)).shape == (2, 8)
    finally:
        for registry, kind, *_ in registered:
            registry.unregister(kind)


def test_a_table_without_a_kind_is_refused():
    table = MODELS.to_dict(CONFIGS["coca"])
    del table["kind"]
    with pytest.raises(ValueError, match=r"model.kind: expected one of \['blip', .*\], got None"):
        MODELS.from_dict(table)
    table = MODELS.to_dict(CONFIGS["coca"])
    table["encoders"]["image"]["kind"] = "vti"
    with pytest.raises(ValueError, match=r"model.encoders.image.kind: expected one of .*'vit'\], got 'vti'"):
        MODELS.from_dict(table)
    del table["encoders"]["image"]["kind"]
    with pytest.raises(ValueError, match=r"model.encoders.image.kind: expected one of .*, got None"):
        MODELS.from_dict(table)
