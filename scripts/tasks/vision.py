"""The task `vision`: answer a conversation with images."""

from scripts.tasks.task import Task

VISION = Task("vision", section="vision", reads_images=True, pipeline="image-text-to-text")
