"""CLIP in the format of sentence-transformers: a folder of modules, of which the first is a CLIP of transformers."""

from dataclasses import replace
from pathlib import Path

from multimodal.zoo.formats.format import FORMATS, Checkpoint, recognise
from multimodal.zoo.weights import CheckpointError

FOLDER = "0_CLIPModel"
HARMLESS = (FOLDER, "1_Normalize")  # embeddings are normalised in any case


class SentenceTransformersFormat:
    def recognises(self, path: Path) -> bool:
        return (path / FOLDER).is_dir()

    def open(self, path: Path, tokenizer: Path | None) -> Checkpoint:
        modules = sorted(each.name for each in path.glob("[0-9]_*") if each.is_dir())
        if not set(modules) <= set(HARMLESS):
            raise CheckpointError(f"{path}: expected the modules {HARMLESS}, got {modules}")
        checkpoint = recognise(path / FOLDER).open(path / FOLDER, tokenizer)
        return replace(checkpoint, name=path.name)


FORMATS.register("sentence_transformers", SentenceTransformersFormat())
