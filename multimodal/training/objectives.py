"""What a network is trained for: one pass over a batch, each term of the loss by name.

B = rows of this rank, L = tokens, S = image side in pixels, D = embedding width, C = labels
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.datasets import Batch
from multimodal.layers import lengths_until, padding_mask_from
from multimodal.layers.features import Encoded
from multimodal.losses import captioning_loss, info_nce, sigmoid_loss
from multimodal.models import Captioner, DualEncoder, Trainable
from multimodal.training.config import ObjectiveConfig

LENGTH_GROUPS = 4  # rows of similar length go through the text modules together


class Objective(nn.Module):
    """Contrastive, captioning and classification terms over one network (Yu et al. 2022, CoCa, section 3.2).

    Data-parallel wrappers wrap this module: its forward is everything that needs a gradient. Parts of the
    network that no term uses are frozen.
    """

    def __init__(
        self, network: Trainable, config: ObjectiveConfig, eos_id: int, label_head: nn.Linear | None
    ) -> None:
        """label_head: without a bias, [D] -> [C], for the classification term"""
        super().__init__()
        self.network, self.config, self.eos_id = network, config, eos_id
        self.decoder = network.decoder if isinstance(network, Captioner) and config.captioning else None
        self.dual: DualEncoder = network.dual if isinstance(network, Captioner) else network
        if not config.contrastive and not config.classification and self.decoder is None:
            raise ValueError(f"objective: expected a term that this model can be trained for, got {config}")
        if config.contrastive and config.sigmoid and self.dual.logit_bias is None:
            raise ValueError(
                "objective.sigmoid: expected model.logit_bias to be set (SigLIP's is -10), got none"
            )
        if config.classification and label_head is None:
            raise ValueError("objective.classification: expected data with labels, got none")
        self.label_head = label_head
        self._freeze_unused()

    def _freeze_unused(self) -> None:
        dual, config = self.dual, self.config
        if self.label_head is not None:
            self.label_head.requires_grad_(bool(config.classification))  # an earlier stage may have frozen it
        if isinstance(self.network, Captioner) and self.decoder is None:
            self.network.decoder.requires_grad_(False)
        if not config.contrastive:
            dual.text_encoder.requires_grad_(False)
            dual.text_projection.requires_grad_(False)
        if not config.contrastive and not config.classification:
            dual.image_projection.requires_grad_(False)
            dual.logit_scale.requires_grad_(False)
        if dual.logit_bias is not None and not (config.contrastive and config.sigmoid):
            dual.logit_bias.requires_grad_(False)

    def forward(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        """images [B, 3, S, S] as the network wants them; `batch` on the same device -> terms and `loss`."""
        config, dual = self.config, self.dual
        encoded = dual.image_encoder(images)
        terms: dict[str, Tensor] = {}
        if config.contrastive or config.classification:
            embeddings = dual.project_image(encoded.pooled, normalize=True)  # [B, D]
        if config.contrastive:
            terms["contrastive"] = self.contrast(embeddings, batch)
        if config.classification:
            terms["classification"] = self.classify(embeddings, batch.labels)
        if self.decoder is not None:
            terms["captioning"] = self.caption(encoded, batch)
        total = sum(getattr(config, name) * term for name, term in terms.items())
        return {"loss": torch.as_tensor(total), **terms}

    def contrast(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """embeddings [B, D] unit length"""
        dual = self.dual
        texts = self.encode_texts(batch.tokens)
        if not self.config.sigmoid:
            return info_nce(embeddings, texts, dual.scale, batch.groups)
        assert dual.logit_bias is not None
        return sigmoid_loss(embeddings, texts, dual.scale, dual.logit_bias.float(), batch.groups)

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """tokens [B, L] -> [B, D] unit length, in the order of the rows; equal texts are encoded once"""
        different, place = tokens.unique(dim=0, return_inverse=True)  # [T, L], [B]
        groups = self.by_length(different)
        embeddings = torch.cat([self.dual.encode_text(different[rows], normalize=True) for rows in groups])
        return embeddings[torch.cat(groups).argsort()[place]]

    def by_length(self, tokens: Tensor) -> list[Tensor]:
        """Row numbers of `tokens` in groups of similar length, shortest first: a group is little padding."""
        return list(lengths_until(tokens, self.eos_id).argsort(stable=True).chunk(LENGTH_GROUPS))

    def classify(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Cosine classifier on the rows with a label (-1: without). embeddings [B, D], labels [B]"""
        assert self.label_head is not None
        directions = F.normalize(self.label_head.weight.float(), dim=-1)  # [C, D]
        logits = self.dual.scale * embeddings @ directions.T  # [B, C]
        # A label is the one token that follows.
        return captioning_loss(logits, labels.clamp(min=0), labels >= 0, self.config.label_smoothing)

    def caption(self, encoded: Encoded, batch: Batch) -> Tensor:
        """The decoder on the rows that have a real caption."""
        assert self.decoder is not None
        features, tokens = encoded.features[batch.captioning], batch.tokens[batch.captioning]
        logits, targets, masks = [], [], []
        for rows in self.by_length(tokens):
            lengths = lengths_until(tokens[rows], self.eos_id)
            longest = int(lengths.max()) if len(rows) else 2
            group = tokens[rows, :longest]
            memory = Encoded(features[rows], features[rows, 0])
            logits.append(self.decoder(group[:, :-1], memory).flatten(0, 1))  # [b * (L - 1), V]
            targets.append(group[:, 1:].flatten())
            masks.append(padding_mask_from(lengths - 1, longest - 1).flatten())
        return captioning_loss(
            torch.cat(logits), torch.cat(targets), torch.cat(masks), self.config.label_smoothing
        )
