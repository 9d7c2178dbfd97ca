"""Checkpoints of open_clip at random weights, saved as it saves them and loaded through our door."""

import warnings

import open_clip
import pytest
import torch
from safetensors.torch import save_file

import multimodal
from multimodal.encoders import ImageEncoder, OpenClipImageEncoder, OpenClipTextEncoder, TextEncoder
from multimodal.models import Captioner
from tests.preprocess.tokenizers.peers import saved_peer

# name -> whether its image tower and its text tower become ours
ARCHITECTURES = {
    "ViT-B-32": (True, True),
    "ViT-B-32-quickgelu": (True, True),
    "ViT-B-16": (True, True),
    "ViT-L-14": (True, True),
    "RN50": (False, True),
    "convnext_base": (False, True),
    "EVA02-B-16": (False, True),
    "MobileCLIP-S1": (False, True),
    "ViTamin-S": (False, True),
    "PE-Core-T-16-384": (False, True),
    "ViT-B-16-SigLIP": (True, True),
    "ViT-B-16-SigLIP2": (True, True),
    "ViT-S-16-alt": (False, True),
    "coca_ViT-B-32": (True, True),
}
TEXTS = ["a cat", "two dogs on a beach, far away", "x " * 100]


def make_peer(name):
    """open_clip's model with weights that are all random: norms and biases too, which begin as 1 and 0."""
    torch.manual_seed(0)
    peer = open_clip.create_model(name).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for key, buffer in peer.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 2)
        if hasattr(peer, "text_decoder"):  # made with torch.empty
            peer.text_decoder.text_projection.normal_(0, 0.05)
    return peer


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_embeddings_are_those_of_open_clip(name, tmp_path):
    peer = make_peer(name)
    save_file(
        {key: value.contiguous() for key, value in peer.state_dict().items()},
        tmp_path / "weights.safetensors",
    )
    tokenizer = None
    if open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name"):
        tokenizer = saved_peer("siglip2" if "SigLIP2" in name else "t5", tmp_path)
    model = multimodal.load(
        name, weights=tmp_path / "weights.safetensors", tokenizer=tokenizer, device="cpu", dtype=torch.float32
    )
    ours = (
        isinstance(model.dual.image_encoder, ImageEncoder),
        isinstance(model.dual.text_encoder, TextEncoder),
    )
    assert ours == ARCHITECTURES[name]
    images = torch.randn(2, 3, model.transform.image_size, model.transform.image_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the long text is cut
        tokens = model.tokenizer(TEXTS)
        found = model.embed_texts(TEXTS)
    with torch.no_grad():
        expected_images = peer.encode_image(images, normalize=True)
        expected_texts = peer.encode_text(tokens, normalize=True)
        ours_images = model.network.encode_image(images, normalize=True)
        ours_texts = model.network.encode_text(tokens, normalize=True)
    assert (expected_texts[0] - expected_texts[1]).abs().max() > 1e-3  # they say something
    assert (expected_images[0] - expected_images[1]).abs().max() > 1e-4
    torch.testing.assert_close(ours_images, expected_images, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours_texts, expected_texts, rtol=0, atol=1e-4)
    torch.testing.assert_close(found, expected_texts, rtol=0, atol=1e-4)  # by shared prefixes
    assert float(model.dual.scale.detach()) == pytest.approx(float(peer.logit_scale.detach().exp()), rel=1e-5)
    if isinstance(model.network, Captioner):
        with torch.no_grad():
            expected = peer(images, tokens[:2])["logits"]
            logits = model.network.decode(tokens[:2, :-1], model.network.encode_memory(images))
        assert expected.std() > 0.01
        torch.testing.assert_close(logits, expected[:, : logits.shape[1]], rtol=0, atol=1e-4)


def test_a_tower_that_is_not_ours_keeps_the_contract():
    from multimodal.encoders import OpenClipImageConfig, OpenClipTextConfig, build_encoder

    table = open_clip.get_model_config("RN50")
    image = build_encoder(OpenClipImageConfig(table["vision_cfg"] | {"layers": [1, 1, 1, 1]}, 1024)).eval()
    assert isinstance(image, OpenClipImageEncoder)
    text = build_encoder(OpenClipTextConfig(table["text_cfg"] | {"layers": 1}, 1024, 49408, 77, 49407)).eval()
    assert isinstance(text, OpenClipTextEncoder)
    encoded = image(torch.randn(2, 3, 224, 224))
    assert encoded.pooled.shape == (2, 1024)
    torch.testing.assert_close(encoded.features[:, 0], encoded.pooled)
    assert text(torch.zeros(3, 77, dtype=torch.long)).pooled.shape == (3, 1024)
