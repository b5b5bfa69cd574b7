"""Estimate the GPU memory of training and prediction by part.

Each part is computed from shapes and settings. tests/benchmarks/bench_memory.py compares the sum with traced runs of
the real shapes. RESERVE is for the rest: the CUDA context and fragmentation in the allocator.
"""

from dataclasses import dataclass, replace

from scripts.config.runs import Run
from scripts.tasks import TASKS
from scripts.workflow.memory.shapes import Shape, Tower

GIB = 2**30
RESERVE = 1.2 * GIB  # CUDA context and cuBLAS workspaces (about 0.7), and fragmentation
FOUR_BIT = {True: 0.5 + 8 / 64 / 8 + 32 / 256 / 64 / 8, False: 0.5 + 32 / 64 / 8}  # bytes per weight, by double_quant
OPTIMIZER = {
    "adamw_torch": 8, "adamw_torch_fused": 8, "paged_adamw_32bit": 8, "paged_adamw_8bit": 2, "adafactor": 0.1
}  # fmt: skip
# Bytes of one block per token: (per feature of the residual stream, per feature of the MLP). Fitted to traces of
# transformers 5.23 and PEFT 0.21 in bf16 (tests/benchmarks/bench_memory.py), with errors of a few per cent.
KEPT_ADAPTED, KEPT_PLAIN = (53.3, 12.3), (34.3, 8.0)  # kept for the backward pass, with and without adapters
AT_WORK_ADAPTED, AT_WORK_PLAIN = (65.0, 22.1), (46.0, 18.0)  # the same, plus temporaries of the backward pass
TURNING_POINT = (6.0, 10.0)  # in addition, between forward and backward pass
FORWARD_ONLY = (12.0, 5.5)
HEAD_TILE = 1024  # positions with logits in memory at a time on a GPU (scripts/train/output_layer.py)


@dataclass(frozen=True)
class Estimate:
    """Peak GPU memory in bytes, by part."""

    weights: float
    trained: float
    activations: float
    logits: float
    reserve: float = RESERVE

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return self.weights + self.trained + self.activations + self.logits + self.reserve

    @property
    def gib(self) -> float:
        """The sum in GiB."""
        return self.total / GIB


def adapter_parameters(shape: Shape, run: Run) -> int:
    """Return the number of trained weights of a LoRA adapter. A list of modules counts as all linear layers."""
    r = run.lora.r
    total = shape.layers * sum(r * (inputs + outputs) for inputs, outputs in shape.linears)
    if run.lora.dora:
        total += shape.layers * sum(outputs for _, outputs in shape.linears)
    if TASKS[run.task].reads_images and shape.tower and run.vision.train_vision_tower:
        hidden, wide = shape.tower.hidden, shape.tower.intermediate
        total += shape.tower.layers * r * (4 * 2 * hidden + 3 * (hidden + wide))
    return total


def weight_bytes(shape: Shape, run: Run) -> float:
    """Return the bytes of the base's weights: 16 bits each, or 4 bits in the blocks if the run asks for it."""
    classifies = TASKS[run.task].classifies
    four_bit = run.method == "qlora" or (classifies and run.head.load_in_4bit)
    double = run.qlora.double_quant if run.method == "qlora" else True
    blocks = shape.block_parameters * (FOUR_BIT[double] if four_bit else 2)
    rest = shape.other_parameters
    if classifies and not shape.tied:
        rest -= shape.vocabulary * shape.hidden  # no output layer
    return blocks + 2 * (rest + shape.tower_parameters)


def trained_bytes(shape: Shape, run: Run) -> float:
    """Return the bytes of trained weights, their gradients and the optimizer's state."""
    per_parameter = 4 + 4 + OPTIMIZER[run.training.optimizer]
    if run.method == "full":
        return shape.parameters * per_parameter  # in float32; autocast casts them to 16 bits
    trained = adapter_parameters(shape, run) if run.method in ("lora", "qlora") else 0
    if TASKS[run.task].reads_images and run.vision.train_projector:
        trained += shape.projector_parameters
    return trained * per_parameter


def whole_bytes(shape: Shape, run: Run) -> float:
    """Return the bytes of sharded weights that are gathered at a time: two blocks, embeddings and output layer.

    The next block is gathered while one is computed. If all weights are trained, they are gathered in float32, and
    autocast adds a copy in 16 bits.
    """
    per_weight = 6 if run.method == "full" else 2
    return per_weight * (2 * shape.block_parameters / shape.layers + shape.other_parameters)


def block_bytes(shape: Shape | Tower, tokens: float, rates: tuple[float, float]) -> float:
    """Return the bytes of one block for a number of tokens; `rates` are bytes per token and feature."""
    return tokens * (rates[0] * shape.hidden + rates[1] * shape.intermediate)


