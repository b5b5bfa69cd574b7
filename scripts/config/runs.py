"""The section `runs`: dataset, model and training of each run, and the results to make."""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from scripts.config.metric_name import MetricName
from scripts.config.types import FilePath, LanguageTag, Name, Number, Pattern, Section, Text, UserTemplate
from scripts.deploy.modelfile_text import modelfile_fault, with_plain_spaces
from scripts.deploy.target import HUB, REASON, target_fault
from scripts.tasks import TASKS

Task = Literal[tuple(TASKS)]
Method = Literal["lora", "qlora", "full", "head", "prompt"]
QUANTS = (
    "bf16", "f16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_0", "q4_k_m", "q4_k_s", "q4_0", "q3_k_m", "iq4_nl", "iq4_xs"
)  # fmt: skip
Quant = Literal[QUANTS]
VARIANTS = ("base", "adapter", "merged", *QUANTS)
ASSISTANT_PHRASES = (
    r"\bas an? (ai|artificial intelligence|(large )?language model|assistant)\b",
    r"\bI('m| am) (sorry|unable to|not able to|just an? |only an? )",
    r"\bI (cannot|can't|can not|do not|don't) (assist|help|provide|create|write|generate|verify|confirm)\b",
    r"\bI (do not|don't) have (access|information|personal)\b",
    r"\bI (apologi[sz]e|must (note|point out|clarify|inform))",
    r"\b(it is|it's) (important|worth) (to note|noting|to mention|mentioning|to remember)",
    r"\b(please note|keep in mind) that\b",
    r"\b(as of my|my) (last|latest|knowledge)? ?(update|knowledge cutoff|training data)",
    r"\b(there is|there's) no (evidence|record|information)\b",
    r"\b(here is|here's|here are) (a|an|your|some|the) (possible |short |catchy |suggested )?captions?\b",
    r"\b(sure|certainly|of course)[,!.]",
    r"\b(let me know if|feel free to|I hope this helps|is there anything else)\b",
    r"\ben tant (qu'|que )(ia|intelligence artificielle|modèle de langage|assistant)",
    r"\bje (suis désolée?|m'excuse|ne (peux|suis) pas (en mesure|capable|vous|fournir|répondre))",
    r"\bil (est|convient) (important )?de (noter|rappeler|souligner|préciser)",
    r"\b(veuillez noter|n'hésitez pas)\b",
    r"\bbien sûr ?[,!:]",
)


