"""Any image model of timm by name, with random weights.

B = batch, S = image side in pixels, h, w = positions down and across, N = h * w, W = width
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from multimodal.encoders.encoder import ENCODERS, Encoder
from multimodal.layers import Encoded


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    name: str  # such as "resnet18" or "vit_tiny_patch16_224", see `timm.list_models()`
    image_size: int = 224
    activation: ClassVar[str] = "as built"


class TimmEncoder(Encoder):
    """images [B, 3, S, S] -> Encoded(features [B, N, W], pooled [B, W])

    Pooled as the model pools for its classifier, or the mean of the features if the classifier widens them (MobileNet).
    Raises ValueError for a name that timm does not know.
    """

    modality = "image"

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        import timm

        if not timm.is_model(config.name):
            raise ValueError(f"name: expected a model of timm, got {config.name!r}")
        self.config = config
        try:  # transformers of timm have positions for one size
            self.tower = timm.create_model(config.name, num_classes=0, img_size=config.image_size)
        except TypeError:  # convolutional networks take images of any size
            self.tower = timm.create_model(config.name, num_classes=0)
        self.width = self.tower.num_features

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Encoded:
        x = self.tower.forward_features(images)  # [B, W, h, w], or [B, P + N, W] with P tokens before the patches
        pooled = self.tower.forward_head(x)  # [B, W]
        if x.ndim == 4:
            if x.shape[1] != self.width:
                x = x.permute(0, 3, 1, 2)  # some models keep [B, h, w, W]
            x = x.flatten(2).transpose(1, 2)  # [B, W, h, w] -> [B, N, W]
        else:
            x = x[:, getattr(self.tower, "num_prefix_tokens", 0) :]
        return Encoded(x, pooled if pooled.shape[1] == self.width else x.mean(1))


ENCODERS.register("timm", TimmConfig, TimmEncoder)
