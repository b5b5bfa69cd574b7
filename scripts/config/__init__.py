"""The configuration: a strict schema, and `load.load_config`, which validates the user's settings.

The Snakefile reads the configuration at each start, so nothing here imports pandas, torch or other slow packages.
"""
