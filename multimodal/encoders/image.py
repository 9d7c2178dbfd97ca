"""Image encoder: any ViT of timm, giving its patch features and one pooled vector.

B = batch, S = image side in pixels, N = patches, W = width
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from multimodal.layers import ConvStem
from multimodal.outputs import Encoded


@dataclass(frozen=True)
class ImageEncoderConfig:
    """`name` is a timm ViT; a field left None keeps what that model has."""

    name: str = "vit_tiny_patch16_224"
    image_size: int = 224
    patch_size: int | None = None
    width: int | None = None
    layers: int | None = None
    heads: int | None = None
    pooling: str | None = None  # "token", "avg" or "map", as timm says
    drop_path: float = 0.0  # stochastic depth, training only
    stem_channels: tuple[int, ...] = ()  # none: timm's linear patches; else see layers.ConvStem
    stem_depths: tuple[int, ...] = ()

    def timm_arguments(self) -> dict[str, Any]:
        """What `timm.create_model` is told beside the name."""
        named = {
            "patch_size": self.patch_size,
            "embed_dim": self.width,
            "depth": self.layers,
            "num_heads": self.heads,
            "global_pool": self.pooling,
        }
        arguments: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
        if self.pooling is not None and self.pooling != "token":
            arguments |= {"class_token": False, "fc_norm": False}  # the final norm stays before the pooling
        if self.stem_channels:
            arguments["embed_layer"] = partial(
                ConvStem, channels=tuple(self.stem_channels), depths=tuple(self.stem_depths)
            )
        return arguments | {
            "img_size": self.image_size,
            "drop_path_rate": self.drop_path,
            "dynamic_img_size": True,  # positions are interpolated for another S
        }


class ImageEncoder(nn.Module):
    """images [B, 3, S, S] -> Encoded(features [B, N, W], pooled [B, W]); S: any multiple of the patch size."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        import timm
        from timm.models.vision_transformer import VisionTransformer

        if not timm.is_model(config.name):
            raise ValueError(f"image encoder: expected the name of a timm ViT, got {config.name!r}")
        self.config = config
        arguments = config.timm_arguments()
        try:
            self.vit = timm.create_model(config.name, pretrained=False, num_classes=0, **arguments)
        except TypeError as error:  # an argument that this family does not know
            raise ValueError(
                f"image encoder: expected a timm ViT, got {config.name!r}, which refuses {arguments}: {error}"
            ) from None
        if not isinstance(self.vit, VisionTransformer):
            raise ValueError(
                f"image encoder: expected a timm VisionTransformer, got a {type(self.vit).__name__} "
                f"({config.name})"
            )
        self.width: int = self.vit.num_features

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> Encoded:
        tokens = self.vit.forward_features(images)  # [B, prefix + N, W], after the final norm
        pooled = self.vit.forward_head(tokens, pre_logits=True)  # [B, W]
        return Encoded(tokens[:, self.vit.num_prefix_tokens :], pooled)