class Lora(Section):
    """The low-rank adapter (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = Field(16, ge=1, le=1024, description="Rank.")
    alpha: int = Field(32, ge=1, description="Scale: the update is multiplied by alpha / r.")
    dropout: Number = Field(0.05, ge=0, lt=1, description="Dropout before the adapter.")
    target_modules: Literal["all-linear"] | list[Text] = Field(
        "all-linear", description="`all-linear`, or module names such as `[q_proj, v_proj]`."
    )
    rslora: bool = Field(False, description="Rank-stabilised scale alpha / sqrt(r) (arXiv:2312.03732).")
    dora: bool = Field(False, description="Weight-decomposed adapter (arXiv:2402.09353).")


class Qlora(Section):
    """The 4-bit base under the adapter (Dettmers et al. 2023, arXiv:2305.14314)."""

    quant_type: Literal["nf4", "fp4"] = Field("nf4", description="4-bit data type of the base's weights.")
    double_quant: bool = Field(True, description="Quantize the quantization constants as well.")


class Tokens(Section):
    """Tokenization, and how much text may be cut."""

    max_length: int = Field(2048, ge=16, description="Longest sequence in tokens.")
    truncation: Literal["fail", "right", "drop"] = Field(
        "fail",
        description="A longer row fails the build, is cut on the right, or is left out; the ledger lists these rows.",
    )
    max_truncated: Number = Field(0.0, ge=0, le=1, description="Largest share of rows that may be cut or left out.")
    max_untrained: Number = Field(0.0, ge=0, le=1, description="Largest share of rows that may have no trained token.")
    packing: bool = Field(
        False,
        description="Pack several examples into a row; they can't attend to each other. Off if the attention kernel "
        "does not support this.",
    )
    window_overlap: int = Field(64, ge=0, description="Token classification: tokens that two windows of a text share.")
    train_on: Literal["all_assistant_turns", "last_assistant_turn"] = Field(
        "all_assistant_turns", description="The assistant's turns that are trained on; prompts never are."
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.truncation == "fail" and self.max_truncated > 0:
            yield "max_truncated", "has no effect with truncation 'fail', which allows no row to be cut"
        if self.window_overlap >= self.max_length - 2 and "window_overlap" in self.model_fields_set:
            yield "window_overlap", f"must be below max_length - 2 ({self.max_length - 2})"


class Training(Section):
    """The optimisation; names follow `transformers.TrainingArguments` where it has the same setting."""

    epochs: Number = Field(3.0, gt=0, description="Passes over the training split.")
    max_steps: int | None = Field(None, ge=1, description="Largest number of optimizer steps; none: all epochs.")
    learning_rate: Number = Field(2e-4, gt=0, description="Peak learning rate.")
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup", "cosine_with_min_lr", "inverse_sqrt"] = (
        Field("cosine", description="Learning rate schedule.")
    )
    warmup_ratio: Number = Field(0.03, ge=0, lt=1, description="Share of the steps for warm-up.")
    micro_batch: int = Field(4, ge=1, description="Rows in one forward pass on one device.")
    accumulation: int = Field(4, ge=1, description="Forward passes per optimizer step, of all processes together.")
    processes: int = Field(1, ge=1, description="Processes on each node, each with its own GPU; they share the rows.")
    nodes: int = Field(1, ge=1, description="Nodes of a Slurm cluster that train together.")
    sharding: Literal["none", "fsdp"] = Field("none", description="`fsdp`: each process holds a shard of the weights.")
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "paged_adamw_32bit", "paged_adamw_8bit", "adafactor"] = (
        Field("adamw_torch", description="Optimizer; without CUDA the paged ones are replaced by plain AdamW.")
    )
    weight_decay: Number = Field(0.0, ge=0, description="Weight decay.")
    adam_beta2: Number = Field(0.999, gt=0, lt=1, description="Decay rate of the second moment.")
    max_grad_norm: Number = Field(1.0, gt=0, description="Largest gradient norm; larger gradients are clipped.")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="`auto`: bf16 where the device computes it natively, else fp16 on CUDA, else fp32."
    )
    gradient_checkpointing: bool | Literal["auto"] = Field(
        "auto",
        description="Recompute activations: less memory, a fifth slower. `auto`: yes, but for rows of text that a CPU "
        "computes without padding and without packing, up to a thousand tokens at a time, until it runs out of memory.",
    )
    group_by_length: bool = Field(True, description="Batch rows of similar length: less padding.")
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field("auto", description="Attention kernel.")
    logging_steps: int = Field(10, ge=1, description="Optimizer steps between points of the curve.")
    eval_steps: int | None = Field(None, ge=1, description="Steps between evaluations; none: once per epoch.")
    keep_best: bool = Field(True, description="Keep the checkpoint with the lowest validation loss, not the last.")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Stop after this many evaluations without a lower validation loss."
    )
    checkpoint_steps: int | None = Field(None, ge=1, description="Steps between checkpoints; none: at evaluations.")
    keep_checkpoints: int = Field(2, ge=1, description="Checkpoints kept on disk.")
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(
        [], description="Trackers, which show settings, curve, scores and verdict; `make trackers` installs them."
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.scheduler == "constant" and self.warmup_ratio > 0:
            for key in self.given("warmup_ratio"):
                yield key, "has no effect with scheduler 'constant': use 'constant_with_warmup', or delete the key"
        if self.early_stopping_patience is not None and not self.keep_best:
            yield "early_stopping_patience", "needs 'keep_best: true', because it stops after the best evaluation"
        if len(set(self.report_to)) != len(self.report_to):
            yield "report_to", "contains a tracker twice"
        yield from self.process_conflicts()

    @property
    def num_processes(self) -> int:
        """The number of processes on all nodes together."""
        return self.processes * self.nodes

    @property
    def rows_at_once(self) -> int:
        """The rows of one forward pass in each process: fewer than `micro_batch` if a step has too few for all."""
        return self.micro_batch // (self.num_processes // math.gcd(self.accumulation, self.num_processes))

    def process_conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield conflicts between the number of processes and other settings."""
        rows, count = self.micro_batch * self.accumulation, self.num_processes
        if rows % count:
            key = "nodes" if self.nodes > 1 else "processes"
            yield key, f"{count} processes can't share the {rows} rows of a step (micro_batch times accumulation)"
        if self.sharding == "fsdp":
            if self.num_processes == 1:
                yield "sharding", "'fsdp' needs several processes: set 'processes' or 'nodes'"
            if self.optimizer not in ("adamw_torch", "adamw_torch_fused"):
                yield "optimizer", f"'{self.optimizer}' can't train sharded weights: use adamw_torch"
            if self.precision == "fp16":
                yield "precision", "'fp16' can't be combined with sharding 'fsdp': use bf16"


