"""Answer prompts with transformers: the base, the base with its adapter, or the merged model.

python scripts/predict/predict_with_transformers.py results/models/embedded/manifest.json \
    --adapter results/runs/football/adapter/manifest.json --test results/datasets/football/test.jsonl \
    --answers adapter.jsonl --likelihood likelihood.jsonl --settings '{"method": "lora", "generation": {...}, ...}'

A vision run's prompts also need the folder of their images: `--images`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.common.base_model import four_bit, load_base, load_tokenizer
from scripts.common.chat import conversation_ids, end_of_turn_ids, tokenize_conversation
from scripts.common.cli import step_main
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, write_jsonl
from scripts.common.number_format import device_precision, torch_dtype
from scripts.common.records import images_of
from scripts.common.threads import use_threads
from scripts.common.vision import VisionTokenizer, vision_tokenizer
from scripts.predict.answers import AnswerFile, answer_row, likelihood_row
from scripts.predict.arguments import file_of_manifests, predict_parser, prompts_of
from scripts.predict.batches import answer_batches, batches_by_length
from scripts.predict.prompts import Prompt
from scripts.predict.refilled_batch import refilled_answers
from scripts.tasks import task_of

RESULT_VERSION = 3  # raise it with a change of the results: see scripts/workflow/code_digest.py
GROUP = 8  # batches of prompts that are answered without a gap, and anew after an interruption


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
        # For the last positions of a batch, which are not contiguous, torch computes a product for each row, and oneDNN
        # copies the frozen weights for each in bf16: 3 GB for SmolLM2-135M and 54 prompts.
        output = loaded.get_output_embeddings()
        if output is not None and not torch.cuda.is_available():
            output.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return loaded.eval()


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


def answer_prompts(model, tokenizer, prompts: list[Prompt], file: AnswerFile, generation: dict) -> None:
    """Generate the missing answers, batch by batch. Raises UserError for a prompt that is too long for the model."""
    import torch

    config = generation_config(model, tokenizer, generation)
    ids = [conversation_ids(tokenizer, prompt.messages) for prompt in prompts]
    needed = max(len(row) for row in ids) + generation["max_new_tokens"]
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or needed
    if needed > positions:
        raise UserError(
            f"the longest prompt and generation.max_new_tokens need {needed} tokens, the model sees {positions}"
        )

    def inputs_of(batch: list[int]) -> dict:
        inputs = padded(tokenizer, [ids[i] for i in batch], "left", model.device)
        return {**inputs, **pixels_of(tokenizer, [prompts[i].messages for i in batch], model.device)}

    def answer(number: int, batch: list[int]) -> Iterator[tuple[int, dict]]:
        torch.manual_seed(generation["seed"] * 1_000_003 + number)
        for i, row in refilled_answers(model, config, size, batch, inputs_of):
            yield i, finished_answer(tokenizer, row, config.eos_token_id, len(ids[i]))

    size = generation["batch_size"]
    # A prompt that is asked alone has a group of its own, and so the time of its answer.
    groups = batches_by_length([len(row) for row in ids], GROUP * size if size > 1 else 1)
    answer_batches(file, prompts, groups, answer)


def padded(tokenizer, rows: list[list[int]], side: str, device) -> dict:
    """Return input_ids and attention_mask, [rows, longest], of rows of token ids padded on a side."""
    inputs = tokenizer.pad({"input_ids": rows}, padding_side=side, return_attention_mask=True, return_tensors="pt")
    return inputs.to(device)


def pixels_of(tokenizer, conversations: list[list[dict]], device) -> dict:
    """Return the pixel values of a batch's images in order, on the device; empty for text."""
    if not isinstance(tokenizer, VisionTokenizer):
        return {}
    pixels = tokenizer.pixels([name for messages in conversations for name in images_of(messages)])
    return {key: value.to(device) for key, value in pixels.items()}


def finished_answer(tokenizer, row: list[int], ends: list[int], prompt_tokens: int) -> dict:
    """Return an answer's text and counts; the row is truncated at its first end token."""
    stop = next((place for place, token in enumerate(row) if token in ends), None)
    kept = row if stop is None else row[:stop]
    text = tokenizer.decode(kept, skip_special_tokens=True).strip()
    return answer_row(text, prompt_tokens, len(kept), ended=stop is not None)


def measure_likelihood(model, tokenizer, prompts: list[Prompt], batch_size: int) -> list[dict]:
    """Return the negative log likelihood of each expected answer (nats, end token included)."""
    import torch

    wanted = [prompt for prompt in prompts if prompt.expected]
    rows = [tokenize_conversation(tokenizer, prompt.answered, last_turn_only=True) for prompt in wanted]
    targets = [[j for j, use in enumerate(row.trained) if use] for row in rows]
    results: list[dict | None] = [None] * len(rows)
    for batch in batches_by_length([len(row.ids) for row in rows], batch_size):
        inputs = padded(tokenizer, [rows[i].ids for i in batch], "right", model.device)
        options = pixels_of(tokenizer, [wanted[i].messages for i in batch], model.device)
        # Logits are computed only at positions before a measured token of any row of the batch.
        kept = sorted({j - 1 for i in batch for j in targets[i]})
        column = {position: number for number, position in enumerate(kept)}
        options["logits_to_keep"] = torch.tensor(kept, device=model.device)
        with torch.inference_mode():
            logits = model(**inputs, use_cache=False, **options).logits
        for place, i in enumerate(batch):
            chosen = logits[place, [column[j - 1] for j in targets[i]]].float().log_softmax(-1)
            nll = -chosen.gather(1, inputs["input_ids"][place, targets[i]].unsqueeze(1)).sum()
            results[i] = likelihood_row(wanted[i], nll.item(), len(targets[i]))
    return results


def step(arguments) -> None:
    """Run the step."""
    use_threads(arguments.threads)
    prompts = prompts_of(arguments)
    manifests = [arguments.model, *([arguments.adapter] if arguments.adapter else [])]
    file = file_of_manifests(arguments, prompts, manifests, RESULT_VERSION)
    if not task_of(arguments.settings).reads_images:
        tokenizer = load_tokenizer(arguments.model)
    elif arguments.images is None:
        raise UserError("a vision run needs the folder of its images", remedy="name it with --images")
    else:
        tokenizer = vision_tokenizer(arguments.model, arguments.images, arguments.settings)
    model = load_variant(arguments.model, arguments.adapter, arguments.settings)
    generation = arguments.settings["generation"]
    answer_prompts(model, tokenizer, prompts, file, generation)
    tests = [prompt for prompt in prompts if prompt.prompt_set == "test"]
    write_jsonl(arguments.likelihood, measure_likelihood(model, tokenizer, tests, generation["batch_size"]))
    file.finish(prompts)


def parser():
    """Return the step's command line."""
    result = predict_parser(__doc__.splitlines()[0], "manifest.json of the base or merged model")
    result.add_argument("--adapter", type=Path, help="manifest.json of the adapter")
    result.add_argument("--images", type=Path, help="folder of the prompts' images")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
