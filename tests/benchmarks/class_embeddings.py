"""Class embeddings of ImageNet's names in OpenAI's 80 templates, against open_clip's own
`build_zero_shot_classifier` as its evaluation calls it, in float32.

    python tests/benchmarks/class_embeddings.py --classes 100

Both sides embed all of the names; per class the work is nearly the same for 1,000 of them.
"""

import argparse

import open_clip
import torch
from sides import both, cosine, in_turn, ratio

TEMPLATES = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()

    model, peer, _ = both(arguments.architecture)
    tokenizer = open_clip.get_tokenizer(arguments.architecture)
    names = open_clip.IMAGENET_CLASSNAMES[: arguments.classes]
    found: dict[str, torch.Tensor] = {}

    def ours(names: list[str] = names) -> None:
        model.class_cache.clear()
        found["ours"] = model.class_embeddings(names, TEMPLATES)  # [C, D]

    def theirs(names: list[str] = names) -> None:
        found["theirs"] = open_clip.build_zero_shot_classifier(
            peer, tokenizer, names, open_clip.OPENAI_IMAGENET_TEMPLATES, device=model.device
        ).T  # [D, C] -> [C, D]

    for side in (ours, theirs):
        side(names[:2])  # warms up
    sides = {"open_clip": theirs, "multimodal": ours}
    seconds = in_turn(sides, arguments.rounds, model.device, warm=True)
    print(f"{arguments.architecture}, {len(names)} names x {len(TEMPLATES)}, {model.device}, {model.dtype}")
    least = cosine(found["ours"], found["theirs"])
    print(f"  ratio {ratio(seconds, 'multimodal', 'open_clip')}, cosine {least:.5f}")


if __name__ == "__main__":
    main()
