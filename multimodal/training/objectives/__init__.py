"""What a network is trained for: terms of the loss, one file each, and their weighted sum."""

from multimodal.training.objectives.captioning import Captioning, CaptioningConfig
from multimodal.training.objectives.classification import Classification, ClassificationConfig
from multimodal.training.objectives.contrastive import Contrastive, ContrastiveConfig, Sigmoid, SigmoidConfig
from multimodal.training.objectives.matching import Matching, MatchingConfig
from multimodal.training.objectives.term import OBJECTIVES, Objective, Shared, Term, TermConfig, TermData

__all__ = [
    "OBJECTIVES", "Captioning", "CaptioningConfig", "Classification", "ClassificationConfig", "Contrastive",
    "ContrastiveConfig", "Matching", "MatchingConfig", "Objective", "Shared", "Sigmoid", "SigmoidConfig", "Term",
    "TermConfig", "TermData",
]  # fmt: skip
