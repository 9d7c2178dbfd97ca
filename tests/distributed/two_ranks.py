"""Started by torchrun from test_distributed.py: two_ranks OUT."""

import json
import sys
from pathlib import Path

import torch

from multimodal.distributed import barrier, gather, mean_over_ranks, process_group, rank, sum_over_ranks, world_size
from multimodal.losses import info_nce, sigmoid_loss

GROUPS = torch.tensor([0, 1, 2, 3, 0, 5, 5, 7])


def rows(seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(seed)), dim=-1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {"before": [rank(), world_size()]}
    with process_group(torch.device("cpu")):
        found["inside"] = [rank(), world_size()]
        mine = slice(4 * rank(), 4 * rank() + 4)
        groups = GROUPS[mine]
        found["sum"] = sum_over_ranks(torch.tensor([1.0, float(rank())])).tolist()
        found["mean"] = mean_over_ranks(torch.tensor(10.0 * rank())).item()
        for loss in (info_nce, sigmoid_loss):
            images, texts = rows(0)[mine].requires_grad_(), rows(1)[mine].requires_grad_()
            scale = torch.tensor(5.0, requires_grad=True)
            bias = () if loss is info_nce else (torch.tensor(-3.0),)
            value = loss(images, texts, scale, *bias, groups=groups)
            value.backward()
            found[loss.__name__] = {
                "loss": mean_over_ranks(value).item(),
                "images": gather(images.grad / world_size()).tolist(),
                "texts": gather(texts.grad / world_size()).tolist(),
                "scale": mean_over_ranks(scale.grad).item(),
            }
        barrier()
    Path(sys.argv[1], f"{rank()}.json").write_text(json.dumps(found))
