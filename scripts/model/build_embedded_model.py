"""Build a small stand-in for a base model: a real architecture with its own tokenizer and random weights.

python scripts/model/build_embedded_model.py scripts/model/sentences.txt --name small --folder results/models/small \
    --chat-template scripts/model/templates/mistral.jinja --settings '{"architecture": "mistral", "embedded": {}}'

It is for tests of the workflow without the real model. It is not trained.
"""

import sys
from pathlib import Path

from scripts.common.checksums import intact
from scripts.common.cli import step_main, step_parser
from scripts.common.files import atomic_folder, write_manifest
from scripts.common.threads import use_threads
from scripts.config.models import EmbeddedModel
from scripts.model.embedded_vision import new_vision_model, save_processor
from scripts.model.template_date import pinned_template
from scripts.model.train_tokenizer import SPECIAL_TOKENS, save_tokenizer, train_tokenizer


def new_model(architecture: str, tokenizer, settings: EmbeddedModel):
    """Return a model of the architecture: grouped-query attention, SwiGLU, RMS norm, rotary positions."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.hidden_size,
        "intermediate_size": settings.hidden_size * 2,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.hidden_size // 64,
        "num_key_value_heads": settings.hidden_size // 128,
        "max_position_embeddings": settings.context,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    # llama.cpp does not support a separate head size of Phi-3, and its converter requires the original context length.
    own = {
        "llama": {"head_dim": 64},
        "mistral": {"head_dim": 64, "sliding_window": None},
        "mistral3": {"head_dim": 64},
        "phi3": {"original_max_position_embeddings": settings.context, "sliding_window": None},
    }
    if architecture == "mistral3":
        model = new_vision_model({**shape, **own[architecture]}, tokenizer, settings)
    else:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **shape, **own[architecture]))
    set_random_weights(model, settings.seed)
    return model.float()


def set_random_weights(model, seed: int) -> None:
    """Draw random weight matrices so that activations and logits have a deviation of about one; norms stay at one.

    A matrix [out, in] is uniform with variance 1 / in. So are the embeddings [vocabulary, hidden]: their small share of
    the residual stream makes answers depend on attention, and thus on images. Each value is a random 24-bit fraction,
    shifted and scaled once, so that every CPU draws the same bytes.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_((torch.rand(weight.shape, generator=generator) - 0.5) * (12 / weight[0].numel()) ** 0.5)


def build_embedded_model(text: Path, folder: Path, name: str, settings: dict, chat_template: Path) -> None:
    """Write a plain Hugging Face model folder, the manifest last; its tokenizer is trained on the lines of `text`.

    `settings` is the model's section of the configuration.
    """
    from transformers import AutoTokenizer

    architecture, embedded = settings["architecture"], EmbeddedModel.model_validate(settings["embedded"])
    special, day = SPECIAL_TOKENS[architecture], settings.get("template_date")
    template, template_date = pinned_template(intact(chat_template).read_text(encoding="utf-8"), day)
    pieces = train_tokenizer(intact(text).read_text(encoding="utf-8").splitlines(), embedded.vocabulary, special)
    with atomic_folder(folder) as beside:
        save_tokenizer(beside, pieces, special, template, embedded.context)
        model = new_model(architecture, AutoTokenizer.from_pretrained(beside), embedded)
        if architecture == "mistral3":
            save_processor(beside, embedded.image_size)
        model.save_pretrained(beside)
        write_manifest(
            beside,
            name=name,
            source="embedded",
            id=None,
            revision=None,
            architecture=architecture,
            license=settings.get("license"),
            template_date=template_date,
            parameters=sum(p.numel() for p in model.parameters()),
        )


def step(arguments) -> None:
    """Run the step."""
    a = arguments
    use_threads(1)
    build_embedded_model(a.text, a.folder, a.name, a.settings, a.chat_template)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("text", type=Path, help="UTF-8 text on which the tokenizer is trained, a sentence a line")
    result.add_argument("--chat-template", type=Path, required=True, help="Jinja file of the chat template")
    result.add_argument("--folder", type=Path, required=True, help="model folder to write")
    result.add_argument("--name", required=True, help="the model's key in the configuration")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
