"""Attention of a single query, every token of a decoder with a cache, against `scaled_dot_product_attention`.

python tests/benchmarks/single_query.py --keys 577 --dtype bfloat16
"""

import argparse

import torch
import torch.nn.functional as F
from sides import in_turn, ratio

from multimodal.layers import attend


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=577, help="577: the patches of a 384 px image and a class token")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=51)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    shape = (arguments.batch, 12, arguments.keys, 64)
    k, v = (torch.randn(shape, dtype=getattr(torch, arguments.dtype)) for _ in range(2))
    q = torch.randn(arguments.batch, 12, 1, 64, dtype=k.dtype)
    sides = {"sdpa": lambda: F.scaled_dot_product_attention(q, k, v), "attend": lambda: attend(q, k, v)}
    seconds = in_turn(sides, arguments.rounds, torch.device("cpu"))
    difference = float((attend(q, k, v) - F.scaled_dot_product_attention(q, k, v)).abs().max())
    print(
        f"{arguments.batch} rows, {arguments.keys} keys, {arguments.dtype}, {torch.backends.cpu.get_cpu_capability()}"
    )
    print(f"  ratio {ratio(seconds, 'attend', 'sdpa')}, largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
