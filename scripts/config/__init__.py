"""The configuration: a strict schema, and `load.load_config`, which turns what the user wrote into it.

Reading it must stay cheap, for the Snakefile does it at each start: nothing here imports pandas, torch or the like.
"""
