"""Training throughput of the shipped recipe, in its longest joint stage, against a plain float32 loop with the
same network and batches.

    python tests/benchmarks/training.py --data ../shared/data

The plain loop is what one writes first: every row through every part, padding included, float32, AdamW with its
defaults. Ours: the decoder on real captions only, texts in groups of similar length, the precision that pays on
the device; and the optimizer of the recipe. Both are measured in turn, in one process; the ratio of each pair
is taken, then the median.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from multimodal.datasets import Batch
from multimodal.losses import captioning_loss, info_nce
from multimodal.models import build_model
from multimodal.training import read_run
from multimodal.training.loop import Run, keep_freed_memory
from multimodal.zoo import choose_device

ROOT = Path(__file__).parents[2]


def plain_step(run: Run) -> Callable[[Batch, Tensor], None]:
    """The same network and objective without any optimization."""
    config, smoothing = run.stage, run.objective.terms["captioning"].config.label_smoothing
    network = build_model(run.network.config).to(run.device)
    head = torch.nn.Linear(network.embed_dim, len(run.mixture.label_names), bias=False).to(run.device)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=config.optimizer.lr)

    def step(batch: Batch, images: Tensor) -> None:
        tokens, scale = batch.inputs["text"], network.logit_scale.exp()
        encoded = network.encoders["image"](images)
        embeddings = network.project("image", encoded.pooled, normalize=True)
        texts = network.encode("text", tokens, normalize=True)
        logits = network.decoder(tokens[:, :-1], network.memory_of(encoded)).logits
        known = batch.labels >= 0
        label_logits = scale * embeddings @ torch.nn.functional.normalize(head.weight, dim=-1).T
        targets = tokens[:, 1:]
        mask = (targets != run.tokenizer.pad_id) & batch.captioning[:, None]
        loss = (
            config.objective["contrastive"] * info_nce(embeddings, texts, scale, batch.groups)
            + config.objective["captioning"] * captioning_loss(logits, targets, mask, smoothing)
            + config.objective["classification"]
            * torch.nn.functional.cross_entropy(label_logits[known], batch.labels[known])
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.clip)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default=str(ROOT / "data/recipes/shipped.toml"))
    parser.add_argument("--data", required=True, help="the folder that the recipe's paths are relative to")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=int, default=1000, help="images of each source")
    parser.add_argument("--device")
    arguments = parser.parse_args()

    device = choose_device(arguments.device)
    config = read_run(arguments.recipe)
    # A few images lack many of the labels that the hypernyms name.
    data = tuple(replace(source, limit=arguments.limit, hypernyms={}) for source in config.data)
    out = tempfile.TemporaryDirectory()
    run = Run(replace(config, data=data), Path(out.name), Path(arguments.data), device, None)
    joint = [stage for stage in run.plan if stage.objective["contrastive"] and stage.objective["captioning"]]
    run.masters.release()
    run.begin(max(joint, key=lambda stage: stage.steps))
    plain = plain_step(run)
    batches = [run.mixture_now.batch(step) for step in range(arguments.rounds + 1)]
    keep_freed_memory()  # for the whole process: the plain loop profits as well

    def timed(work: Callable[[], object]) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    ours, theirs = [], []
    for number, batch in enumerate(batches):

        def plainly(batch: Batch = batch) -> None:
            moved = run.on_device(batch)
            plain(moved, moved.inputs["image"].float())

        def cleverly(number: int = number, batch: Batch = batch) -> None:
            run.step(run.stage.start + number, batch)

        theirs.append(timed(plainly))
        ours.append(timed(cleverly))
    ratios = [b / a for a, b in zip(ours[1:], theirs[1:], strict=True)]  # the first round warms up
    rows = run.stage.batch_size
    print(f"{config.name}, batch {rows}, {device.type}, {str(run.dtype).removeprefix('torch.')}")
    for name, seconds in (("plain float32 loop", theirs[1:]), ("multimodal", ours[1:])):
        print(f"  {name:20s} {rows / statistics.median(seconds):7.1f} samples/s")
    print(f"  ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
