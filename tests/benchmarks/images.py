"""Embeddings of decoded images, against open_clip as its README runs it: float32, `no_grad`.

    python tests/benchmarks/images.py --architecture ViT-B-32 --batch 32

Ours is `load(...)` with its defaults: bfloat16 if the processor multiplies it fast, with weights converted once.
"""

import argparse

import torch
from sides import both, cosine, in_turn, ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    model, peer, _ = both(arguments.architecture)
    side = model.transform.image_size
    images = torch.randn(arguments.batch, 3, side, side, device=model.device)

    @torch.inference_mode()
    def ours() -> torch.Tensor:
        return model.network.encode("image", images.to(model.dtype), normalize=True)

    @torch.no_grad()
    def theirs() -> torch.Tensor:
        return peer.encode_image(images, normalize=True)

    seconds = in_turn({"open_clip": theirs, "multimodal": ours}, arguments.rounds, model.device)
    print(f"{arguments.architecture}, batch {arguments.batch}, {model.device}, {model.dtype}")
    print(f"  ratio {ratio(seconds, 'multimodal', 'open_clip')}, cosine {cosine(ours(), theirs()):.5f}")


if __name__ == "__main__":
    main()
