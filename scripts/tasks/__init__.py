"""The tasks by name. They import no large packages: the configuration and the rules read them."""

from scripts.tasks.chat import CHAT
from scripts.tasks.task import Task
from scripts.tasks.token_classification import TOKEN_CLASSIFICATION
from scripts.tasks.vision import VISION

TASKS: dict[str, Task] = {task.name: task for task in (CHAT, VISION, TOKEN_CLASSIFICATION)}


def task_of(settings: dict) -> Task:
    """Return the task of a step's settings; without the key `task` it is `chat`."""
    return TASKS[settings.get("task", "chat")]
