"""Losses: tensors in, one scalar out, independent of any model."""

from multimodal.losses.captioning import captioning_loss
from multimodal.losses.contrastive import info_nce, sigmoid_loss

__all__ = ["captioning_loss", "info_nce", "sigmoid_loss"]
