"""The task `chat`: answer a conversation with text."""

from scripts.tasks.task import Task

CHAT = Task("chat", packs=True)
