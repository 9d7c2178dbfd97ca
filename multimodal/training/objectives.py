"""What a network is trained for: one pass over a batch, each term of the loss by name.

B = rows of this rank, L = tokens, S = image side in pixels, D = embedding width, C = labels
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.datasets import Batch
from multimodal.layers import lengths_until, padding_mask_from
from multimodal.losses import captioning_loss, info_nce, sigmoid_loss
from multimodal.models import Captioner, DualEncoder, Network
from multimodal.outputs import Encoded
from multimodal.training.config import ObjectiveConfig

LENGTH_GROUPS = 4  # rows of similar length go through the text modules together


class Objective(nn.Module):
    """Contrastive, captioning and classification terms over one network (Yu et al. 2022, CoCa, section 3.2).

    Data-parallel wrappers wrap this module: its forward is everything that needs a gradient.
    """

    def __init__(
        self, network: Network, config: ObjectiveConfig, eos_id: int, labels: int, embed_dim: int
    ) -> None:
        super().__init__()
        captions = isinstance(network, Captioner) and config.captioning > 0
        if not captions and config.contrastive == 0:
            raise ValueError("objective: expected a term to train, got contrastive 0 and no captioning")
        bias = (network.dual if isinstance(network, Captioner) else network).logit_bias
        if config.sigmoid and bias is None:
            raise ValueError("objective.sigmoid: expected model.logit_bias to be set (SigLIP's is -10)")
        if config.classification > 0 and labels == 0:
            raise ValueError("objective.classification: expected data with labels, got none")
        self.network = network
        self.config = config
        self.eos_id = eos_id
        self.captions = captions
        self.label_head = nn.Linear(embed_dim, labels, bias=False) if config.classification > 0 else None

    def forward(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        """images [B, 3, S, S] as the network wants them; `batch` on the same device -> terms and `loss`."""
        config, network = self.config, self.network
        dual = network.dual if isinstance(network, Captioner) else network
        assert isinstance(dual, DualEncoder)
        encoded = dual.image_encoder(images)
        terms: dict[str, Tensor] = {}
        if config.contrastive > 0:
            image_embeddings = dual.project_image(encoded.pooled, normalize=True)  # [B, D]
            text_embeddings = self.encode_texts(dual, batch.tokens)  # [B, D]
            if config.sigmoid:
                assert dual.logit_bias is not None
                terms["contrastive"] = sigmoid_loss(
                    image_embeddings, text_embeddings, dual.scale, dual.logit_bias.float(), batch.groups
                )
            else:
                terms["contrastive"] = info_nce(
                    image_embeddings, text_embeddings, dual.scale, batch.groups
                )
            if self.label_head is not None:
                terms["classification"] = self.classify(image_embeddings, batch.labels, dual.scale)
        if self.captions:
            terms["captioning"] = self.caption(encoded, batch)
        terms["loss"] = torch.stack([getattr(config, name) * term for name, term in terms.items()]).sum()
        return terms

    def by_length(self, tokens: Tensor) -> list[Tensor]:
        """Row numbers of `tokens` in groups of similar length, shortest first: little is padding in a group."""
        return list(lengths_until(tokens, self.eos_id).argsort(stable=True).chunk(LENGTH_GROUPS))

    def encode_texts(self, dual: DualEncoder, tokens: Tensor) -> Tensor:
        """tokens [B, L] -> [B, D] unit length, in the order of the rows"""
        groups = self.by_length(tokens)
        embeddings = torch.cat([dual.encode_text(tokens[rows], normalize=True) for rows in groups])
        return embeddings[torch.cat(groups).argsort()]

    def classify(self, embeddings: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
        """Cosine classifier on the rows with a label (-1: without)."""
        assert self.label_head is not None
        logits = scale * embeddings @ F.normalize(self.label_head.weight.float(), dim=-1).T  # [B, C]
        mask = labels >= 0
        return captioning_loss(logits, labels.clamp(min=0), mask, self.config.label_smoothing)

    def caption(self, encoded: Encoded, batch: Batch) -> Tensor:
        """The decoder on the rows that have a real caption."""
        assert isinstance(self.network, Captioner)
        features, tokens = encoded.features[batch.captioning], batch.tokens[batch.captioning]
        logits, targets, masks = [], [], []
        for rows in self.by_length(tokens):
            lengths = lengths_until(tokens[rows], self.eos_id)
            longest = int(lengths.max()) if len(rows) else 2
            group = tokens[rows, :longest]
            memory = Encoded(features[rows], features[rows, 0])
            logits.append(self.network.decode(group[:, :-1], memory).flatten(0, 1))  # [b * (L - 1), V]
            targets.append(group[:, 1:].flatten())
            masks.append(padding_mask_from(lengths - 1, longest - 1).flatten())
        return captioning_loss(
            torch.cat(logits), torch.cat(targets), torch.cat(masks), self.config.label_smoothing
        )
