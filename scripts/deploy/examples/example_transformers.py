"""Ask the merged model one question with transformers: `pip install torch transformers`, then

python example_transformers.py "your question" --model path/to/merged

The merged model is the folder `merged` beside the bundle where the bundle was made; it is not part of the bundle.
"""

import argparse
import os
import re
from pathlib import Path

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import AutoModelForCausalLM, AutoTokenizer

SYSTEM = None
WORDING = None
EXAMPLES = []
SAMPLING = {}
QUESTION = "Hello"
LABEL = None


def number_format(device: str) -> torch.dtype:
    """Return bf16 if the device supports it natively, else fp16 on a GPU and fp32 on a CPU."""
    if device != "cpu":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    cpu = Path("/proc/cpuinfo")
    flags = set(cpu.read_text(errors="replace").split()) if cpu.is_file() else set()
    limited = re.fullmatch("SSE41|AVX|AVX2.*|AVX512_CORE(_VNNI)?", os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper())
    native = "amx_bf16" in flags or {"avx512_bf16", "AuthenticAMD"} <= flags
    return torch.bfloat16 if native and not limited else torch.float32


def messages_of(question: str, system: str | None, label: str | None) -> list[dict]:
    """Return the conversation for the model to continue."""
    if WORDING:
        question = ImmutableSandboxedEnvironment().from_string(WORDING).render(prompt=question, label=label).strip()
    start = [{"role": "system", "content": system}] if system else []
    return [*start, *EXAMPLES, {"role": "user", "content": question}]


def main() -> None:
    """Ask one question and print the answer."""
    arguments = argparse.ArgumentParser(description="Ask the merged model one question.")
    arguments.add_argument("question", nargs="?", default=QUESTION)
    arguments.add_argument("--system", default=SYSTEM)
    arguments.add_argument("--label", default=LABEL)
    arguments.add_argument("--model", default=str(Path(__file__).parent.parent / "merged"))
    arguments.add_argument("--max-tokens", type=int, default=256)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    if not (Path(chosen.model) / "config.json").is_file():
        raise SystemExit(f"no merged model in {chosen.model}; give its folder with --model")
    messages = messages_of(chosen.question, chosen.system, chosen.label)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(chosen.seed)
    tokenizer = AutoTokenizer.from_pretrained(chosen.model)
    model = AutoModelForCausalLM.from_pretrained(chosen.model, dtype=number_format(device)).to(device)
    # The template writes the special tokens, so the tokenizer must not add them again.
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(device)
    answer = model.generate(
        **prompt,
        max_new_tokens=chosen.max_tokens,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        **SAMPLING,
    )
    print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip())


if __name__ == "__main__":
    main()
