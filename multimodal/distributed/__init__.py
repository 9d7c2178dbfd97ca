"""Several processes as one."""

from multimodal.distributed.process import (
    barrier,
    gather,
    mean_over_ranks,
    process_group,
    rank,
    sum_over_ranks,
    world_size,
)

__all__ = ["barrier", "gather", "mean_over_ranks", "process_group", "rank", "sum_over_ranks", "world_size"]
