"""Check and complete a model folder: safetensors, a tokenizer, a chat template, no untrusted code."""

import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.common.checksums import intact
from scripts.common.cli import step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_manifest
from scripts.model.foreign_code import take_out_code
from scripts.model.model_files import WEIGHTS
from scripts.model.safetensors_files import check_index, count_parameters
from scripts.model.tekken_pattern import mend_tekken_pattern
from scripts.model.template_date import pin_template_date, template_of_folder


def check_model_folder(folder: Path, settings: dict) -> list[Path]:
    """Return a model folder's weight files.

    Raises UserError for weights that are not safetensors, for an index that points outside of the folder, and for a
    model that needs its own code if the configuration does not allow it.
    """
    weights = sorted(folder.glob(WEIGHTS))
    if not weights:
        pickled = next((path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)), None)
        found = f"only {pickled}, which can hide code" if pickled else "no weights"
        raise UserError(f"has no .safetensors file, {found}", folder, remedy="convert the weights to safetensors first")
    if not (folder / "config.json").is_file():
        raise UserError("has no config.json", folder, remedy="name the folder of a Hugging Face model")
    check_index(folder)
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        remedy = "name the folder of a Hugging Face model"
        raise UserError("is not a JSON object", folder / "config.json", remedy=remedy)
    if "auto_map" in config and not settings["trust_remote_code"]:
        from transformers import CONFIG_MAPPING

        if (kind := config.get("model_type")) not in CONFIG_MAPPING:
            raise UserError(
                f"needs its own Python code (model type '{kind}')",
                folder,
                remedy="read that code, then set 'trust_remote_code: true' under the model",
            )
    return weights


def finish_model_folder(folder: Path, settings: dict, chat_template: Path | None, **facts) -> None:
    """Check a model folder, replace its chat template if configured, and write its manifest (with `facts`) last.

    A date in the chat template is fixed (scripts/model/template_date.py), and the pattern of Mistral's Tekken
    tokenizers is corrected (scripts/model/tekken_pattern.py). `settings` is the model's section of the configuration.
    """
    weights = check_model_folder(folder, settings)
    if chat_template:
        shutil.copyfile(intact(chat_template), folder / "chat_template.jinja")
    unify_chat_template(folder)
    untrusted = [] if settings["trust_remote_code"] else take_out_code(folder)
    mended = [*untrusted, *(["tokenizer.json"] if mend_tekken_pattern(folder) else [])]
    template_date = pin_template_date(folder, settings.get("template_date"))
    write_manifest(
        folder,
        architecture=settings["architecture"],
        license=settings["license"],
        parameters=sum(count_parameters(path) for path in weights),
        trust_remote_code=settings["trust_remote_code"],
        template_date=template_date,
        **({"mended": mended} if mended else {}),
        **facts,
    )


def unify_chat_template(folder: Path) -> None:
    """Move a template from chat_template.json, which only processors read, to chat_template.jinja, which all read."""
    old, new = folder / "chat_template.json", folder / "chat_template.jinja"
    if not old.is_file():
        return
    if not new.is_file() and (template := template_of_folder(folder)) is not None:
        new.write_text(template, encoding="utf-8")
    old.unlink()


def import_main(import_model: Callable, description: str, source: str | None = None) -> Callable[..., int]:
    """Return the `main` of a program that imports a model; with `source`, the description of its first argument.

    The program calls `import_model([source,] folder, name, settings, chat_template)`.
    """

    def parser():
        result = step_parser(description)
        if source:
            result.add_argument("source", type=Path, help=source)
        result.add_argument("--folder", type=Path, required=True, help="model folder to write")
        result.add_argument("--name", required=True, help="the model's key in the configuration")
        result.add_argument("--chat-template", type=Path, help="Jinja file that replaces the model's template")
        return result

    def step(a) -> None:
        import_model(*([a.source] if source else []), a.folder, a.name, a.settings, a.chat_template)

    return step_main(step, parser)