class Generation(Section):
    """How answers are generated, the same for every variant."""

    max_new_tokens: int = Field(256, ge=1, description="Longest answer in tokens.")
    temperature: Number = Field(0.0, ge=0, description="Sampling temperature. 0: greedy, as comparisons need.")
    top_p: Number = Field(1.0, gt=0, le=1, description="Nucleus sampling; only with a temperature.")
    top_k: int = Field(0, ge=0, description="Sample from the k most probable tokens; 0: all; only with a temperature.")
    min_p: Number = Field(0.0, ge=0, lt=1, description="Smallest probability of a token as a share of the greatest.")
    repetition_penalty: Number = Field(1.0, gt=0, description="Penalty of repeated tokens; 1: none.")
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,
        description="Seed of the sampling. With llama.cpp each prompt has its own random stream; with transformers the "
        "prompts of eight batches share one, and a prompt that is asked alone has its own.",
    )
    batch_size: int = Field(
        8,
        ge=1,
        description="Prompts in a batch (transformers); 1: llama.cpp as well answers one prompt after the "
        "other, and all answers are timed, as a gate on times needs.",
    )
    test_records: int | None = Field(
        None,
        ge=1,
        description="Answer and score only this many records, the first of the split, for a quick test; none: all.",
    )
    system: str | None = Field(None, description="Replaces every prompt's system message; empty: removes it.")
    load_in_4bit: Literal["auto", "yes", "no"] = Field(
        "auto", description="Load the base, with and without the adapter, in 4 bits; `auto`: for qlora on CUDA."
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.temperature == 0:
            for key in self.given("top_p", "top_k", "min_p"):
                yield key, "has no effect with temperature 0 (greedy): set a temperature, or delete the key"


class Vision(Section):
    """Parts of a vision model that are trained in addition to the language model's adapter."""

    train_projector: bool = Field(False, description="Train the projector between vision tower and language model.")
    projector_learning_rate: Number | None = Field(
        None, gt=0, description="Peak learning rate of the projector; none: `training.learning_rate`."
    )
    train_vision_tower: bool = Field(False, description="Train an adapter in the vision tower as well.")
    vision_learning_rate: Number | None = Field(
        None, gt=0, description="Peak learning rate of the vision tower; none: `training.learning_rate`."
    )
    longest_edge: int | None = Field(
        None, ge=28, description="Longest edge in pixels; larger images are scaled down; none: the processor's limit."
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        parts = {"projector_learning_rate": "train_projector", "vision_learning_rate": "train_vision_tower"}
        for rate, part in parts.items():
            if getattr(self, rate) is not None and not getattr(self, part):
                yield rate, f"has no effect without '{part}: true'"


class Head(Section):
    """The linear classifier over the backbone's hidden states."""

    layer: Literal["last", "auto"] | Annotated[int, Field(ge=1)] = Field(
        "last",
        description="Layer whose hidden states a head over a frozen base reads: `last`, a number (from 1), or "
        "`auto`: the best of five depths on the validation split. The merged model omits the layers above it.",
    )
    dropout: Number = Field(0.1, ge=0, lt=1, description="Dropout before the linear layer.")
    class_weights: Literal["none", "balanced"] = Field("none", description="`balanced`: inverse to class frequencies.")
    load_in_4bit: bool = Field(False, description="Load the frozen backbone in 4 bits.")
    cache: Literal["auto", "always", "never"] = Field(
        "auto", description="Compute a frozen backbone's hidden states once; `auto`: if they fit on the disk."
    )
    max_cache_gb: Number = Field(20.0, gt=0, description="Largest size of the hidden states with `cache: auto`, in GB.")


class Strategy(Section):
    """A way to ask the prompts."""

    system: str | None = Field(None, description="Replaces the system message; empty: removes it; none: unchanged.")
    user: UserTemplate | None = Field(
        None, description="Jinja template of the user's message with `prompt` and `label`."
    )
    shots: int = Field(0, ge=0, le=64, description="Number of training examples shown before the question.")


class PromptSet(Section):
    """Further prompts from a file, answered in addition to those of the test split."""

    file: FilePath = Field(description="JSONL in the `messages` format; a last assistant message is the right answer.")


class Parity(Section):
    """Limits of the comparison between the trained and the served model."""

    max_kl: Number = Field(0.02, gt=0, description="Largest mean KL divergence (nats) of merged model and bf16 GGUF.")
    prompts: int = Field(
        16, ge=1, description="Number of prompts to compare distributions for. Token ids are compared for every prompt."
    )


class Score(Section):
    """Metrics of the answers."""

    metrics: list[MetricName] | None = Field(
        None,
        min_length=1,
        description="Metrics of docs/reference/metrics.md, or of `metrics_from`; none: all that apply.",
    )
    metrics_from: FilePath | None = Field(None, description="Python file with metrics: docs/how-to/add-a-metric.md.")
    language: LanguageTag | None = Field(None, description="BCP 47 tag for tokenization; none: the dataset's.")
    generic_phrases: list[Pattern] = Field([], description="Regular expressions of generic phrases.")
    assistant_phrases: list[Pattern] = Field(
        list(ASSISTANT_PHRASES),
        description="Regular expressions, ignoring case, of phrases that an assistant says instead of answering.",
    )
    order_by: list[Text] = Field(
        [],
        description="Raw columns that put the test records in order for `repetition_recent`, such as `[url, time]`: by "
        "the first, then by the next, and numbers in a text by their value; none: the order of groups, then of lines "
        "in the raw files.",
    )
    price_per_hour: Number | None = Field(
        None,
        ge=0,
        description="Price of an hour of the machine, in any currency: for the cost of answers, and for the bundle's "
        "estimate of the cost of the run.",
    )
    votes: FilePath | None = Field(
        None,
        description="People's votes on the answers, as `make review` exports them (JSONL). While the file does not "
        "exist, the metrics of votes have no value.",
    )
    rival: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*/)?[a-z0-9_]+$")] = Field(
        "base", description="What `win_rate` compares with: a variant of the run, or of another run as `run/variant`."
    )
    model_votes: bool = Field(False, description="Count votes of judge models like those of people.")
    bootstrap: int = Field(10_000, ge=100, description="Resamples for the 95 % intervals.")
    seed: int = Field(0, ge=0, description="Seed of the resampling.")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for key in self.given("rival", "model_votes") if self.votes is None else ():
            yield key, "has no effect without 'votes', the file of people's votes"


