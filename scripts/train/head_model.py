"""The linear head of a token classifier: its loss, and the backbone under it."""

from pathlib import Path

import torch

from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json
from scripts.common.garbage import collect_as_usual
from scripts.common.number_format import torch_dtype
from scripts.train.classifier_head import Head


def class_weights(kind: str, counts: list[int]) -> list[float]:
    """Return the loss weight of each class; `counts` are the classes' tokens in the training split.

    none: 1. balanced: N / (K n_c) with N tokens, of which n_c are of the class, and K classes that occur (King and Zeng
    2001, "Logistic regression in rare events data"; scikit-learn's `compute_class_weight`); a class that does not occur
    has weight 1. The mean weight over the tokens is 1.
    """
    if kind == "none":
        return [1.0] * len(counts)
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 1.0 for count in counts]


def classifier_config(base: Path, labels: list[str], dropout: float) -> dict:
    """Return the base's config.json for its architecture's token classifier; raises UserError if there is none."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES

    config = read_json(base / "config.json")
    architecture = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES.get(config["model_type"])
    if architecture is None:
        raise UserError(f"transformers has no token classifier of the architecture '{config['model_type']}'", base)
    return {
        **config,
        "architectures": [architecture],
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        "classifier_dropout": dropout,
    }


def end_at_layer(config: dict, layer: int) -> dict:
    """Return a model's config.json for a model that ends at a layer, counted from 1."""
    types = {"layer_types": config["layer_types"][:layer]} if config.get("layer_types") else {}
    return {**config, "num_hidden_layers": layer, **types}


def load_classifier(run, layer: int | None = None):
    """Load the base of a `HeadRun` as its architecture's token classifier, onto the first GPU or the CPU.

    `score` is a fresh `Head`. The model ends at `layer`, counted from 1; None keeps all layers.
    """
    from transformers import AutoConfig, AutoModelForTokenClassification

    trust, folder = check_manifest(run.base).get("trust_remote_code", False), run.base.parent
    attention = run.settings["training"]["attention"]
    config = classifier_config(folder, run.labels, run.settings["head"]["dropout"])
    if layer is not None and layer < config.get("num_hidden_layers", 0):
        config = end_at_layer(config, layer)
    options = {} if attention == "auto" else {"attn_implementation": attention}
    collect_as_usual()
    model = AutoModelForTokenClassification.from_pretrained(
        folder,
        config=AutoConfig.from_pretrained(folder, trust_remote_code=trust).from_dict(config),
        dtype=torch_dtype(run.precision),
        quantization_config=run.quantization,
        device_map={"": 0 if torch.cuda.is_available() else "cpu"},
        use_safetensors=True,
        trust_remote_code=trust,
        **options,
    )
    model.config.use_cache = False
    model.score = new_head(folder, run.labels, run.settings["seed"]).to(model.device)
    return model


def new_head(base: Path, labels: list[str], seed: int) -> Head:
    """Return the untrained head that fits a base's folder."""
    config = read_json(base / "config.json")
    return Head(config["hidden_size"], len(labels), config.get("initializer_range", 0.02), seed)
