"""A merged model equals the one that PEFT merges, for each kind of LoRA, of models of text and of images."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_json, write_manifest
from scripts.common.float32 import narrow, widen
from scripts.common.vision import load_image, load_processor, pixel_inputs
from scripts.model.safetensors_files import weight_files
from scripts.train import adapter_updates, merged_weights
from scripts.train.merge_adapter import merge_adapter
from scripts.train.vision_training import target_pattern
from tests.support.tiny_model import split_in_two
from tests.support.vision import save_picture

ROOT = Path(__file__).resolve().parents[2]
LANGUAGE, BOTH = ["model.language_model"], ["model.language_model", "model.vision_tower"]
PROJECTOR = {"modules_to_save": ["multi_modal_projector"]}
KINDS = {
    "lora": ("text", {}),
    "few, rank-stabilised": ("text", {"target_modules": ["q_proj"], "use_rslora": True}),
    "dora": ("text", {"use_dora": True}),
    "float16": ("half", {}),
    "float32": ("single", {}),
    "several files": ("split", {}),
    "vision": ("vision", {}),
    "vision, other names": ("renamed", {}),
    "vision, dora": ("vision", {"use_dora": True}),
    "vision, all": ("vision", {"parts": BOTH, **PROJECTOR, "use_rslora": True}),
    "vision, all, other names": ("renamed", {"parts": BOTH, **PROJECTOR, "use_rslora": True}),
}


STORED = {"half": torch.float16, "single": torch.float32}  # the others are in bf16


def load(folder: Path):
    """Load a model of text or of images in full precision."""
    is_vision = "vision_config" in read_json(folder / "config.json")
    kind = AutoModelForImageTextToText if is_vision else AutoModelForCausalLM
    return kind.from_pretrained(folder, dtype=torch.float32)


def converted(base: Path, folder: Path, dtype: torch.dtype) -> Path:
    """Copy a base with its weights in another number format."""
    shutil.copytree(base.parent, folder)
    weights = folder / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    return write_manifest(folder, name="tiny", id=None, revision=None)


@pytest.fixture(scope="module")
def bases(tiny_base, tiny_vision_base, tmp_path_factory) -> dict[str, Path]:
    """The manifests of bases; `renamed` has the tensors' names of the loaded model instead of those of the hub."""
    folder = tmp_path_factory.mktemp("bases")
    renamed = shutil.copytree(tiny_vision_base.parent, folder / "renamed")
    AutoModelForImageTextToText.from_pretrained(renamed).save_pretrained(renamed, save_original_format=False)
    return {
        "text": tiny_base,
        **{name: converted(tiny_base, folder / name, dtype) for name, dtype in STORED.items()},
        "split": split_in_two(tiny_base, folder / "split"),
        "vision": tiny_vision_base,
        "renamed": write_manifest(renamed, name="tiny", id=None, revision=None),
    }


def random_adapter(base: Path, folder: Path, parts: list[str] = LANGUAGE, longest_edge: int | None = None, **options):
    """Save an adapter whose weights are random, as a run leaves it, and return its manifest."""
    model = load(base.parent)
    is_vision = hasattr(model.config, "vision_config")
    modules = target_pattern(model, "all-linear", parts) if is_vision else "all-linear"
    # With higher ranks the products of numpy and torch differ in the last bit on CPUs without AVX-512.
    config = {"r": 4, "lora_alpha": 6, "target_modules": modules, "task_type": "CAUSAL_LM", **options}
    model = get_peft_model(model, LoraConfig(**config))
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_magnitude" in name:
                parameter.mul_(1.2)
            elif "lora_" in name:
                parameter.normal_(0, 0.2)
            elif parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * parameter.std())
    model.save_pretrained(folder)
    task = {"task": "vision", "longest_edge": longest_edge} if is_vision else {}
    return write_manifest(folder, base="tiny", method="lora", **task)


def merge_few_rows_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(merged_weights, "BLOCK", 6000)
    monkeypatch.setattr(adapter_updates, "SMALL", 8000)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_equals_pefts_own_merge_and_leaves_all_else_as_it_is(bases, tmp_path, monkeypatch, kind):
    merge_few_rows_at_a_time(monkeypatch)
    base_name, options = KINDS[kind]
    base = bases[base_name]
    adapter = random_adapter(base, tmp_path / "adapter", **options)
    merge_adapter(adapter, base, tmp_path / "merged")
    ours, before = load(tmp_path / "merged").state_dict(), load(base.parent).state_dict()
    theirs = PeftModel.from_pretrained(load(base.parent), adapter.parent).merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    stored = STORED.get(base_name, torch.bfloat16)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor.to(stored).float()), name
    assert any(not torch.equal(ours[name], before[name]) for name in ours)
    assert weight_files(tmp_path / "merged").keys() == weight_files(base.parent).keys()
    for path in base.parent.iterdir():
        if path.suffix != ".safetensors" and "manifest" not in path.name:
            assert (tmp_path / "merged" / path.name).read_bytes() == path.read_bytes(), path.name


