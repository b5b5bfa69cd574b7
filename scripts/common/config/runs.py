"""`runs`: what is trained from which dataset and model, how, and what is made of it."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from scripts.common.config.types import LanguageTag, Name, Number, Pattern, Section, Text
from scripts.common.modelfile_text import modelfile_fault, with_plain_spaces

Task = Literal["chat", "vision", "token_classification"]
Method = Literal["lora", "qlora", "full", "head"]
QUANTS = (
    "bf16", "f16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_0", "q4_k_m", "q4_k_s", "q4_0", "q3_k_m", "iq4_nl", "iq4_xs"
)  # fmt: skip
Quant = Literal[QUANTS]
METRICS = (
    "perplexity",
    "perplexity_per_character",
    "bleu",
    "chrf",
    "rouge_l",
    "exact_match",
    "normalised_match",
    "distinct_1",
    "distinct_2",
    "repetition",
    "repetition_across",
    "length_mean",
    "length_variation",
    "generic_phrase_rate",
    "seconds_p50",
    "seconds_p95",
    "present_share",
    "passe_compose_share",
    "proper_noun_rate",
    "finished",
)
Metric = Literal[METRICS]


class Lora(Section):
    """The low-rank adapter (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = Field(16, ge=1, le=1024, description="Rank.")
    alpha: int = Field(32, ge=1, description="Scale: the update is multiplied by alpha / r.")
    dropout: Number = Field(0.05, ge=0, lt=1, description="Dropout before the adapter.")
    target_modules: Literal["all-linear"] | list[Text] = Field(
        "all-linear", description="`all-linear`, or names of modules such as `[q_proj, v_proj]`."
    )
    rslora: bool = Field(False, description="Rank-stabilised scale alpha / sqrt(r) (arXiv:2312.03732).")
    dora: bool = Field(False, description="Weight-decomposed adapter (arXiv:2402.09353).")


class Qlora(Section):
    """The 4-bit base under the adapter (Dettmers et al. 2023, arXiv:2305.14314)."""

    quant_type: Literal["nf4", "fp4"] = Field("nf4", description="4-bit data type of the base's weights.")
    double_quant: bool = Field(True, description="Quantize the quantization constants as well.")


class Tokens(Section):
    """How conversations become token ids, and how much loss of text is allowed."""

    max_length: int = Field(2048, ge=16, description="Longest sequence in tokens.")
    truncation: Literal["fail", "right", "drop"] = Field(
        "fail",
        description="A longer row fails the build, is cut on the right, or is left out; the ledger names each of them.",
    )
    max_truncated: Number = Field(
        0.0, ge=0, le=1, description="Share of rows that may be cut or left out before the build fails."
    )
    max_untrained: Number = Field(
        0.0, ge=0, le=1, description="Share of rows that may have no trained token before the build fails."
    )
    packing: bool = Field(
        False, description="Several examples in a row, none seeing another; not done where attention can't do that."
    )
    train_on: Literal["all_assistant_turns", "last_assistant_turn"] = Field(
        "all_assistant_turns", description="Which of the assistant's turns are trained on; prompts never are."
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what doesn't fit."""
        if self.truncation == "fail" and self.max_truncated > 0:
            yield "max_truncated", "has no effect with truncation 'fail', which allows no row to be cut"


class Training(Section):
    """The optimisation; names follow `transformers.TrainingArguments` where it has the same thing."""

    epochs: Number = Field(3.0, gt=0, description="Passes over the training split.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps.")
    learning_rate: Number = Field(2e-4, gt=0, description="Peak learning rate.")
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup", "cosine_with_min_lr", "inverse_sqrt"] = (
        Field("cosine", description="Learning rate schedule.")
    )
    warmup_ratio: Number = Field(0.03, ge=0, lt=1, description="Share of the steps for warm-up.")
    micro_batch: int = Field(4, ge=1, description="Rows in one forward pass on one device.")
    accumulation: int = Field(4, ge=1, description="Forward passes per optimizer step.")
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "paged_adamw_32bit", "paged_adamw_8bit", "adafactor"] = (
        Field("adamw_torch", description="Optimizer; the paged ones need CUDA, and are plain AdamW without it.")
    )
    weight_decay: Number = Field(0.0, ge=0, description="Weight decay.")
    adam_beta2: Number = Field(0.999, gt=0, lt=1, description="Second moment's decay.")
    max_grad_norm: Number = Field(1.0, gt=0, description="Gradient clipping.")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="`auto`: bf16 where the device has it, else fp16 on CUDA, else fp32."
    )
    gradient_checkpointing: bool = Field(True, description="Recompute activations: less memory, a fifth slower.")
    group_by_length: bool = Field(True, description="Batches of rows of like length: less padding.")
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field("auto", description="Attention kernel.")
    logging_steps: int = Field(10, ge=1, description="Optimizer steps between points of the curve.")
    eval_steps: int | None = Field(None, ge=1, description="Steps between evaluations; none: once an epoch.")
    keep_best: bool = Field(True, description="Keep the checkpoint with the lowest validation loss, not the last.")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Stop after so many evaluations without a better one."
    )
    checkpoint_steps: int | None = Field(None, ge=1, description="Steps between checkpoints; none: at evaluations.")
    keep_checkpoints: int = Field(2, ge=1, description="Checkpoints kept on disk.")
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(
        [], description="Trackers, whose packages and tokens (environment variables) must be there."
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what doesn't fit."""
        if self.scheduler == "constant" and self.warmup_ratio > 0:
            for key in self.given("warmup_ratio"):
                yield key, "has no effect with scheduler 'constant': use 'constant_with_warmup', or drop it"
        if self.early_stopping_patience is not None and not self.keep_best:
            yield "early_stopping_patience", "needs 'keep_best: true', for it stops at the best evaluation"
        if len(set(self.report_to)) != len(self.report_to):
            yield "report_to", "names a tracker twice"


class Generation(Section):
    """How answers are made, the same for every variant."""

    max_new_tokens: int = Field(256, ge=1, description="Longest answer in tokens.")
    temperature: Number = Field(0.0, ge=0, description="0: greedy, which is what comparisons need.")
    top_p: Number = Field(1.0, gt=0, le=1, description="Nucleus sampling; only with a temperature.")
    top_k: int = Field(0, ge=0, description="Sample from the k likeliest; 0: from all; only with a temperature.")
    min_p: Number = Field(0.0, ge=0, lt=1, description="Least probability relative to the likeliest.")
    repetition_penalty: Number = Field(1.0, gt=0, description="1: none.")
    seed: int = Field(0, ge=0, description="Seed of the sampling; each prompt has its own stream.")
    batch_size: int = Field(8, ge=1, description="Prompts in a batch (transformers).")
    system: str | None = Field(None, description="Replaces every prompt's system message; empty: removes it.")
    load_in_4bit: Literal["auto", "yes", "no"] = Field(
        "auto", description="Load base and adapter's base in 4 bits; `auto`: for qlora on CUDA."
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what doesn't fit."""
        if self.temperature == 0:
            for key in self.given("top_p", "top_k", "min_p"):
                yield key, "has no effect with temperature 0 (greedy): set a temperature, or drop it"


class PromptSet(Section):
    """Further prompts from a file, answered beside those of the test split."""

    file: Text = Field(description="JSONL in the `messages` format; a last assistant message is the expected answer.")


class Parity(Section):
    """Limits of the comparison between what was trained and what is served."""

    max_kl: Number = Field(
        0.02, gt=0, description="Largest mean KL divergence (nats) between merged model and bf16 GGUF, next token."
    )
    prompts: int = Field(16, ge=1, description="Prompts for the comparison of distributions; ids are compared for all.")


class Score(Section):
    """What is measured on the answers."""

    metrics: list[Metric] | None = Field(None, min_length=1, description="None: all that apply.")
    language: LanguageTag | None = Field(None, description="BCP 47 tag for tokenization; none: the dataset's.")
    generic_phrases: list[Pattern] = Field([], description="Regular expressions of phrases that say nothing.")
    bootstrap: int = Field(1000, ge=100, description="Resamples for the 95 % intervals.")
    seed: int = Field(0, ge=0, description="Seed of the resampling.")


class OllamaParameters(Section):
    """Sampling parameters in the Modelfile and in the GGUF's sampling defaults."""

    temperature: Number = Field(0.7, ge=0, description="Sampling temperature.")
    top_p: Number = Field(0.9, gt=0, le=1, description="Nucleus sampling.")
    top_k: int = Field(40, ge=0, description="Sample from the k likeliest.")
    min_p: Number = Field(0.0, ge=0, lt=1, description="Least probability relative to the likeliest.")
    repeat_penalty: Number = Field(1.0, gt=0, description="Penalty of repeated tokens.")
    num_ctx: int | None = Field(None, ge=16, description="Context; none: tokens.max_length.")


class Deploy(Section):
    """What goes into the bundle."""

    quant: Quant | None = Field(None, description="Rung to ship; none: the last of `quants`.")
    system: str | None = Field(
        None, description="SYSTEM of the Modelfile; no-break spaces become plain ones, which Ollama keeps."
    )
    parameters: OllamaParameters = Field(
        OllamaParameters(),
        description="Sampling parameters. All but `num_ctx` stand in the GGUF: a change makes GGUFs and their answers "
        "anew.",
    )
    description: str = Field(
        "",
        description="A sentence or two for the model card. It stands in the GGUF: a change makes GGUFs and their "
        "answers anew.",
    )
    limits: str = Field("", description="Known limits, for the model card.")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what doesn't fit."""
        if fault := modelfile_fault(with_plain_spaces(self.system or "")):
            yield "system", fault


class Run(Section):
    """One fine-tuning run."""

    dataset: Name = Field(description="Key under `datasets`.")
    model: Name = Field(description="Key under `models`.")
    task: Task = Field("chat", description="What the model learns to do.")
    method: Method = Field("lora", description="`lora`, `qlora` (4-bit base), `full`, or `head` (classification).")
    seed: int = Field(42, ge=0, description="Seed of initialisation, order and dropout.")
    lora: Lora = Field(Lora(), description="The adapter.")
    qlora: Qlora = Field(Qlora(), description="The 4-bit base; for the method `qlora`.")
    tokens: Tokens = Field(Tokens(), description="Tokenization.")
    training: Training = Field(Training(), description="Optimisation.")
    quants: list[Quant] = Field(["bf16"], description="GGUF files to make; bf16 is always made.")
    generation: Generation = Field(Generation(), description="How answers are made.")
    prompt_sets: dict[Name, PromptSet] = Field({}, description="Further prompts by name; `test` is always there.")
    parity: Parity = Field(Parity(), description="Limits of served = trained.")
    score: Score = Field(Score(), description="What is measured.")
    deploy: Deploy = Field(Deploy(), description="The bundle.")
    sweep: dict[Text, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        None, min_length=1, description="Dotted key to values, such as `lora.r: [16, 32]`; one run per combination."
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what doesn't fit."""
        classifies = self.task == "token_classification"
        if (self.method == "head" and not classifies) or (self.method == "qlora" and classifies):
            yield "method", f"'{self.method}' can't train the task '{self.task}'"
        for key in self.given("qlora"):
            if self.method != "qlora":
                yield key, f"is given, but the method is '{self.method}'"
        for key in self.given("lora"):
            if self.method in ("full", "head"):
                yield key, f"is given, but the method is '{self.method}'"
        if self.generation.load_in_4bit == "yes" and self.method == "full":
            yield "generation.load_in_4bit", "there is no adapter over a 4-bit base with method 'full'"
        yield from self.quant_conflicts()
        if "test" in self.prompt_sets:
            yield "prompt_sets.test", "is the name of the test split: take another"
        for name, prompts in self.prompt_sets.items():
            if not prompts.file.endswith(".jsonl"):
                yield f"prompt_sets.{name}.file", f"'{prompts.file}' is not a .jsonl file"
        if self.score.metrics is not None and len(set(self.score.metrics)) != len(self.score.metrics):
            yield "score.metrics", "names a metric twice"

    def quant_conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what doesn't fit between quants, task and bundle."""
        if self.task == "token_classification":
            for key in self.given("quants"):
                if self.quants:
                    yield key, "a token classifier has no GGUF: drop it"
            if self.deploy.quant is not None:
                yield "deploy.quant", "a token classifier has no GGUF: drop it"
            return
        if len(set(self.quants)) != len(self.quants):
            yield "quants", "names a quant twice"
        if self.deploy.quant is not None and self.deploy.quant not in ("bf16", *self.quants):
            yield "deploy.quant", f"'{self.deploy.quant}' is not among 'quants' ({', '.join(self.quants)})"


Runs = dict[Name, Run]
