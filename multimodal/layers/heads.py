"""From the features of a decoder or encoder to logits over the vocabulary.

W = width, V = vocabulary
"""

from torch import Tensor, nn

from multimodal.config import check_one_of
from multimodal.layers.mlp import build_activation


class LinearHead(nn.Linear):
    """[..., W] -> [..., V] without a bias (GPT-2)."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__(width, vocab_size, bias=False)
        nn.init.normal_(self.weight, std=0.02)

    def tie(self, embedding: nn.Embedding) -> None:
        """Share the weights of the token embedding (Press & Wolf 2017)."""
        self.weight = embedding.weight


class BertHead(nn.Module):
    """[..., W] -> [..., V] by a dense layer with activation and norm, and a linear map with a bias (BERT)."""

    def __init__(self, width: int, vocab_size: int, activation: str, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = build_activation(activation)
        self.norm = nn.LayerNorm(width, eps)
        self.linear = nn.Linear(width, vocab_size)

    def tie(self, embedding: nn.Embedding) -> None:
        """Share the weights of the token embedding; the bias stays its own."""
        self.linear.weight = embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(self.activation(self.dense(x))))


def build_head(name: str, width: int, vocab_size: int, activation: str, eps: float) -> LinearHead | BertHead:
    """The head called `name`. Raises ValueError listing the known names."""
    check_one_of(("linear", "bert"), head=name)
    return LinearHead(width, vocab_size) if name == "linear" else BertHead(width, vocab_size, activation, eps)
