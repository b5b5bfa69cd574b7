"""A step, whose edits tests/unit/test_code_digest.py makes."""

import argparse

from scripts.stage.helper import double

parser = argparse.ArgumentParser()
parser.add_argument("value", help="a number")
print(double(3))
