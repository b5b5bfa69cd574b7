"""Check that the served model sees the tokens that training saw, and that its answers have the same distribution.

    python scripts/gguf/check_parity.py results/runs/football/merged results/runs/football/gguf/bf16.gguf \\
        --test results/datasets/football/test.jsonl --output results/runs/football/parity.json \\
        --settings '{"parity": {"max_kl": 0.02, "prompts": 16}, "generation": {"system": null}}'

Fails, with both sides in the log, at the first difference.
"""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.common.chat import render, text_ids
from scripts.common.chat_shape import shape_of_template
from scripts.common.cli import Progress, run_step, step_parser
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, write_json
from scripts.common.llama import TEMPLATE_KEY, adds_bos, open_gguf, token_text
from scripts.common.threads import use_threads
from scripts.gguf.conversations import built_in_conversations
from scripts.gguf.parity import (
    Comparison,
    ParityError,
    check_special_tokens,
    compare_conversation,
    divergences,
    text_or_refusal,
)
from scripts.predict.arguments import named_file
from scripts.predict.prompts import all_prompts
from scripts.predict.strategies import Strategies

POSITIONS_AT_ONCE = 128
LARGEST_IN_FULL_PRECISION = 4_000_000_000  # bytes of weights; larger models are compared in bf16
log = logging.getLogger(__name__)


def prompt_conversations(
    test: Path, sets: dict[str, Path], system: str | None, strategies: Strategies
) -> Iterator[tuple[str, list[dict]]]:
    """Yield the conversations of all prompt sets by name: the prompt alone and, if it has an answer, the whole.

    Where prediction has a system message of its own (`generation.system`) or strategies, its prompts are yielded as
    well.
    """
    for prompt in all_prompts(test, sets, None):
        label = f"{prompt.prompt_set} {prompt.id}"
        yield f"{label}, prompt", prompt.messages
        if prompt.expected is not None:
            yield f"{label}, answered", [*prompt.messages, {"role": "assistant", "content": prompt.expected}]
    for prompt in all_prompts(test, sets, system, strategies) if system is not None or strategies.named else ():
        yield f"{prompt.prompt_set} {prompt.id}, prompt of prediction", prompt.messages


def compare_tokens(tokenizer, path: Path, conversations: dict[str, list[dict]]) -> dict:
    """Compare the token ids of all conversations; return what was found. Raises ParityError at the first difference."""
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


def load_merged(folder: Path, trust_remote_code: bool):
    """Load the merged model for the reference logits: on the GPU if there is one, in the precision that fits."""
    import torch
    from transformers import AutoModelForCausalLM

    small = sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= LARGEST_IN_FULL_PRECISION
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32 if small else torch.bfloat16,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
    )
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def compare_distributions(
    folder: Path, path: Path, rows: list[list[int]], threads: int, limit: float, trust_remote_code: bool
) -> dict:
    """Compare next-token distributions at every position of token id rows; return the KL divergence in nats.

    Raises ParityError when the mean is above the limit.
    """
    import numpy
    import torch

    values, agreeing = [], 0
    with open_gguf(path, context=max(map(len, rows)), threads=threads, logits_all=True) as served:
        reference = load_merged(folder, trust_remote_code)
        bar = Progress("compare distributions", len(rows))
        for ids in rows:
            served.reset()
            served.eval(ids)
            with torch.inference_mode():
                logits = reference(torch.tensor([ids], device=reference.device)).logits[0].float().cpu().numpy()
            width = min(logits.shape[-1], served.n_vocab())
            for start in range(0, len(ids), POSITIONS_AT_ONCE):
                part = slice(start, min(start + POSITIONS_AT_ONCE, len(ids)))
                ours, theirs = logits[part, :width], served.scores[part, :width]
                values.append(divergences(ours, theirs))
                agreeing += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
            bar.advance()
    found = numpy.concatenate(values)
    mean = float(found.mean())
    log.info("KL divergence: mean %.6f, largest %.6f nats over %d positions", mean, found.max(), len(found))
    if not mean <= limit:
        row, place = position_of(int(found.argmax()), rows)
        raise ParityError(
            f"served is not trained: the GGUF's next-token distribution is {mean:.4g} nats (mean KL) from the merged "
            f"model's, the limit is {limit:g}; largest at token {place} of prompt {row + 1}",
            remedy="convert the merged model again; raise 'parity.max_kl' only if you know why",
        )
    return {
        "mean": rounded(mean),
        "max": rounded(float(found.max())),
        "limit": limit,
        "positions": len(found),
        "prompts": len(rows),
        "top_token_agreement": rounded(agreeing / len(found)),
    }


def position_of(place: int, rows: list[list[int]]) -> tuple[int, int]:
    """Return row and position in it of a position in all rows put together."""
    for number, row in enumerate(rows):
        if place < len(row):
            return number, place
        place -= len(row)
    raise IndexError(place)


def rounded(value: float) -> float:
    """Return a number with four significant digits: further ones depend on the machine."""
    return float(f"{value:.4g}")


def check_parity(
    merged: Path,
    path: Path,
    test: Path,
    sets: dict[str, Path],
    settings: dict,
    threads: int,
    train: Path | None = None,
) -> dict:
    """Check tokens and distributions; return the report. Raises ParityError when served is not trained.

    `settings` has `parity` of the run's configuration, of `generation` `system`, and may have `strategies`, whose
    examples come from `train`.
    """
    from transformers import AutoTokenizer

    trusted = check_manifest(merged / "manifest.json").get("trust_remote_code", False)
    tokenizer = AutoTokenizer.from_pretrained(merged, trust_remote_code=trusted)
    from_files = dict(prompt_conversations(test, sets, settings["generation"]["system"], Strategies(settings, train)))
    report = compare_tokens(tokenizer, path, {**built_in_conversations(), **from_files})
    whole = [messages for name, messages in from_files.items() if name.endswith("answered")] or [*from_files.values()]
    rows = [
        text_ids(tokenizer, render(tokenizer, messages, messages[-1]["role"] != "assistant"))
        for messages in whole[: settings["parity"]["prompts"]]
    ]
    if not rows:
        raise UserError("has no prompts to compare distributions on", test)
    limit = settings["parity"]["max_kl"]
    return {**report, "divergence": compare_distributions(merged, path, rows, threads, limit, trusted)}


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
    )
    write_json(arguments.output, report)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("merged", type=Path, help="merged Hugging Face model folder")
    result.add_argument("gguf", type=Path, help="bf16 GGUF file made of it")
    result.add_argument("--test", type=Path, required=True, help="records of the test split")
    result.add_argument("--prompt-set", type=named_file, action="append", default=[], metavar="NAME=FILE")
    result.add_argument("--train", type=Path, help="records of the training split, for strategies that show examples")
    result.add_argument("--threads", type=int, default=1, help="threads to compute with")
    result.add_argument("--output", type=Path, required=True, help="report to write")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