class OllamaParameters(Section):
    """Sampling parameters in the Modelfile and in the GGUF's sampling defaults."""

    temperature: Number = Field(0.7, ge=0, description="Sampling temperature.")
    top_p: Number = Field(0.9, gt=0, le=1, description="Nucleus sampling.")
    top_k: int = Field(40, ge=0, description="Sample from the k most probable tokens.")
    min_p: Number = Field(0.0, ge=0, lt=1, description="Smallest probability of a token as a share of the greatest.")
    repeat_penalty: Number = Field(1.0, gt=0, description="Penalty of repeated tokens.")
    num_ctx: int | None = Field(None, ge=16, description="Context length in tokens; none: `tokens.max_length`.")


class Target(Section):
    """Where `snakemake deliver` takes the bundle of a run with the verdict `promote`."""

    folder: FilePath = Field(
        description="Folder of releases, with a link `current` to the one that is served; on an SSH host "
        "`ssh://[user@]host[:port]/absolute/folder`. Or a model repository of the hub: `hf://owner/name`."
    )
    keep: int = Field(3, ge=1, description="Releases to keep; at least the current one and the one before.")
    beside: bool = Field(
        False, description="Leave `current` as it is; `scripts/deploy/watch.py` switches to the release, or rejects it."
    )
    force: Annotated[str, StringConstraints(pattern=REASON)] | None = Field(
        None,
        description="Reason, of two words or more, to deliver whatever the verdict is; it is recorded in the release "
        "and in the history.",
    )
    public: bool = Field(False, description="The hub's repository may be public; a new one is.")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if fault := target_fault(self.folder):
            yield "folder", f"'{self.folder}' {fault}"
        is_hub = HUB.fullmatch(self.folder)
        for key in self.given(*(("keep", "beside") if is_hub else ("public",))):
            yield key, f"has no effect on {'the hub' if is_hub else 'a folder'}: delete the key"


