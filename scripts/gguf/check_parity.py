"""Check that the served model gets the token ids of training, and that its next-token distributions are the same.

    python scripts/gguf/check_parity.py results/runs/football/merged results/runs/football/gguf/bf16.gguf \\
        --test results/datasets/football/test.jsonl --output results/runs/football/parity.json \\
        --settings '{"parity": {"max_kl": 0.02, "prompts": 16}, "generation": {"system": null}}'

For a vision model, images are compared too (`--mmproj`, `--images`). The check fails at the first difference, with both
sides in the log.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.common.chat import render, text_ids
from scripts.common.chat_shape import ChatShape, shape_of_template
from scripts.common.cli import Progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, write_json
from scripts.common.threads import use_threads
from scripts.gguf.conversations import built_in_conversations
from scripts.gguf.divergence import ServedRows, TextRow, compare_rows, first_answered, load_merged
from scripts.gguf.llama import TEMPLATE_KEY, adds_bos, open_gguf, token_text
from scripts.gguf.parity import Comparison, check_special_tokens, compare_conversation, text_or_refusal
from scripts.gguf.vision_divergence import VisionFiles, compare_vision, vision_conversations
from scripts.predict.arguments import named_file
from scripts.predict.prompts import all_prompts
from scripts.predict.strategies import Strategies


def prompt_conversations(
    test: Path, sets: dict[str, Path], system: str | None, strategies: Strategies
) -> Iterator[tuple[str, list[dict]]]:
    """Yield the conversations of all prompt sets by name: the prompt and, if it has an answer, the whole conversation.

    Prompts with the system message of prediction (`generation.system`) or with strategies are yielded too.
    """
    for prompt in all_prompts(test, sets, None):
        label = f"{prompt.prompt_set} {prompt.id}"
        yield f"{label}, prompt", prompt.messages
        if prompt.expected is not None:
            yield f"{label}, answered", [*prompt.messages, {"role": "assistant", "content": prompt.expected}]
    for prompt in all_prompts(test, sets, system, strategies) if system is not None or strategies.named else ():
        yield f"{prompt.prompt_set} {prompt.id}, prompt of prediction", prompt.messages


def compare_tokens(tokenizer, path: Path, conversations: dict[str, list[dict]]) -> dict:
    """Compare the token ids of all conversations; return the counts. Raises ParityError at the first difference."""
    with open_gguf(path, context=8, vocab_only=True) as model:
        if TEMPLATE_KEY not in model.metadata:
            raise UserError("has no chat template", path)
        texts = [
            text
            for messages in conversations.values()
            if (text := text_or_refusal(render, tokenizer, messages, messages[-1]["role"] != "assistant")) is not None
        ]
        special = check_special_tokens(tokenizer, model, texts)
        bos, eos = token_text(model, model.token_bos()), token_text(model, model.token_eos())
        shape = shape_of_template(model.metadata[TEMPLATE_KEY], bos, eos)
        result, bar = Comparison(), Progress("compare token ids", len(conversations))
        for name, messages in conversations.items():
            compare_conversation(tokenizer, model, shape, name, messages, result)
            bar.advance()
        return {
            "conversations": {"equal": result.equal, "refused_by_both": result.refused},
            "modelfile": {"equal": result.modelfile_equal, "not_expressible": result.not_expressible},
            "special_tokens": special,
            "bos": bos,
            "eos": eos,
            "adds_bos": adds_bos(model),
            "shape": shape.to_json(),
        }


def compare_distributions(
    folder: Path, path: Path, rows: list[TextRow], threads: int, limit: float, trust_remote_code: bool
) -> dict:
    """Compare next-token distributions at every position of the rows; return the KL divergence in nats.

    Raises ParityError if the mean exceeds the limit.
    """
    with open_gguf(path, context=max(len(row.ids) for row in rows), threads=threads, logits_all=True) as model:
        served = ServedRows(model, rows, "text")
    return compare_rows(served, load_merged(folder, trust_remote_code), limit)


def check_parity(
    merged: Path,
    path: Path,
    test: Path,
    sets: dict[str, Path],
    settings: dict,
    threads: int,
    train: Path | None = None,
    vision_files: VisionFiles | None = None,
) -> dict:
    """Check tokens and distributions; return the report. Raises ParityError if serving differs from training.

    `settings` has `parity` and `generation.system` of the run's configuration, and may have `strategies`, whose
    examples come from `train`. A vision run has `vision_files`, and `vision.longest_edge` in its settings.
    """
    from transformers import AutoTokenizer

    trusted = check_manifest(merged / "manifest.json").get("trust_remote_code", False)
    tokenizer = AutoTokenizer.from_pretrained(merged, trust_remote_code=trusted)
    from_files = dict(prompt_conversations(test, sets, settings["generation"]["system"], Strategies(settings, train)))
    if not from_files:
        raise UserError("has no prompts for the comparison of distributions", test)
    texts, seen = vision_conversations(from_files)
    report = compare_tokens(tokenizer, path, {**built_in_conversations(), **texts})
    limit, count = settings["parity"]["max_kl"], settings["parity"]["prompts"]
    rows = first_rows(tokenizer, texts or built_in_conversations(), count)
    if vision_files is None:
        return {**report, "divergence": compare_distributions(merged, path, rows, threads, limit, trusted)}
    shape = ChatShape.from_json(report["shape"])
    return {**report, **compare_vision(merged, path, vision_files, settings, threads, shape, rows, seen)}


def first_rows(tokenizer, conversations: dict[str, list[dict]], count: int) -> list[TextRow]:
    """Return the token ids of the first conversations, those with an answer if there are any."""
    return [
        TextRow(text_ids(tokenizer, render(tokenizer, messages, messages[-1]["role"] != "assistant")))
        for messages in first_answered(conversations, count)
    ]


def step(arguments) -> None:
    """Run the step."""
    use_threads(arguments.threads)
    report = check_parity(
        arguments.merged,
        arguments.gguf,
        arguments.test,
        dict(arguments.prompt_set),
        arguments.settings,
        arguments.threads,
        arguments.train,
        VisionFiles(arguments.mmproj, arguments.images) if arguments.mmproj else None,
    )
    write_json(arguments.output, report)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("merged", type=Path, help="merged Hugging Face model folder")
    result.add_argument("gguf", type=Path, help="bf16 GGUF file converted from it")
    result.add_argument("--test", type=Path, required=True, help="records of the test split")
    result.add_argument("--prompt-set", type=named_file, action="append", default=[], metavar="NAME=FILE")
    result.add_argument("--train", type=Path, help="records of the training split, for strategies that show examples")
    result.add_argument("--mmproj", type=Path, help="GGUF file of a vision model's tower")
    result.add_argument("--images", type=Path, help="folder of the prompts' images")
    result.add_argument("--threads", type=int, default=1, help="threads to compute with")
    result.add_argument("--output", type=Path, required=True, help="report to write")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
