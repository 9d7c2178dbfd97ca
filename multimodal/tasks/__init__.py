"""What a model is asked to do. Plain functions; `multimodal.Model` has each as a method."""

from multimodal.tasks.ask import answer, match
from multimodal.tasks.caption import caption
from multimodal.tasks.classify import DEFAULT_TEMPLATES, class_embeddings, classify
from multimodal.tasks.embed import embed_images, embed_named_images, embed_texts, similarity
from multimodal.tasks.index import Index
from multimodal.tasks.indexing import Changes
from multimodal.tasks.protocol import TaskModel

__all__ = [
    "DEFAULT_TEMPLATES",
    "Changes",
    "Index",
    "TaskModel",
    "answer",
    "caption",
    "class_embeddings",
    "classify",
    "embed_images",
    "embed_named_images",
    "embed_texts",
    "match",
    "similarity",
]
