"""What a model can be asked to do. Plain functions; `multimodal.Model` has each as a method."""

from multimodal.tasks.classify import DEFAULT_TEMPLATES, class_embeddings, classify
from multimodal.tasks.embed import embed, embed_images, embed_named, embed_texts, similarity
from multimodal.tasks.generate import caption, generate
from multimodal.tasks.index import Index, index_folder
from multimodal.tasks.indexing import Changes
from multimodal.tasks.pairs import answer, match
from multimodal.tasks.task_model import TaskModel

__all__ = [
    "DEFAULT_TEMPLATES", "Changes", "Index", "TaskModel", "answer", "caption", "class_embeddings", "classify", "embed",
    "embed_images", "embed_named", "embed_texts", "generate", "index_folder", "match", "similarity",
]  # fmt: skip
