"""Properties of random augmentation that hold for every draw."""

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.preprocess import Augment

WHOLE = Augment(scale=1.0, flip=False)


def random_image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.manual_seed(seed)).to(torch.uint8)


@given(
    st.builds(
        Augment,
        scale=st.floats(0.01, 1),
        flip=st.booleans(),
        rotate=st.booleans(),
        color=st.floats(0, 1),
        erase=st.floats(0, 1),
    ),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(2, 33),
    st.integers(0, 2**62),
)
def test_size_and_determinism(augment, height, width, size, seed):
    image = random_image(height, width)
    before = image.clone()
    first, second = (augment(image, size, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert first.shape == (3, size, size)
    assert first.dtype == torch.uint8
    assert torch.equal(first, second)
    assert torch.equal(image, before)


def test_without_augmentation_the_image_is_unchanged():
    image = random_image(24, 24)
    assert torch.equal(WHOLE(image, 24, torch.Generator()), image)


def test_crops_have_the_right_areas_and_reach_every_corner():
    """Each pixel stores its own coordinates, so a crop shows where it was taken."""
    y, x = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    image = torch.stack([y, x, torch.zeros_like(x)]).to(torch.uint8)
    augment, generator = Augment(scale=0.25, flip=False), torch.Generator().manual_seed(0)
    views = [augment(image, 50, generator).float() for _ in range(400)]
    heights = torch.stack([view[0].max() - view[0].min() for view in views]) + 4  # resizing averages the border
    widths = torch.stack([view[1].max() - view[1].min() for view in views]) + 4
    areas = heights * widths / 200**2
    assert areas.min() > 0.2
    assert areas.max() > 0.9
    assert abs(float(areas.mean()) - 0.625) < 0.03  # uniform between 0.25 and 1
    assert (heights / widths).log().abs().max() < 0.36  # 3 : 4 at most
    assert min(view[0].min() for view in views) < 4
    assert max(view[1].max() for view in views) > 195


def test_flips_and_rotations_give_the_eight_symmetries():
    image = random_image(6, 6)
    expected = {turned.rot90(k, (1, 2)).numpy().tobytes() for turned in (image, image.flip(2)) for k in range(4)}
    generator = torch.Generator().manual_seed(0)
    augment = Augment(scale=1.0, rotate=True)
    views = [augment(image, 6, generator).contiguous().numpy().tobytes() for _ in range(200)]
    assert set(views) == expected
    flipped = Augment(scale=1.0)
    views = [flipped(image, 6, generator).contiguous().numpy().tobytes() for _ in range(200)]
    assert set(views) == {image.numpy().tobytes(), image.flip(2).contiguous().numpy().tobytes()}


def test_color_matches_the_definition_step_by_step():
    view = random_image(8, 8).clamp(60, 190)
    draws = [0.9, 0.2, 0.7]
    b, c, s = (1 + 0.3 * (2 * draw - 1) for draw in draws)
    x = view.double().numpy()
    gray = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
    x = s * x + (1 - s) * gray  # saturation keeps the gray value
    x = b * (c * x + (1 - c) * gray.mean())  # contrast around the mean, then brightness
    expected = np.clip(x, 0, 255)
    got = Augment(color=0.3).recolor(view, draws).double().numpy()
    assert np.abs(got - expected).max() <= 1  # rounded down
    # the hue of a pure color is unchanged
    red = torch.tensor([200, 40, 40], dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    r, g, b_ = (Augment(color=0.3).recolor(red, draws)[:, 0, 0].double() / 255).tolist()
    assert colorsys.rgb_to_hsv(r, g, b_)[0] == 0


def test_size_and_frequency_of_erased_areas():
    image = torch.zeros(3, 60, 60, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    augment = Augment(scale=1.0, flip=False, erase=1.0)
    parts = [(augment(image, 60, generator)[0] == 127).float().mean() for _ in range(300)]
    assert 0.01 < min(parts) < 0.05
    assert 0.2 < max(parts) < 0.27
    kept = [Augment(scale=1.0, flip=False, erase=0.3)(image, 60, generator).any() for _ in range(300)]
    assert 60 < sum(map(bool, kept)) < 120


@pytest.mark.parametrize(("key", "value"), [("scale", 0.0), ("scale", 1.1), ("color", -0.1), ("erase", 2.0)])
def test_settings_out_of_range_are_refused(key, value):
    with pytest.raises(ValueError, match=f"{key}: expected .* got {value}"):
        Augment(**{key: value})
