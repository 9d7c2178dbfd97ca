"""The convolutional stem."""

import pytest
import torch

from multimodal.layers import ConvStem


def make(patch=8, channels=(8, 16), depths=(1, 2, 0), width=12) -> ConvStem:
    torch.manual_seed(0)
    return ConvStem(patch, width, channels, depths)


@pytest.mark.parametrize(
    ("size", "patch", "channels", "depths"),
    [
        (32, 8, (8, 16), (1, 2, 0)),
        (64, 16, (4, 6, 8), (0, 0, 1, 2)),
        (12, 4, (5,), (0, 0)),
        (6, 2, (), (0,)),
        (6, 2, (), (1,)),
    ],
)
def test_one_vector_per_patch(size, patch, channels, depths):
    stem = make(patch, channels, depths)
    assert stem(torch.randn(2, 3, size, size)).shape == (2, 12, size // patch, size // patch)


def test_patches_are_in_reading_order():
    stem = make()
    images = torch.zeros(1, 3, 64, 64)
    plain = stem(images)
    images[:, :, 4, 60] = 10.0  # in the patch of row 0, column 7
    with torch.no_grad():
        changed = (stem(images) - plain).norm(dim=1)[0]  # [8, 8]
    assert int(changed.argmax()) == 7


def test_an_image_gives_the_same_alone_and_in_a_batch():
    stem = make()
    images = torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(stem(images)[2:3], stem(images[2:3]), atol=1e-5, rtol=1e-5)


def plain_layers(stem: ConvStem) -> list[torch.nn.Module]:
    return [layer for layer in stem.layers if not hasattr(layer, "conv1")]


@pytest.mark.parametrize("bare", [0, 1])
def test_residual_blocks_start_as_the_identity(bare):
    with_blocks, without = make(depths=(2, 3, bare)), make(depths=(0, 0, bare))
    for theirs, ours in zip(plain_layers(without), plain_layers(with_blocks), strict=True):
        theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(with_blocks(images), without(images))


def test_sizes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"expected patch_size = 2 \*\* .* got patch_size 16"):
        make(patch=16)
    with pytest.raises(ValueError, match="one more of depths than of channels"):
        make(depths=(1, 1))
