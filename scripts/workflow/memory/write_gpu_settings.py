"""Write config/gpu/<gpu>/<recipe>.yaml: settings with which each recipe fits on a GPU by the estimate (`make docs`).

python -m scripts.workflow.memory.write_gpu_settings
"""

import sys
from pathlib import Path

import yaml

from scripts.config.load import load_config
from scripts.config.root import Config
from scripts.workflow.memory.estimate import prediction_memory, training_memory
from scripts.workflow.memory.fit import GPUS, Gpu, changed, fitting_settings
from scripts.workflow.memory.shapes import KNOWN

ROOT = Path(__file__).resolve().parents[3]
RECIPES = ROOT / "config" / "recipes"
FOLDER = ROOT / "config" / "gpu"


def recipes() -> list[str]:
    """Return the names of the recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def settings_of_recipe(config: Config, written: dict, gpu: Gpu) -> tuple[dict, list[str]] | None:
    """Return settings of a recipe's runs for a GPU, and a line on each run; None if a run does not fit.

    All runs of a sweep get the settings of the run that needs the most memory, under the name of the written run.
    """
    runs, lines = {}, []
    for name in written["runs"]:
        expanded = [run for key, run in config.runs.items() if key == name or key.startswith(f"{name}-")]
        if name in config.runs:
            expanded = [config.runs[name]]
        hungriest = max(expanded, key=lambda run: training_memory(shape_of(config, run), run).total)
        shape = shape_of(config, hungriest)
        settings = fitting_settings(shape, hungriest, gpu.gib)
        if settings is None:
            return None
        run = changed(hungriest, settings)
        train = f"training {training_memory(shape, run).gib:.1f} GiB, " if run.method != "prompt" else ""
        lines.append(f"{name}: {train}prediction {prediction_memory(shape, run).gib:.1f} GiB")
        runs[name] = settings
    return runs, lines


def shape_of(config: Config, run):
    """Return the shape of a run's model; all models of recipes are hub models."""
    return KNOWN[config.models[run.model].hub.id]


def gpu_file(recipe: str, gpu: Gpu) -> str | None:
    """Return the text of a recipe's file for a GPU, or None if the recipe does not fit."""
    written = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8"))
    found = settings_of_recipe(load_config(written), written, gpu)
    if found is None:
        return None
    runs, lines = found
    head = [
        "# yaml-language-server: $schema=../../schema.json",
        "#",
        f"# {recipe} on a GPU of {gpu.title}; made by `make docs` from the estimate of GPU memory, which says:",
        *(f"#   {line}" for line in lines),
        f"# snakemake --configfile config/recipes/{recipe}.yaml config/gpu/{gpu.name}/{recipe}.yaml",
        "",
    ]
    return "\n".join(head) + "\n" + yaml.safe_dump({"runs": runs}, sort_keys=False)


def all_files() -> dict[Path, str]:
    """Return the text of each file by path."""
    texts = {FOLDER / gpu.name / f"{recipe}.yaml": gpu_file(recipe, gpu) for recipe in recipes() for gpu in GPUS}
    return {path: text for path, text in texts.items() if text is not None}


def main() -> int:
    """Write the files, and remove those of recipes that no longer fit."""
    files = all_files()
    for path in FOLDER.glob("*/*.yaml"):
        if path not in files:
            path.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
