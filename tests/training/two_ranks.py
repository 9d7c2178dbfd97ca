"""Started by torchrun from test_loop.py: python two_ranks.py RUN.json DATA OUT."""

import json
import sys
from pathlib import Path

import torch

from multimodal.training import run_config, train

if __name__ == "__main__":
    torch.set_num_threads(1)
    run, root, out = sys.argv[1:]
    train(run_config(json.loads(Path(run).read_text())), out, root, device="cpu")
