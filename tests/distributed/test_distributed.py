import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from multimodal.distributed import gather, mean_over_ranks, rank, sum_over_ranks, world_size
from multimodal.losses import info_nce, sigmoid_loss
from tests.distributed.two_ranks import GROUPS, rows


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("ranks")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"),
        *("-m", "tests.distributed.two_ranks", str(out)),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=Path(__file__).parents[2])
    return [json.loads((out / f"{r}.json").read_text()) for r in range(2)]


def test_one_process_is_a_world_of_its_own():
    x = torch.randn(3, 2)
    assert (rank(), world_size()) == (0, 1)
    assert gather(x) is x
    assert torch.equal(sum_over_ranks(x), x)
    assert torch.equal(mean_over_ranks(x), x)


def test_ranks_know_who_they_are_and_add_up(ranks):
    assert [found["before"] for found in ranks] == [[0, 1], [1, 1]]  # torchrun has said which, no more
    assert [found["inside"] for found in ranks] == [[0, 2], [1, 2]]
    for found in ranks:
        assert found["sum"] == [2.0, 1.0]
        assert found["mean"] == 5.0


@pytest.mark.parametrize("loss", [info_nce, sigmoid_loss])
def test_two_ranks_have_the_loss_and_the_gradients_of_one(ranks, loss):
    images, texts = rows(0).requires_grad_(), rows(1).requires_grad_()
    scale = torch.tensor(5.0, requires_grad=True)
    bias = () if loss is info_nce else (torch.tensor(-3.0),)
    value = loss(images, texts, scale, *bias, groups=GROUPS)
    value.backward()
    for found in ranks:
        found = found[loss.__name__]
        assert found["loss"] == pytest.approx(value.item(), abs=1e-5)
        assert found["scale"] == pytest.approx(scale.grad.item(), abs=1e-5)
        torch.testing.assert_close(torch.tensor(found["images"]), images.grad, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(torch.tensor(found["texts"]), texts.grad, atol=1e-6, rtol=1e-5)
