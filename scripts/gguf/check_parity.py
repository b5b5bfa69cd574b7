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

from scripts.common.base_model import load_tokenizer
from scripts.common.chat import conversation_ids, render
from scripts.common.chat_shape import ChatShape, shape_of_template
from scripts.common.cli import progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, write_json
from scripts.common.records import images_of
from scripts.common.threads import use_threads
from scripts.gguf.conversations import built_in_conversations
from scripts.gguf.divergence import TextRow, compare_rows, first_answered, load_merged, served_logits
from scripts.gguf.llama import TEMPLATE_KEY, adds_bos, open_gguf, token_text
from scripts.gguf.parity import Comparison, check_special_tokens, compare_conversation, text_or_refusal
from scripts.gguf.vision_divergence import compare_vision
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
            yield f"{label}, answered", prompt.answered
    for prompt in all_prompts(test, sets, system, strategies) if system is not None or strategies.named else ():
        yield f"{prompt.prompt_set} {prompt.id}, prompt of prediction", prompt.messages


def compare_tokens(tokenizer, path: Path, conversations: dict[str, list[dict]]) -> dict:
    """Compare the token ids of all conversations; return the counts. Raises ParityError at the first difference."""
    with open_gguf(path, context=8, vocab_only=True) as model:
        if TEMPLATE_KEY not in model.metadata:
            raise UserError("has no chat template", path)
        texts = [text_or_refusal(render, tokenizer, messages) for messages in conversations.values()]
        special = check_special_tokens(tokenizer, model, [text for text in texts if text is not None])
        bos, eos = token_text(model, model.token_bos()), token_text(model, model.token_eos())
        shape = shape_of_template(model.metadata[TEMPLATE_KEY], bos, eos)
        result = Comparison()
        for name, messages in progress(conversations.items(), "compare token ids", len(conversations)):
            compare_conversation(tokenizer, model, shape, name, messages, result)
        return {
            "conversations": {"equal": result.equal, "refused_by_both": result.refused},
            "modelfile": {"equal": result.modelfile_equal, "not_expressible": result.not_expressible},
            "special_tokens": special,
            "bos": bos,
            "eos": eos,
            "adds_bos": adds_bos(model),
            "shape": shape.to_json(),
        }


def step(arguments) -> None:
    """Check tokens and distributions, and write the report. Raises ParityError if serving differs from training.

    The settings have `parity` and `generation.system` of the run's configuration, and may have `strategies`, whose
    examples come from `--train`. A vision run has `--mmproj`, and `vision.longest_edge` in its settings.
    """
    use_threads(arguments.threads)
    path, settings, manifest = arguments.gguf, arguments.settings, arguments.merged / "manifest.json"
    check_manifest(manifest)
    tokenizer = load_tokenizer(manifest)
    sets, strategies = dict(arguments.prompt_set), Strategies(settings, arguments.train)
    from_files = dict(prompt_conversations(arguments.test, sets, settings["generation"]["system"], strategies))
    if not from_files:
        raise UserError("has no prompts for the comparison of distributions", arguments.test)
    seen = {name: messages for name, messages in from_files.items() if images_of(messages)}
    texts = {name: messages for name, messages in from_files.items() if name not in seen}
    report = compare_tokens(tokenizer, path, {**built_in_conversations(), **texts})
    chosen = first_answered(texts or built_in_conversations(), settings["parity"]["prompts"])
    rows = [TextRow(conversation_ids(tokenizer, messages)) for messages in chosen]
    if arguments.mmproj:
        report |= compare_vision(arguments, ChatShape.from_json(report["shape"]), rows, seen)
    else:
        context = max(len(row.ids) for row in rows)
        with open_gguf(path, context, arguments.threads, logits_all=True) as model:
            served = served_logits(model, rows, "text")
        limit = settings["parity"]["max_kl"]
        report["divergence"] = compare_rows(rows, "text", served, load_merged(manifest), limit)
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
