"""The configuration: a strict schema, and `load_config`, which turns what the user wrote into it.

Reading it must stay cheap, for the Snakefile does it at each start: nothing here imports pandas, torch or the like.
"""

from scripts.common.config.datasets import Dataset
from scripts.common.config.gates import Gate
from scripts.common.config.load import ConfigError, load_config
from scripts.common.config.models import Model
from scripts.common.config.project import Project
from scripts.common.config.root import Config, Override
from scripts.common.config.runs import Run

__all__ = ["Config", "ConfigError", "Dataset", "Gate", "Model", "Override", "Project", "Run", "load_config"]
