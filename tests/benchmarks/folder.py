"""A folder of 640 x 480 JPEGs, from files to class labels, against two loops around open_clip.

    python tests/benchmarks/folder.py

`batch 1` is the loop of open_clip's README over the files; `DataLoader` is what a careful user writes: two
workers, batches of 32. All compute in the dtype that `load` chooses.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sides import both, in_turn, ratio

CLASSES = [f"thing {number}" for number in range(100)]


class Files(torch.utils.data.Dataset):
    def __init__(self, paths, preprocess):
        self.paths, self.preprocess = paths, preprocess

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, place):
        return self.preprocess(Image.open(self.paths[place]))


def draw(folder: Path, count: int) -> list[Path]:
    """Soft shapes with some grain: JPEGs of about the size that photographs have."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC)).astype(np.int16)
        pixels = (pixels + random.integers(-12, 13, pixels.shape, dtype=np.int16)).clip(0, 255)
        paths.append(folder / f"{number:04}.jpg")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1], quality=85)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    model, peer, preprocess = both(arguments.architecture)
    with tempfile.TemporaryDirectory() as folder:
        paths = draw(Path(folder), arguments.count)
        classes = model.class_embeddings(CLASSES)  # [C, D]: the same for all, once
        weights = classes.T.to(model.device)
        labels: dict[str, list[int]] = {}

        def ours() -> None:
            results = model.classify(folder, CLASSES)
            labels["multimodal"] = [CLASSES.index(result.label) for result in results]

        @torch.no_grad()
        def batch_1() -> None:
            found = []
            for path in paths:
                image = preprocess(Image.open(path)).unsqueeze(0).to(model.device, model.dtype)
                embedding = peer.encode_image(image)
                embedding /= embedding.norm(dim=-1, keepdim=True)
                found.append((100.0 * embedding.float() @ weights).softmax(dim=-1).argmax().item())
            labels["batch 1"] = found

        @torch.no_grad()
        def data_loader() -> None:
            found = []
            for batch in torch.utils.data.DataLoader(Files(paths, preprocess), 32, num_workers=2):
                embeddings = peer.encode_image(batch.to(model.device, model.dtype), normalize=True)
                found += (embeddings.float() @ weights).argmax(-1).tolist()
            labels["DataLoader"] = found

        sides = {"batch 1": batch_1, "DataLoader": data_loader, "multimodal": ours}
        seconds = in_turn(sides, arguments.rounds, model.device)
    print(f"{arguments.architecture}, {len(paths)} JPEGs of 640 x 480, {model.device}, {model.dtype}")
    for theirs in ("batch 1", "DataLoader"):
        same = sum(a == b for a, b in zip(labels["multimodal"], labels[theirs], strict=True))
        print(f"  ratio {ratio(seconds, 'multimodal', theirs)}, {same} labels the same")


if __name__ == "__main__":
    main()