class Soak(Section):
    """The match that `snakemake soak` plays with the served bundle, and its gates."""

    minutes: Number = Field(90.0, gt=0, description="Length of the match.")
    speed: Number = Field(10.0, gt=0, description="How many times as fast it is played; 1 takes as long as a match.")
    burst: int = Field(8, ge=1, description="Requests at once, at the start of each quarter of an hour.")
    p95: Number = Field(5.0, gt=0, description="Limit of the 95th percentile of the seconds to the last token.")
    memory_growth: Number = Field(
        0.1, ge=0, description="Limit of the growth of the server's memory after its warm-up, as a share."
    )


class Deploy(Section):
    """The bundle, and where it goes."""

    quant: Quant | None = Field(None, description="Quantization to ship; none: the last of `quants`.")
    system: str | None = Field(None, description="SYSTEM of the Modelfile; no-break spaces become plain spaces.")
    parameters: OllamaParameters = Field(
        OllamaParameters(),
        description="Sampling parameters. All except `num_ctx` are stored in the GGUF: a change makes GGUFs and their "
        "answers again.",
    )
    description: str = Field(
        "",
        description="A sentence or two for the model card. It is stored in the GGUF: a change makes GGUFs and their "
        "answers again.",
    )
    limits: str = Field("", description="Known limits, for the model card.")
    target: Target | None = Field(None, description="Where to deliver the bundle; none: nowhere.")
    soak: Soak = Field(Soak(), description="The test of the served bundle.")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if fault := modelfile_fault(with_plain_spaces(self.system or "")):
            yield "system", fault


