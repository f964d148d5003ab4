"""What pytest leaves out here: code for Sphinx, and a page that needs PyTorch."""

from importlib.util import find_spec

collect_ignore = ["conf.py", "_ext"]
if find_spec("torch") is None:
    collect_ignore.append("pytorch_checkpoint.rst")
