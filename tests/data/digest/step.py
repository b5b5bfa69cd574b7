"""A step."""

import argparse

from scripts.stage.helper import double

parser = argparse.ArgumentParser()
parser.add_argument("value", help="a number")
print(double(3))
