"""Process groups, and sums and gathers over their ranks."""

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
