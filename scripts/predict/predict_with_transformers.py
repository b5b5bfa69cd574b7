"""Answer prompts with transformers: the base, the base with its adapter, or the merged model.

python scripts/predict/predict_with_transformers.py results/models/embedded/manifest.json \
    --adapter results/runs/football/adapter/manifest.json --test results/datasets/football/test.jsonl \
    --answers adapter.jsonl --likelihood likelihood.jsonl --settings '{"method": "lora", "generation": {...}, ...}'

A vision run's prompts also need the folder of their images: `--images`.
"""

import sys
import time
from pathlib import Path

from scripts.common.base_model import device_name, four_bit, load_base, load_tokenizer
from scripts.common.chat import conversation_ids, end_of_turn_ids, tokenize_conversation
from scripts.common.cli import Progress, step_main
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, write_jsonl
from scripts.common.number_format import device_precision, torch_dtype
from scripts.common.records import images_of
from scripts.common.threads import use_threads
from scripts.common.vision import VisionTokenizer, vision_tokenizer
from scripts.predict.answers import AnswerFile
from scripts.predict.arguments import bar_title, predict_parser, prompt_circumstances, prompts_of
from scripts.predict.prompts import Prompt
from scripts.tasks import task_of

RESULT_VERSION = 1  # raise it with a change of the results: see scripts/workflow/code_digest.py


def load_variant(model: Path, adapter: Path | None, settings: dict):
    """Load a model, with the adapter if there is one, and in 4 bits if configured."""
    import torch

    precision, sees = device_precision(settings["training"]["precision"]), task_of(settings).reads_images
    wish = settings["generation"]["load_in_4bit"]
    unmerged = check_manifest(model).get("method") is None
    reduced = wish == "yes" or (wish == "auto" and settings["method"] == "qlora" and torch.cuda.is_available())
    quantization = four_bit(settings["qlora"], precision, sees) if reduced and unmerged else None
    loaded = load_base(model, torch_dtype(precision), quantization, reads_images=sees, spill=not unmerged)
    if adapter:
        from peft import PeftModel

        check_manifest(adapter)
        loaded = PeftModel.from_pretrained(loaded, adapter.parent, autocast_adapter_dtype=False)
    return loaded.eval()


def batches_by_length(lengths: list[int], size: int) -> list[list[int]]:
    """Return batches of `size` positions of similar length, longest first; deterministic for the lengths."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + size] for i in range(0, len(order), size)]


def generation_config(model, tokenizer, generation: dict):
    """Return the generation configuration from the run's settings, without the model's defaults."""
    from transformers import GenerationConfig

    own = model.generation_config.eos_token_id
    ends = {*end_of_turn_ids(tokenizer), *(own if isinstance(own, list) else [own])} - {None}
    sampling = {}
    if generation["temperature"] > 0:
        sampling = {key: generation[key] for key in ("temperature", "top_p", "top_k", "min_p")}
    return GenerationConfig(
        max_new_tokens=generation["max_new_tokens"],
        do_sample=bool(sampling),
        repetition_penalty=generation["repetition_penalty"],
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
        **sampling,
    )


def answer_prompts(model, tokenizer, prompts: list[Prompt], file: AnswerFile, generation: dict, what: str) -> None:
    """Generate the missing answers, batch by batch.

    Batches are made from all prompts, so that an interruption changes neither batches nor samples. `seconds` of an
    answer is its share of the batch's time.
    """
    import torch

    config = generation_config(model, tokenizer, generation)
    ids = [conversation_ids(tokenizer, prompt.messages) for prompt in prompts]
    needed = max(len(row) for row in ids) + generation["max_new_tokens"]
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or needed
    if needed > positions:
        raise UserError(
            f"the longest prompt and generation.max_new_tokens need {needed} tokens, the model sees {positions}"
        )
    batches = batches_by_length([len(row) for row in ids], generation["batch_size"])
    bar = Progress(what, len(prompts))
    for number, batch in enumerate(batches):
        if not all(file.has(prompts[i]) for i in batch):
            width = max(len(ids[i]) for i in batch)
            padded = [[tokenizer.pad_token_id] * (width - len(ids[i])) + ids[i] for i in batch]
            mask = [[0] * (width - len(ids[i])) + [1] * len(ids[i]) for i in batch]
            pixels = pixels_of(tokenizer, [prompts[i].messages for i in batch], model.device)
            torch.manual_seed(generation["seed"] * 1_000_003 + number)
            started = time.monotonic()
            with torch.inference_mode():
                output = model.generate(
                    input_ids=torch.tensor(padded, device=model.device),
                    attention_mask=torch.tensor(mask, device=model.device),
                    generation_config=config,
                    **pixels,
                )
            seconds = (time.monotonic() - started) / len(batch)
            for i, row in zip(batch, output[:, width:].tolist(), strict=True):
                if not file.has(prompts[i]):
                    file.add(prompts[i], finished_answer(tokenizer, row, config.eos_token_id, len(ids[i]), seconds))
        bar.advance(len(batch))


def pixels_of(tokenizer, conversations: list[list[dict]], device) -> dict:
    """Return the pixel values of a batch's images in order, on the device; empty for text."""
    if not isinstance(tokenizer, VisionTokenizer):
        return {}
    pixels = tokenizer.pixels([name for messages in conversations for name in images_of(messages)])
    return {key: value.to(device) for key, value in pixels.items()}


