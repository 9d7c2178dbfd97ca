"""open_clip's own towers, for architectures that our modules cannot express.

B = batch, S = image side in pixels, L = tokens, D = width of the shared space
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from multimodal.encoders.encoder import ENCODERS, Encoder
from multimodal.layers import Encoded


@dataclass(frozen=True, kw_only=True)
class OpenClipConfig:
    """What the two towers share."""

    embed_dim: int
    quick_gelu: bool = False

    @property
    def activation(self) -> str:
        return "quick_gelu" if self.quick_gelu else "as built"


@dataclass(frozen=True, kw_only=True)
class OpenClipImageConfig(OpenClipConfig):
    """An image tower of open_clip, including its projection."""

    vision_cfg: dict[str, Any]  # the part of open_clip's model config

    def __post_init__(self) -> None:
        name = str(self.vision_cfg.get("timm_model_name") or "")
        if name and not name.replace("_", "").replace(".", "").isalnum():  # timm would ask a hub or read a folder
            raise ValueError(f"vision_cfg.timm_model_name: expected the name of a model of timm, got {name!r}")

    @property
    def image_size(self) -> int:
        size = self.vision_cfg.get("image_size", 224)
        return size if isinstance(size, int) else size[0]


@dataclass(frozen=True, kw_only=True)
class OpenClipTextConfig(OpenClipConfig):
    """A text tower of open_clip, including its projection."""

    text_cfg: dict[str, Any]
    vocab_size: int
    context_length: int
    eos_id: int
    # The transformers config of a tower from transformers, so that no hub is asked
    hf_config: dict[str, Any] = field(default_factory=dict)


class OpenClipImageEncoder(Encoder):
    """images [B, 3, S, S] -> Encoded(None, pooled [B, D])"""

    modality = "image"

    def __init__(self, config: OpenClipImageConfig) -> None:
        super().__init__()
        from open_clip.model import CLIPVisionCfg, _build_vision_tower

        self.config = config
        self.width = config.embed_dim
        # Nothing is downloaded, and the output is the embedding alone.
        given = config.vision_cfg | {"timm_model_pretrained": False, "output_tokens": False}
        self.tower = _build_vision_tower(config.embed_dim, CLIPVisionCfg(**given), config.quick_gelu)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Encoded:
        return Encoded(None, self.tower(images))


class OpenClipTextEncoder(Encoder):
    """tokens [B, L] -> Encoded(None, pooled [B, D]); L is always the context_length."""

    modality = "text"

    def __init__(self, config: OpenClipTextConfig) -> None:
        super().__init__()
        from open_clip.model import CLIPTextCfg, _build_text_tower

        self.config = config
        self.width = config.embed_dim
        if config.hf_config or config.text_cfg.get("hf_model_name"):
            self.tower = _from_transformers(config)
        else:
            given = config.text_cfg | {"output_tokens": False}
            self.tower = _build_text_tower(config.embed_dim, CLIPTextCfg(**given), config.quick_gelu)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Encoded:
        return Encoded(None, self.tower(tokens))


def _from_transformers(config: OpenClipTextConfig) -> nn.Module:
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise ImportError("this model's text tower requires transformers: pip install transformers") from error
    from open_clip.hf_configs import arch_dict
    from open_clip.hf_model import HFTextEncoder

    values = dict(config.hf_config)
    if values.get("model_type") not in arch_dict:
        raise ValueError(f"hf_config.model_type: expected one of {sorted(arch_dict)}, got {values.get('model_type')!r}")
    code = {key: value for key, value in values.items() if key.endswith("implementation")}
    if code:  # transformers would download it
        raise ValueError(f"hf_config: expected no choice of code, got {code}")
    pooler = config.text_cfg.get("hf_pooler_type", "mean_pooler")
    tower = HFTextEncoder(
        config.text_cfg["hf_model_name"],
        output_dim=config.embed_dim,
        config=AutoConfig.for_model(values.pop("model_type"), **values),
        proj_type=config.text_cfg.get("hf_proj_type", "mlp"),
        pooler_type=pooler,
        pretrained=False,
    )
    # Built from a config instead of a name, it keeps parts that its checkpoints do not have.
    if getattr(tower.config, "is_encoder_decoder", False):
        tower.transformer = tower.transformer.encoder
    elif pooler != "cls_pooler" and getattr(tower.transformer, "pooler", None) is not None:
        tower.transformer.pooler = None
    return tower


ENCODERS.register("open_clip_image", OpenClipImageConfig, OpenClipImageEncoder)
ENCODERS.register("open_clip_text", OpenClipTextConfig, OpenClipTextEncoder)
