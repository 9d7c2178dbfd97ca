"""The format of this package: config.json, model.safetensors, the files of the preprocessors and a model card."""

from pathlib import Path

from multimodal.models import MODELS
from multimodal.preprocess.preprocessor import Preprocessor, load_preprocessor
from multimodal.zoo.contract import check_stored, contract
from multimodal.zoo.formats.format import CONFIG, FORMATS, Checkpoint, read_config, refuse_tokenizer
from multimodal.zoo.weights import CheckpointError, read_json, read_weights

FORMAT = "multimodal-2"
WEIGHTS = "model.safetensors"
TABLES = ("model", "inputs", "card")
KEYS = {"format", "name", "weights_sha256", *TABLES}


class OwnFormat:
    """A folder that `save_folder` has written."""

    def recognises(self, path: Path) -> bool:
        return "format" in read_config(path)

    def open(self, path: Path, tokenizer: Path | None) -> Checkpoint:
        refuse_tokenizer(path, tokenizer)
        table = read_json(path / CONFIG)
        if table["format"] != FORMAT or set(table) != KEYS:
            raise CheckpointError(
                f"{path / CONFIG}: expected format {FORMAT!r} with {sorted(KEYS)}, "
                f"got {table['format']!r} with {sorted(table)}"
            )
        for key in TABLES:
            if not isinstance(table[key], dict):
                raise CheckpointError(f"{path / CONFIG}: {key}: expected a table, got {table[key]!r}")
        if not (path / WEIGHTS).exists():
            raise FileNotFoundError(f"{path}: expected {WEIGHTS} beside {CONFIG}, got no such file")
        sha256 = str(table["weights_sha256"])
        weights = read_weights(path / WEIGHTS, sha256=sha256, exact=True)
        config = MODELS.from_dict(table["model"], "model")
        inputs: dict[str, Preprocessor] = {}
        for modality, values in table["inputs"].items():
            where = f"inputs.{modality}"
            inputs[modality] = load_preprocessor(values, path, where)
            if (got := inputs[modality].modality) != modality:
                raise CheckpointError(f"{where}: expected a preprocessor of {modality}, got one of {got}")
        check_stored(table["card"].get("contract", {}), contract(config, inputs, sha256))
        return Checkpoint(str(table["name"]), config, weights, inputs, table["card"], sha256)


FORMATS.register("own", OwnFormat())