def finished_answer(tokenizer, row: list[int], ends: list[int], prompt_tokens: int, seconds: float) -> dict:
    """Return an answer's text and counts; the row is truncated at its first end token."""
    stop = next((place for place, token in enumerate(row) if token in ends), None)
    kept = row if stop is None else row[:stop]
    return {
        "answer": tokenizer.decode(kept, skip_special_tokens=True).strip(),
        "prompt_tokens": prompt_tokens,
        "tokens": len(kept),
        "stop": "length" if stop is None else "end",
        "seconds": round(seconds, 4),
    }


def measure_likelihood(model, tokenizer, prompts: list[Prompt], batch_size: int) -> list[dict]:
    """Return the negative log likelihood of each expected answer (nats, end token included)."""
    import torch

    from scripts.train.padding import pad_batch

    wanted = [prompt for prompt in prompts if prompt.expected]
    rows = []
    for prompt in wanted:
        messages = [*prompt.messages, {"role": "assistant", "content": prompt.expected}]
        rows.append(tokenize_conversation(tokenizer, messages, last_turn_only=True))
    results: list[dict | None] = [None] * len(rows)
    for batch in batches_by_length([len(row.ids) for row in rows], batch_size):
        padded = pad_batch([{"input_ids": rows[i].ids, "labels": rows[i].ids} for i in batch], tokenizer.pad_token_id)
        inputs, mask = padded["input_ids"].to(model.device), padded["attention_mask"].to(model.device)
        options = pixels_of(tokenizer, [wanted[i].messages for i in batch], model.device)
        # Logits are computed only at positions before a measured token of any row of the batch.
        kept = sorted({j - 1 for i in batch for j, use in enumerate(rows[i].trained) if use})
        column = {position: number for number, position in enumerate(kept)}
        options["logits_to_keep"] = torch.tensor(kept, device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=inputs, attention_mask=mask, use_cache=False, **options).logits
        for place, i in enumerate(batch):
            targets = [j for j, use in enumerate(rows[i].trained) if use]
            chosen = logits[place, [column[j - 1] for j in targets]].float().log_softmax(-1)
            nll = -chosen.gather(1, inputs[place, targets].unsqueeze(1)).sum()
            results[i] = {
                "id": wanted[i].id,
                "nll": round(nll.item(), 6),
                "tokens": len(targets),
                "characters": len(wanted[i].expected),
            }
    return results


def step(arguments) -> None:
    """Run the step."""
    use_threads(arguments.threads)
    if arguments.model.name != "manifest.json":
        raise UserError("is not the manifest.json of a model folder", arguments.model)
    prompts = prompts_of(arguments)
    parts = [arguments.model, *([arguments.adapter] if arguments.adapter else [])]
    models = {str(place): check_manifest(part) for place, part in enumerate(parts)}
    circumstances = prompt_circumstances(arguments, prompts, models, RESULT_VERSION)
    circumstances["precision"] = device_precision(arguments.settings["training"]["precision"])
    if not task_of(arguments.settings).reads_images:
        tokenizer = load_tokenizer(arguments.model)
    elif arguments.images is None:
        raise UserError("a vision run needs the folder of its images", remedy="name it with --images")
    else:
        tokenizer = vision_tokenizer(arguments.model, arguments.images, arguments.settings)
    model = load_variant(arguments.model, arguments.adapter, arguments.settings)
    file = AnswerFile(arguments.answers, circumstances, device_name())
    generation = arguments.settings["generation"]
    answer_prompts(model, tokenizer, prompts, file, generation, bar_title(arguments))
    tests = [prompt for prompt in prompts if prompt.prompt_set == "test"]
    write_jsonl(arguments.likelihood, measure_likelihood(model, tokenizer, tests, generation["batch_size"]))
    file.finish(prompts)


def parser():
    """Return the step's command line."""
    result = predict_parser(__doc__.splitlines()[0])
    result.add_argument("model", type=Path, help="manifest.json of the base or merged model")
    result.add_argument("--adapter", type=Path, help="manifest.json of the adapter")
    result.add_argument("--images", type=Path, help="folder of the prompts' images")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
