"""Draw the workflow's rules in README.md, from Snakemake's own rule graph of the demo: `make docs`."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from docs.readme import README, between

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- rule graph: made by `make docs` -->", "<!-- end of rule graph -->"
STAGES = ("collect", "dataset", "model", "train", "gguf", "predict", "score", "deploy")


def stage_of_rules() -> dict[str, str]:
    """Return each rule's stage: the file that it stands in."""
    return {
        rule: stage
        for stage in STAGES
        for rule in re.findall(
            r"^(?:rule|use rule \w+ as) (\w+)", (ROOT / f"rules/{stage}.smk").read_text(encoding="utf-8"), re.MULTILINE
        )
    }


def snakemake_graph() -> str:
    """Return Snakemake's rule graph of the demo as Mermaid text. Raises CalledProcessError when there is none."""
    command = [str(Path(sys.executable).parent / "snakemake"), "--rulegraph", "mermaid-js"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def edges_of(graph: str) -> set[tuple[str, str]]:
    """Return the edges between rules of a Mermaid graph, without the target rule."""
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", graph))
    edges = {(names[start], names[end]) for start, end in re.findall(r"(id\d+) --> (id\d+)", graph)}
    return {edge for edge in edges if "all" not in edge}


def reduced(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the edges that no longer path stands for (the transitive reduction)."""
    after: dict[str, set[str]] = {}
    for start, end in edges:
        after.setdefault(start, set()).add(end)

    def reachable(rule: str) -> set[str]:
        return {found for step in after.get(rule, ()) for found in (step, *reachable(step))}

    return {(start, end) for start, end in edges if not any(end in reachable(step) for step in after[start] - {end})}


def drawn(edges: set[tuple[str, str]], stages: dict[str, str]) -> str:
    """Return the graph as Mermaid text, rules grouped by stage."""
    rules = {rule for edge in edges for rule in edge}
    lines = ["```mermaid", "flowchart LR"]
    for stage in STAGES:
        if inside := sorted((rule for rule in rules if stages[rule] == stage), key=list(stages).index):
            lines += [f"  subgraph {stage}", *(f"    {rule}" for rule in inside), "  end"]
    order = list(stages)
    lines += [f"  {start} --> {end}" for start, end in sorted(edges, key=lambda edge: tuple(map(order.index, edge)))]
    return "\n".join([*lines, "```"])


def page() -> str:
    """Return README.md as it should be."""
    graph = drawn(reduced(edges_of(snakemake_graph())), stage_of_rules())
    return between(README.read_text(encoding="utf-8"), BEGIN, END, graph)


def main(argv=None) -> int:
    """Write README.md."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    README.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
