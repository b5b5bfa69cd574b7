"""Make a small model of a real architecture, deterministically, for seeing and testing the workflow.

python scripts/model/build_embedded_model.py corpus.jsonl --settings '{"architecture": "mistral", "embedded": {...}}' \
    --chat-template scripts/model/templates/mistral.jinja --name embedded --folder results/models/embedded
"""

import random
import re
import sys
from pathlib import Path

from scripts.common.chat import render, special_texts
from scripts.common.cli import Progress, log, run_step, step_parser
from scripts.common.config.models import EmbeddedModel
from scripts.common.files import atomic_folder, read_jsonl, write_manifest
from scripts.common.threads import use_threads
from scripts.model.embedded_phi3 import new_phi3_model
from scripts.model.embedded_vision import make_images_felt, new_vision_model, save_processor
from scripts.model.subword_dropout import dropped_ids, scores_of_pieces
from scripts.model.template_date import pinned_template
from scripts.model.train_tokenizer import SPECIAL_TOKENS, save_tokenizer, train_tokenizer

ROW = 256  # tokens in a training row


def texts_of(document: dict) -> list[str]:
    """Return the plain texts of a corpus document."""
    return [document["text"]] if document["kind"] == "text" else [m["content"] for m in document["messages"]]


def corpus_rows(tokenizer, processor, documents: list[dict], settings: EmbeddedModel):
    """Return the corpus as a [rows, ROW] tensor of token ids: documents shuffled, ended, and laid end to end."""
    import torch

    documents = list(documents)
    generator = random.Random(settings.seed)
    generator.shuffle(documents)
    specials = {token: tokenizer.convert_tokens_to_ids(token) for token in special_texts(tokenizer)}
    scores = scores_of_pieces(processor)
    ids: list[int] = []
    for document in documents:
        chat = document["kind"] == "chat"
        text = render(tokenizer, document["messages"]) if chat else document["text"]
        whole = text if chat else f"{tokenizer.bos_token}{text}{tokenizer.eos_token}"
        ids += sampled_ids(processor, scores, whole, specials, settings.subword_dropout, generator)
    rows = len(ids) // ROW
    return torch.tensor(ids[: rows * ROW]).view(rows, ROW)


def sampled_ids(
    processor, scores: dict[str, float], text: str, specials: dict[str, int], dropout: float, generator: random.Random
) -> list[int]:
    """Return token ids of a text whose words fall into pieces in ever other ways; special tokens stay whole.

    A small vocabulary of a small corpus meets many unknown words later; a model that has seen words in pieces is much
    less lost then. `dropout` is the probability with which a merge is left out.
    """
    ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, specials))})", text):
        if part in specials:
            ids.append(specials[part])
        elif part and dropout:
            ids += dropped_ids(processor, scores, part, dropout, generator)
        elif part:
            ids += processor.encode(part)
    return ids


def new_model(architecture: str, tokenizer, settings: EmbeddedModel):
    """Return an untrained model of the architecture: grouped-query attention, SwiGLU, RMS norm, rotary positions."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.hidden_size,
        "intermediate_size": settings.hidden_size * 2,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.hidden_size // 64,
        "num_key_value_heads": settings.hidden_size // 128,
        "head_dim": 64,
        "max_position_embeddings": settings.context,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(settings.seed)
    if architecture == "mistral3":
        return new_vision_model(shape, tokenizer, settings)
    if architecture == "phi3":
        return new_phi3_model(shape)
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape))
    return MistralForCausalLM(MistralConfig(**shape, sliding_window=None))


def train_model(model, rows, settings: EmbeddedModel) -> list[float]:
    """Train on the rows with AdamW under a warm-up and cosine schedule; return the loss of each step (nats/token)."""
    import math

    import torch

    batch = max(settings.batch_tokens // ROW, 1)
    warmup = max(settings.steps // 20, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)

    def schedule(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(settings.steps - warmup, 1)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    order = torch.Generator().manual_seed(settings.seed)
    bar = Progress("build embedded model", settings.steps)
    losses = []
    model.train()
    for _ in range(settings.steps):
        chosen = rows[torch.randint(len(rows), (batch,), generator=order)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=chosen, labels=chosen, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        bar.advance(note=f"loss {losses[-1]:.2f}")
    return losses


def build_embedded_model(
    corpus: Path,
    folder: Path,
    name: str,
    architecture: str,
    settings: EmbeddedModel,
    chat_template: Path,
    license_id: str | None = None,
    template_date: str | None = None,
) -> None:
    """Train tokenizer and model on a corpus and write a plain Hugging Face model folder, the manifest last."""
    import sentencepiece
    import torch
    from transformers import AutoTokenizer

    documents = list(read_jsonl(corpus))
    special = SPECIAL_TOKENS[architecture]
    template, template_date = pinned_template(chat_template.read_text(encoding="utf-8"), template_date)
    pieces = train_tokenizer((text for d in documents for text in texts_of(d)), settings.vocabulary, special)
    processor = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    with atomic_folder(folder) as beside:
        save_tokenizer(beside, pieces, special, template, settings.context)
        tokenizer = AutoTokenizer.from_pretrained(beside)
        rows = corpus_rows(tokenizer, processor, documents, settings)
        log.info("corpus: %d documents, %d tokens, %d pieces", len(documents), rows.numel(), len(tokenizer))
        model = new_model(architecture, tokenizer, settings)
        losses = train_model(model, rows, settings)
        if architecture == "mistral3":
            make_images_felt(model, settings.seed)
            save_processor(beside, settings.image_size)
        model.to(torch.bfloat16).save_pretrained(beside)
        write_manifest(
            beside,
            name=name,
            source="embedded",
            id=None,
            revision=None,
            architecture=architecture,
            license=license_id,
            template_date=template_date,
            parameters=sum(p.numel() for p in model.parameters()),
            final_loss=round(sum(losses[-20:]) / len(losses[-20:]), 4),
        )


def step(arguments) -> None:
    """Run the step."""
    settings = arguments.settings
    use_threads(arguments.threads)
    build_embedded_model(
        arguments.corpus,
        arguments.folder,
        arguments.name,
        settings["architecture"],
        EmbeddedModel.model_validate(settings["embedded"]),
        arguments.chat_template,
        settings["license"],
        settings.get("template_date"),
    )


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("corpus", type=Path, help="JSONL made by generate_corpus.py")
    result.add_argument("--chat-template", type=Path, required=True, help="Jinja file of the chat template")
    result.add_argument("--folder", type=Path, required=True, help="model folder to write")
    result.add_argument("--name", required=True, help="the model's key in the configuration")
    result.add_argument("--threads", type=int, default=2, help="CPU threads; another number may give other rounding")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
