"""Time and memory of zero-shot classification among 21,000 classes, as many as ImageNet-21k has.

    python tests/benchmarks/many_classes.py --images 1000

The results of all images are kept, each with the scores of all classes.
"""

import argparse
import resource
import sys
import time

import numpy as np
import torch

import multimodal as mm


def peak() -> float:
    """MB; the system counts in kilobytes, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small")
    parser.add_argument("--classes", type=int, default=21_000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--templates", default=None, help="imagenet, or one format string; by default seven")
    arguments = parser.parse_args()

    model = mm.load(arguments.model)
    names = [f"species {i % 211} of the genus {i // 211}" for i in range(arguments.classes)]
    images = np.random.default_rng(0).integers(0, 256, (arguments.images, 64, 64, 3), dtype=np.uint8)
    print(f"{model.name}, {model.device}, {model.dtype}, {torch.get_num_threads()} threads, {peak():.0f} MB at first")

    start = time.perf_counter()
    model.class_embeddings(names, arguments.templates)
    print(f"  {len(names)} classes: {time.perf_counter() - start:.1f} s, {peak():.0f} MB at most")

    start, before = time.perf_counter(), peak()
    results = model.classify(list(images), names, arguments.templates)
    seconds = time.perf_counter() - start
    print(f"  {len(results)} images: {seconds:.1f} s, {peak():.0f} MB at most, {peak() - before:.0f} MB more")
    assert all(len(result.scores) == len(names) for result in results)

    start = time.perf_counter()
    total = sum(sum(result.scores.values()) for result in results[:100])
    print(f"  all scores of {len(results[:100])} images read: {time.perf_counter() - start:.1f} s, sum {total:.6f}")


if __name__ == "__main__":
    main()
