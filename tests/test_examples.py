"""Every example runs from the command line, and saves its picture.

The gallery of the docs runs them all as they are, with warnings as errors. Here they
run in this process, and what takes long in them is cut short.
"""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
