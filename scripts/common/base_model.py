"""Loading a base model for training or prediction."""

import os
import sys
from pathlib import Path

from scripts.common.cli import log
from scripts.common.files import check_manifest
from scripts.common.garbage import collect_as_usual
from scripts.common.number_format import torch_dtype
from scripts.common.vision import PROJECTOR, VISION_TOWER, encode_images_one_by_one


def device_name() -> str:
    """Return the name of the GPU that this process computes on, or `cpu`."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def four_bit(settings: dict, precision: str, reads_images: bool = False):
    """Return the bitsandbytes configuration of a 4-bit base; `settings` is the section `qlora` of the configuration.

    In a vision model, only the language model is quantized.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings["quant_type"],
        bnb_4bit_use_double_quant=settings["double_quant"],
        bnb_4bit_compute_dtype=torch_dtype(precision),
        llm_int8_skip_modules=[VISION_TOWER, PROJECTOR, "lm_head"] if reads_images else None,
    )


def load_base(
    manifest: Path, dtype, quantization=None, attention="auto", reads_images=False, spill=False, shards: int = 1
):
    """Load the model of a manifest's folder onto this process's GPU, or the CPU; safetensors only.

    The model is a causal language model, which may also read images. With `spill`, layers of a 16-bit model that do not
    fit on the GPU stay in main memory. With several `shards`, one for each process, this process
    reads and holds one shard. Raises UserError when a file of the folder is missing or differs from the manifest.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    collect_as_usual()
    kind = AutoModelForImageTextToText if reads_images else AutoModelForCausalLM
    facts = check_manifest(manifest)
    options = {} if attention == "auto" else {"attn_implementation": attention}
    if shards > 1:
        from transformers.distributed import DistributedConfig

        options["distributed_config"] = DistributedConfig(fsdp_size=shards)
    else:
        options["device_map"] = device_map(Path(manifest).parent, movable=spill and quantization is None)
    model = kind.from_pretrained(
        Path(manifest).parent,
        dtype=dtype,
        quantization_config=quantization,
        use_safetensors=True,
        trust_remote_code=facts.get("trust_remote_code", False),
        **options,
    )
    return encode_images_one_by_one(model) if reads_images else model


def has_room(size: int, free: int) -> bool:
    """Return whether `size` bytes of weights fit into `free` bytes of a GPU; a tenth is reserved for computation."""
    return size <= 0.9 * free


def device_map(folder: Path, movable: bool) -> dict | str:
    """Return transformers' device map for a folder's weights: this process's GPU, the CPU, or (`auto`) both.

    The result is `auto` if the model is `movable` and its files leave less than a tenth of the GPU's free memory for
    computation. accelerate then copies layers from main memory one by one: slower, with the same answers.
    """
    import torch

    if not torch.cuda.is_available():
        return {"": "cpu"}
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    free, _ = torch.cuda.mem_get_info()
    if movable and not has_room(size, free):
        log.warning("%s has %.1f GB, the GPU %.1f GB: some layers stay in main memory", folder, size / 1e9, free / 1e9)
        return "auto"
    return {"": torch.cuda.current_device()}


def leave_torch_out(manifest: Path) -> None:
    """Let this process load the tokenizer of a manifest's folder without torch, which takes 2 of 3 s of CPU time.

    For programs that need nothing else of transformers; before transformers is imported. Code of the model's own may
    need torch, which is then there.
    """
    if not check_manifest(manifest, hashes=False).get("trust_remote_code", False) and "torch" not in sys.modules:
        os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # it would warn that there are tokenizers only
        sys.modules["torch"] = None


def load_tokenizer(manifest: Path):
    """Load the tokenizer of a manifest's folder; without a padding token, it pads with its end token."""
    from transformers import AutoTokenizer

    trusted = check_manifest(manifest, hashes=False).get("trust_remote_code", False)
    tokenizer = AutoTokenizer.from_pretrained(Path(manifest).parent, trust_remote_code=trusted)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def keep_layout(model):
    """Prevent bitsandbytes from repacking 4-bit weights at the first evaluation, and return the model.

    On a CPU with AVX512-BF16, bitsandbytes repacks them for inference and rounds their scales to bf16. Training would
    then continue with a different base, so that a resumed run would differ from an uninterrupted one.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model