class Run(Section):
    """One fine-tuning run."""

    dataset: Name = Field(description="Key under `datasets`.")
    model: Name = Field(description="Key under `models`.")
    task: Task = Field("chat", description="What the model learns to do.")
    method: Method = Field(
        "lora",
        description="`lora`, `qlora` (4-bit base), `full`, `head` (a classifier over a frozen base), or `prompt` (the "
        "base answers without training).",
    )
    seed: int = Field(42, ge=0, le=2**32 - 1, description="Seed of initialisation, order and dropout.")
    lora: Lora = Field(Lora(), description="The adapter.")
    qlora: Qlora = Field(Qlora(), description="The 4-bit base; for the method `qlora`.")
    vision: Vision = Field(Vision(), description="Other trained parts; for the task `vision`.")
    head: Head = Field(Head(), description="The classifier; for the task `token_classification`.")
    tokens: Tokens = Field(Tokens(), description="Tokenization.")
    training: Training = Field(Training(), description="Optimisation.")
    quants: list[Quant] = Field(["bf16"], description="GGUF files to make; bf16 is always made.")
    variants: list[Literal[VARIANTS]] | None = Field(
        None,
        min_length=1,
        description="Variants that answer the prompts and are scored; none: base, adapter, merged model and each "
        "quant.",
    )
    generation: Generation = Field(Generation(), description="How answers are generated.")
    prompt_sets: dict[Name, PromptSet] = Field({}, description="Further prompts by name; the set `test` always exists.")
    strategies: dict[Name, Strategy] = Field(
        {}, description="Ways to ask; the shipped variant answers the validation split in each, scored side by side."
    )
    strategy: Name | None = Field(None, description="Strategy of the set `test` and the bundle; none: unchanged.")
    parity: Parity = Field(Parity(), description="Limits of the comparison between trained and served model.")
    score: Score = Field(Score(), description="Metrics and their settings.")
    deploy: Deploy = Field(Deploy(), description="The bundle, and where it goes.")
    sweep: dict[Text, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        None, min_length=1, description="Lists of values by key, such as `lora.r: [16, 32]`; one run per combination."
    )
    select: MetricName | None = Field(
        None,
        description="Metric that chooses a sweep's run on the validation split; only that run can be promoted. None: "
        "the metric that ranks the leaderboard.",
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what doesn't fit."""
        task = TASKS[self.task]
        if self.method not in task.methods:
            yield "method", f"'{self.method}' can't train the task '{self.task}': use one of {', '.join(task.methods)}"
        by = {"qlora": ("method", ("qlora",)), "lora": ("method", ("lora", "qlora"))}
        by |= {other.section: ("task", (name,)) for name, other in TASKS.items() if other.section}
        for key in self.given(*by):
            decides, values = by[key]
            if getattr(self, decides) not in values:
                yield key, f"has no effect with {decides} '{getattr(self, decides)}'"
        if task.classifies:
            for key in self.tokens.given("truncation", "max_truncated", "max_untrained", "train_on"):
                yield f"tokens.{key}", f"has no effect on the task '{self.task}': long texts come in windows"
            overlap, is_default = self.tokens.window_overlap, "window_overlap" not in self.tokens.model_fields_set
            if overlap >= self.tokens.max_length - 2 and is_default:
                yield "tokens.max_length", f"is too small for window_overlap ({overlap}, the default): set both"
        if self.method == "head" and self.training.optimizer not in ("adamw_torch", "adamw_torch_fused"):
            for key in self.training.given("optimizer"):
                yield f"training.{key}", f"'{self.training.optimizer}' can't train a head: use adamw_torch"
        if self.method != "head" and self.head.layer != "last":
            yield "head.layer", f"has no effect with method '{self.method}', which trains all layers: delete the key"
        if self.head.layer == "auto" and self.head.cache == "never":
            yield "head.layer", "'auto' needs stored hidden states: delete head.cache, or set a number"
        yield from self.process_conflicts()
        if self.tokens.packing and not task.packs:
            yield "tokens.packing", f"is for the task 'chat', but the task is '{self.task}'"
        if self.generation.load_in_4bit == "yes" and self.method == "full":
            yield "generation.load_in_4bit", "can't be 'yes' with method 'full', which has no 4-bit base"
        yield from self.prompt_conflicts()
        yield from self.quant_conflicts()
        if self.score.metrics is not None and len(set(self.score.metrics)) != len(self.score.metrics):
            yield "score.metrics", "contains a metric twice"

    def process_conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that do not work with several processes."""
        task = TASKS[self.task]
        if self.training.num_processes > 1 and (task.classifies or self.method == "prompt"):
            what = "a token classifier is trained" if self.method != "prompt" else "the method 'prompt' runs"
            for key in self.training.given("processes", "nodes"):
                yield f"training.{key}", f"{what} in one process: delete the key"
        if self.training.num_processes > 1 and task.reads_images:
            for key in self.vision.given("train_projector", "train_vision_tower"):
                if getattr(self.vision, key):
                    yield f"vision.{key}", "can't be in several processes, of which some may see no image in a step"
        if self.training.sharding == "fsdp":
            if self.method == "qlora":
                yield "training.sharding", "a 4-bit base can't be sharded: use the method 'lora', or 'none'"
            if task.reads_images:
                yield "training.sharding", "'fsdp' is for text: a batch without images would wait for one with some"
            if self.lora.dora:
                yield "lora.dora", "needs whole weights, so it can't be combined with sharding 'fsdp'"

    def prompt_conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield conflicts of prompt sets and strategies."""
        task = TASKS[self.task]
        for key in self.given("strategies", "prompt_sets"):
            if task.classifies and getattr(self, key):
                yield key, "a token classifier takes texts, no prompts: delete the key"
        for key in ("prompt_sets", "strategies"):
            if "test" in getattr(self, key):
                yield f"{key}.test", "is reserved for the test split: use another name"
        if "auto" in self.strategies:
            yield "strategies.auto", "is reserved: use another name"
        for name, strategy in self.strategies.items():
            if fault := modelfile_fault(with_plain_spaces(strategy.system or "")):
                yield f"strategies.{name}.system", fault
            if name in self.prompt_sets:
                yield f"strategies.{name}", "is also the name of a prompt set: use another name"
        if self.strategy is not None and self.strategy not in self.strategies:
            known = ", ".join(self.strategies) or "none"
            yield "strategy", f"'{self.strategy}' is not among 'strategies' ({known})"
        elif self.strategy is not None and task.reads_images and self.strategies[self.strategy].shots:
            yield "strategy", f"'{self.strategy}' shows examples with images, which a bundle can't hold: choose another"
        for name, prompts in self.prompt_sets.items():
            if not prompts.file.endswith(".jsonl"):
                yield f"prompt_sets.{name}.file", f"'{prompts.file}' is not a .jsonl file"

    def quant_conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield conflicts between quants, task and bundle."""
        classifies = TASKS[self.task].classifies
        if classifies or self.method == "prompt":
            what = "a token classifier" if classifies else "a base that is only prompted"
            if self.quants and "quants" in self.model_fields_set:
                yield "quants", f"{what} has no GGUF: delete the key"
            if self.deploy.quant is not None:
                yield "deploy.quant", f"{what} has no GGUF: delete the key"
            if "soak" in self.deploy.model_fields_set:
                yield "deploy.soak", f"{what} has no GGUF to serve: delete the key"
            if self.deploy.target is not None and not classifies:
                yield "deploy.target", f"{what} has no bundle: delete the key"
            return
        if len(set(self.quants)) != len(self.quants):
            yield "quants", "contains a quant twice"
        if self.deploy.quant is not None and self.deploy.quant not in ("bf16", *self.quants):
            yield "deploy.quant", f"'{self.deploy.quant}' is not among 'quants' ({', '.join(self.quants)})"


Runs = dict[Name, Run]
