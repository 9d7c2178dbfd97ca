"""Time and memory of training batches from images that fit into memory and from images that do not.

    python tests/benchmarks/memory.py [--images 4000] [--side 224] [--workers 2]

Each way runs in a process of its own, on the same JPEGs; the peak is that of the process without its workers.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image


def draw(folder: Path, images: int) -> None:
    """Smooth noise, 320 x 240, which compresses like photographs."""
    (folder / "noise").mkdir()
    for i in range(images):
        small = np.random.default_rng(i).integers(0, 256, (15, 20, 3), np.uint8)
        Image.fromarray(small).resize((320, 240)).save(folder / f"noise/{i}.jpg", quality=90)


def measure(folder: Path, side: int, workers: int, max_cache_bytes: int) -> tuple[int, float, float, float, str]:
    """Images, seconds until the first batch can be made, milliseconds per image, peak in MB; names and pixel sums."""
    from multimodal.datasets import DataConfig, Mixture
    from multimodal.preprocess import BPESettings, ImageTransform

    inputs = {"image": ImageTransform(side), "text": BPESettings(16, 300).train(["a photo of a noise"])}
    start = time.perf_counter()
    mixture = Mixture(
        [DataConfig("noise.csv")], folder, inputs, image_size=side, cache_size=side * 9 // 8, batch_size=64,
        max_cache_bytes=max_cache_bytes, progress=False,
    )  # fmt: skip
    opened = time.perf_counter()
    batches = [(batch.names, int(batch.inputs["image"].long().sum())) for batch in mixture.batches(0, 20, workers)]
    each = (time.perf_counter() - opened) / 20 / 64
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return len(mixture), opened - start, 1000 * each, peak, str(batches)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("images", 4000), ("side", 224), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, options.images)
        rows = "".join(f"noise/{i}.jpg,image {i}\n" for i in range(options.images))
        (folder / "noise.csv").write_text(f"image,caption\n{rows}")
        said = []
        for way, limit in (("in memory", 8 * 2**30), ("on demand", 0)):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # a new process each time
                result = pool.submit(measure, folder, options.side, options.workers, limit).result()
            count, opening, each, peak, batches = result
            said.append(batches)
            print(f"{way}: {count} images, opened in {opening:.1f} s, {each:.2f} ms per image, peak {peak:.0f} MB")
        print("the same batches" if said[0] == said[1] else "DIFFERENT batches")


if __name__ == "__main__":
    main()
