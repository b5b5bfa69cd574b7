"""A step, whose edits tests/unit/test_code_digest.py makes."""

from scripts.stage.helper import double

print(double(3))
