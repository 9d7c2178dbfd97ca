"""Large JPEGs read at a fraction of their size (`ImageTransform.draft`, the default), against reading them whole.

    python tests/benchmarks/draft.py
    python tests/benchmarks/draft.py --photos shared/data/photos --small

Without `--photos`, the images are drawn. Prints the ratio, how far pixels drift, and the least cosine of the two
embeddings.
"""

import argparse
import dataclasses
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sides import both, cosine, in_turn, ratio

import multimodal


def photograph(seed: int, width: int) -> bytes:
    """Soft shapes, edges and grain, as a JPEG."""
    random = np.random.default_rng(seed)
    height = width * 3 // 4
    coarse = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = random.integers(0, 256, 3)
    pixels = (pixels + random.integers(-8, 9, pixels.shape, dtype=np.int16)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def enlarged(path: Path, width: int) -> bytes:
    """A photograph at another width, with grain, as a JPEG."""
    with Image.open(path) as photo:
        size = (width, round(photo.height * width / photo.width))
        pixels = np.asarray(photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)).astype(np.int16)
    grain = np.random.default_rng(0).integers(-6, 7, (*pixels.shape[:2], 1), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs to enlarge instead of drawn images")
    parser.add_argument("--small", action="store_true", help="with the shipped model, without open_clip's")
    parser.add_argument("--width", type=int, default=2560)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    model = multimodal.load(dtype=torch.float32) if arguments.small else both(arguments.architecture)[0]
    if arguments.photos is None:
        files = [photograph(seed, arguments.width) for seed in range(arguments.count)]
    else:
        paths = sorted(arguments.photos.glob("*.jpg"))[: arguments.count]
        files = [enlarged(path, arguments.width) for path in paths]
    transforms = {"exact": dataclasses.replace(model.transform, draft=False), "draft": model.transform}
    found: dict[str, torch.Tensor] = {}

    def read(name: str) -> None:
        found[name] = torch.stack([transforms[name].read(file) for file in files])  # [N, 3, S, S]

    sides = {name: lambda name=name: read(name) for name in transforms}
    seconds = in_turn(sides, arguments.rounds, torch.device("cpu"))
    with torch.inference_mode():
        exact, draft = (
            model.network.encode("image", found[name].to(model.device, model.dtype)) for name in ("exact", "draft")
        )
    std = torch.tensor(model.transform.std)[:, None, None]
    drift = (255 * std * (found["exact"] - found["draft"])).abs()
    print(f"{len(files)} JPEGs {arguments.width} wide, {model.transform.image_size} for {model.name}")
    print(f"  ratio {ratio(seconds, 'draft', 'exact')}, drift of 255: mean {drift.mean():.2f}, most {drift.max():.0f}")
    print(f"  cosine {cosine(draft, exact):.5f}")


if __name__ == "__main__":
    main()
