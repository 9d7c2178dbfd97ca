"""Embeddings of decoded images, against open_clip.

    python tests/benchmarks/images.py --architecture ViT-B-32 --batch 32

Both sides compute in the dtype that `load` chooses, with weights converted once: bfloat16 if the processor
multiplies it fast. MULTIMODAL_DTYPE=float32 measures both in float32.
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
    images = torch.randn(arguments.batch, 3, side, side, device=model.device, dtype=model.dtype)

    @torch.inference_mode()
    def ours() -> torch.Tensor:
        return model.network.encode("image", images, normalize=True)

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        return peer.encode_image(images, normalize=True)

    seconds = in_turn({"open_clip": theirs, "multimodal": ours}, arguments.rounds, model.device)
    print(f"{arguments.architecture}, batch {arguments.batch}, {model.device}, {model.dtype}")
    print(f"  ratio {ratio(seconds, 'multimodal', 'open_clip')}, cosine {cosine(ours(), theirs()):.5f}")


if __name__ == "__main__":
    main()
