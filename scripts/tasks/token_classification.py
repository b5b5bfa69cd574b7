"""The task `token_classification`: find the entities of a text with a head over the base."""

from scripts.tasks.task import Task

TOKEN_CLASSIFICATION = Task(
    "token_classification",
    methods=("head", "lora"),
    section="head",
    record_format="spans",
    classifies=True,
    library="transformers",
    pipeline="token-classification",
    relation="finetune",
    tags=("token-classification",),
)