def activation_bytes(shape: Shape, run: Run, length: int) -> float:
    """Return the bytes of activations for rows of `length` tokens.

    These are the activations of all blocks or, with gradient checkpointing, of one block and the inputs of all blocks.
    """
    tokens = run.training.rows_at_once * length
    if run.method == "head":
        return block_bytes(shape, tokens, FORWARD_ONLY)
    adapted = run.method in ("lora", "qlora")
    if run.training.gradient_checkpointing:
        inputs = shape.layers * tokens * 2 * shape.hidden
        kept = inputs + block_bytes(shape, tokens, AT_WORK_ADAPTED if adapted else AT_WORK_PLAIN)
    else:
        kept = shape.layers * block_bytes(shape, tokens, KEPT_ADAPTED if adapted else KEPT_PLAIN)
        kept += block_bytes(shape, tokens, TURNING_POINT)
    unpacked = 2 * max(inputs * outputs for inputs, outputs in shape.linears) if run.method == "qlora" else 0
    return kept + unpacked + tower_activations(shape, run, length)


def tower_activations(shape: Shape, run: Run, length: int) -> float:
    """Return the bytes of the vision tower's activations for a batch where every row is an image."""
    if not TASKS[run.task].reads_images or shape.tower is None:
        return 0
    patches = run.training.rows_at_once * length * shape.tower.merge**2
    if not run.vision.train_vision_tower:
        return block_bytes(shape.tower, patches, FORWARD_ONLY)
    if run.training.gradient_checkpointing:
        inputs = shape.tower.layers * patches * 2 * shape.tower.hidden
        return inputs + block_bytes(shape.tower, patches, AT_WORK_ADAPTED)
    return shape.tower.layers * block_bytes(shape.tower, patches, KEPT_ADAPTED)


def shape_of_run(shape: Shape, run: Run) -> Shape:
    """Return the shape that a run loads: a head that reads a numbered layer needs the base only up to that layer."""
    if run.method != "head" or isinstance(run.head.layer, str):
        return shape
    return replace(shape, layers=min(run.head.layer, shape.layers))


def training_memory(shape: Shape, run: Run) -> Estimate:
    """Return the estimate of a run's training, for each of its processes.

    All rows are assumed to have the largest length (`tokens.max_length`). Without sharding, each process holds all
    weights. With sharding, each process holds a shard of the weights, and also of gradients and optimizer state if all
    weights are trained.
    """
    shape, length = shape_of_run(shape, run), run.tokens.max_length
    tokens = min(run.training.rows_at_once * length, HEAD_TILE)
    weights, trained = weight_bytes(shape, run), trained_bytes(shape, run)
    if run.training.sharding == "fsdp":
        full = run.method == "full"
        weights = whole_bytes(shape, run) + (0 if full else weights / run.training.num_processes)
        trained = trained / run.training.num_processes if full else trained
    return Estimate(
        weights=weights,
        trained=trained,
        activations=activation_bytes(shape, run, length),
        logits=tokens * shape.vocabulary * 12 if not TASKS[run.task].classifies else 0,
    )


def prediction_memory(shape: Shape, run: Run) -> Estimate:
    """Return the estimate of prediction with transformers: weights, and keys, values and logits of a full batch.

    The estimate is for base and adapter. The merged model answers in 16 bits; layers that do not fit stay in main
    memory (scripts/common/base_model.py). A classifier's backbone has the same bits as in its head's training.
    """
    shape, batch, length = shape_of_run(shape, run), run.generation.batch_size, run.tokens.max_length
    wish = run.generation.load_in_4bit
    trained_in_4bit = run.head.load_in_4bit if run.method == "head" else run.method == "qlora"
    four_bit = wish == "yes" or (wish == "auto" and trained_in_4bit)
    blocks = shape.block_parameters * (FOUR_BIT[True] if four_bit else 2)
    weights = blocks + 2 * (shape.other_parameters + shape.tower_parameters)
    if TASKS[run.task].classifies:
        return Estimate(weights, 0, block_bytes(shape, batch * length, FORWARD_ONLY), 0)
    whole = batch * (length + run.generation.max_new_tokens)
    cache = 2 * 2 * shape.layers * shape.kv_heads * shape.head_size * whole
    work = block_bytes(shape, whole, FORWARD_ONLY)
    # The likelihood needs the logits of whole rows; with images, only those of the answers.
    rows = run.generation.max_new_tokens if TASKS[run.task].reads_images else length
    return Estimate(weights, 0, cache + work, batch * rows * shape.vocabulary * 6)