def test_blocks_of_rows_change_no_bit_and_unchanged_tensors_keep_their_bytes(bases, tmp_path, monkeypatch):
    base = bases["split"]
    adapter = random_adapter(base, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    merge_adapter(adapter, base, tmp_path / "whole")
    merge_few_rows_at_a_time(monkeypatch)
    merge_adapter(adapter, base, tmp_path / "blocks")
    monkeypatch.setattr(merged_weights.os, "copy_file_range", lambda *_: (_ for _ in ()).throw(OSError("not here")))
    merge_adapter(adapter, base, tmp_path / "sent")
    for path in (tmp_path / "whole").glob("*.safetensors"):
        before = load_file(base.parent / path.name)
        for other in ("blocks", "sent"):
            assert (tmp_path / other / path.name).read_bytes() == path.read_bytes()
        for name, tensor in load_file(path).items():
            assert torch.equal(tensor, before[name]) != any(part in name for part in ("q_proj", "down_proj")), name


CHILD = """
import sys
from scripts.train.merge_adapter import main
for adapter, base, output, uses_torch in zip(*[iter(sys.argv[1:])] * 4):
    assert main([adapter, "--base", base, "--output", output]) == 0
    assert ("torch" in sys.modules) == (uses_torch == "yes"), uses_torch
"""


def test_a_process_merges_to_the_same_bytes_without_torch_and_imports_it_only_for_dora(bases, tmp_path):
    words, base = [], bases["split"]
    for kind, uses_torch in (("lora", "no"), ("dora", "yes")):
        adapter = random_adapter(base, tmp_path / f"adapter-{kind}", use_dora=kind == "dora")
        merge_adapter(adapter, base, tmp_path / kind)
        words += [adapter, base, tmp_path / f"child-{kind}", uses_torch]
    subprocess.run([sys.executable, "-c", CHILD, *map(str, words)], check=True, cwd=ROOT)
    for kind in ("lora", "dora"):
        for path in (tmp_path / kind).glob("*.safetensors"):
            assert (tmp_path / f"child-{kind}" / path.name).read_bytes() == path.read_bytes(), (kind, path.name)


def wide_values(stored: numpy.ndarray) -> numpy.ndarray:
    values = numpy.empty(stored.shape, numpy.float32)
    widen(stored, values)
    return values


def test_values_are_widened_and_rounded_as_torch_does_whatever_their_bits():
    bits = numpy.random.default_rng(0).integers(0, 2**32, 200_000, dtype=numpy.uint32)
    ties = (numpy.arange(2**16, dtype=numpy.uint32) << 16) | 0x8000
    edges = numpy.uint32([0x7F7FFFFF, 0x7F800000, 0x7F800001, 0xFFFFFFFF])
    values = numpy.concatenate([bits, ties, edges]).view(numpy.float32)
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(numpy.uint16)
    ours, unknown = numpy.empty(values.shape, numpy.uint16), numpy.isnan(values)
    narrow(values, ours, spare=numpy.empty_like(values))  # which bits NaN has depends on the CPU
    assert numpy.array_equal(ours[~unknown], expected[~unknown])
    assert numpy.isnan(wide_values(ours)[unknown]).all()
    halves = numpy.arange(2**16, dtype=numpy.uint16)
    wide = torch.from_numpy(halves.view(numpy.int16)).view(torch.bfloat16).float().view(torch.int32).numpy()
    assert numpy.array_equal(wide_values(halves).view(numpy.int32), wide)


def test_the_merged_folder_scales_images_as_training_did(tiny_vision_base, tmp_path):
    adapter = random_adapter(tiny_vision_base, tmp_path / "a", longest_edge=84)
    merge_adapter(adapter, tiny_vision_base, tmp_path / "merged")
    picture = load_image(tmp_path, save_picture(tmp_path, "Rapport", (400, 300)))
    ours, trained = load_processor(tmp_path / "merged/manifest.json"), load_processor(tiny_vision_base, 84)
    for key in ("pixel_values", "image_sizes"):
        assert torch.equal(pixel_inputs(ours, [picture])[key], pixel_inputs(trained, [picture])[key])
    manifest = check_manifest(tmp_path / "merged/manifest.json", hashes=True)
    assert (manifest["task"], manifest["longest_edge"]) == ("vision", 84)


@pytest.mark.parametrize(
    ("name", "fault", "message"),
    [
        ("text", "another base", r"changes weights missing in the base: model\.layers\.7"),
        ("vision", "another base", r"changes weights missing in the base: model\.language_model\.layers\.7"),
        ("text", "cut base", r"model\.safetensors: has .* bytes, not"),
        ("text", "wrong shape", r"adapter_model\.safetensors: changes a weight of shape .*; the base's is"),
        ("text", "changed base", r"model\.safetensors: has changed since it was made"),
        ("text", "rank_pattern", r"adapter_config\.json: has rank_pattern, which can't be merged"),
    ],
)
def test_what_can_not_be_merged_is_one_line(bases, tmp_path, name, fault, message):
    base = Path(shutil.copytree(bases[name].parent, tmp_path / "base"), "manifest.json")
    adapter = random_adapter(base, tmp_path / "a")
    weights, of_base = adapter.parent / "adapter_model.safetensors", base.with_name("model.safetensors")
    if fault == "another base":
        save_file({name.replace("layers.0", "layers.7"): value for name, value in load_file(weights).items()}, weights)
    elif fault == "wrong shape":  # more rows than the base's weight has
        tensors = load_file(weights)
        name = next(name for name in tensors if "lora_B" in name)
        save_file(tensors | {name: torch.cat([tensors[name], tensors[name]])}, weights)
    elif fault == "changed base":
        content = bytearray(of_base.read_bytes())
        content[-1] ^= 1
        of_base.write_bytes(content)
    elif fault == "cut base":
        of_base.write_bytes(of_base.read_bytes()[:-10])
    else:
        config = adapter.with_name("adapter_config.json")
        write_json(config, read_json(config) | {fault: {"q_proj": 2}})
    write_manifest(adapter.parent, **{key: value for key, value in read_json(adapter).items() if key != "files"})
    with pytest.raises(UserError, match=message):
        merge_adapter(adapter, base, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
