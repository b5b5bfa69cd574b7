"""A Snakefile of plain strings with the jobs and files of ours: what Snakemake itself takes for a plan as large.

Each rule has the log, the benchmark, the threads, and the memory and time of ours; its inputs are literal, with no
wildcard but the name of the run. It has no environment, no parameters, no profile and no logger.
"""

import re
from pathlib import Path

from tests.support.project import CONFIG, Project

JOB = re.compile(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", re.MULTILINE)
FILES = ("input", "output", "log", "benchmark")
SWEPT = "cards-r{r}-seed{seed}"
HEAD = '\n\nwildcard_constraints:\n    run="[^/.]+",\n\n\n'
RUN = re.compile(SWEPT.format(r=r"\d", seed=r"\d+"))


def sweep_project(folder: Path, runs: int) -> Project:
    """Make the project of the tests in a new folder, with a sweep of an even number of runs, and two quants each."""
    folder.mkdir(parents=True)
    project = Project.made_in(folder)
    text = CONFIG
    for old, new in (
        ("{r: 4, alpha: 8}", f"{{alpha: 8}}\n    sweep: {{lora.r: [4, 8], seed: {[*range(runs // 2)]}}}"),
        ("quants: [bf16]", "quants: [q8_0, q4_k_m]\n    variants: [base, adapter, q8_0, q4_k_m]"),
        ("deploy: {quant: bf16}", "deploy: {quant: q4_k_m}"),
    ):
        text = text.replace(old, new)
    project.write("config/config.yaml", text)
    return project


def trivial_sweep(folder: Path, plan: str, runs: int) -> Path:
    """Write a Snakefile for a sweep of so many runs into a new folder.

    `plan` is what `snakemake -n -p` prints in the project of a sweep of two runs.
    """
    names = [SWEPT.format(r=r, seed=seed) for r in (4, 8) for seed in range(runs // 2)]
    folder.mkdir(parents=True)
    (folder / "Snakefile").write_text(f"RUNS = {names}\n{HEAD}{trivial_rules(plan)}", encoding="utf-8")
    return folder


def outputs_of(plan: str) -> list[str]:
    """Return the output files of a plan's jobs."""
    return [file for files in re.findall(r"(?m)^    output: (.*)$", plan) for file in files.split(", ")]


def trivial_rules(plan: str) -> str:
    """Return the rules of a plan: a job of one run is a rule with the wildcard `run`, a job of all runs names all."""
    rules: dict[str, None] = {}
    for name, body in JOB.findall(plan):
        parts = dict(re.findall(r"^    (\w+): (.*)$", body, re.MULTILINE))
        of_all = len(set(RUN.findall(body))) > 1
        lines = [f"    threads: {parts.get('threads', 1)}"]
        for part in FILES:
            files = dict.fromkeys(RUN.sub("{run}", file) for file in parts.get(part, "").split(", ") if file)
            shown = [f'expand("{file}", run=RUNS)' if of_all and "{run}" in file else f'"{file}"' for file in files]
            lines += [f"    {part}: {', '.join(shown)}"] if shown else []
        sizes = re.findall(r"\b(?:mem_mb|runtime)=\d+", parts.get("resources", ""))
        lines += [f"    resources: {', '.join(sizes)}"] if sizes else []
        lines += ['    shell: "touch {output}"'] if "output" in parts else []
        rules["\n".join(lines)] = name
    texts = [f"rule {name}_{i}:\n{text}\n" for i, (text, name) in enumerate(rules.items())]
    return "\n".join(sorted(texts, key=lambda text: not text.startswith("rule all_")))
