"""The tasks: answer a conversation with text, or with images in it, or find the entities of a text.

This module imports no large packages: the configuration and the rules read it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Which runs a task has, and where rules, steps and bundle differ for it.

    The defaults fit a task that answers with text.

    - `methods`: the values of a run's `method`
    - `section`: the section of a run that only this task has
    - `record_format`: the format that the run's dataset must have; None: any
    - `reads_images`: prompts have images, and the model a vision tower
    - `classifies`: the model labels tokens; it has no prompts and no GGUF, and is scored as the merged model only
    - `packs`: several examples may share a row of tokens
    - `library` to `tags`: the model card's library, hub task, relation to the base, and tags
    """

    name: str
    methods: tuple[str, ...] = ("lora", "qlora", "full", "prompt")
    section: str | None = None
    record_format: str | None = None
    reads_images: bool = False
    classifies: bool = False
    packs: bool = False
    library: str = "gguf"
    pipeline: str = "text-generation"
    relation: str = "quantized"
    tags: tuple[str, ...] = ("gguf", "llama.cpp", "ollama")


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("chat", packs=True),
        Task("vision", section="vision", reads_images=True, pipeline="image-text-to-text"),
        Task(
            "token_classification",
            methods=("head", "lora"),
            section="head",
            record_format="spans",
            classifies=True,
            library="transformers",
            pipeline="token-classification",
            relation="finetune",
            tags=("token-classification",),
        ),
    )
}


def task_of(settings: dict) -> Task:
    """Return the task of a step's settings; without the key `task` it is `chat`."""
    return TASKS[settings.get("task", "chat")]
