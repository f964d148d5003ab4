"""Sphinx configuration; the build needs no network."""

import sys
from importlib.util import find_spec
from pathlib import Path

import sk_batchnorm

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

project = "sk_batchnorm"
author = "the sk_batchnorm developers"
project_copyright = author
version = release = sk_batchnorm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "peers",
]
# Parts that are included in other pages.
exclude_patterns = [
    "_build",
    "evidence_table.md",
    "performance_table.md",
    "moving_[!m]*.rst",
]
nitpicky = True
default_role = "literal"
toc_object_entries_show_parents = "hide"

autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "none"  # the docstrings say more
# What only some parts of the package need.
autodoc_mock_imports = [
    name for name in ("dask", "onnx", "skl2onnx", "torch") if find_spec(name) is None
]
numpydoc_show_class_members = False
html_math_renderer = "mathml"

html_theme = "pydata_sphinx_theme"
html_title = project
html_sidebars = {"**": []}
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sk_batchnorm",),
    "within_subsection_order": "gallery.Order",
    "reset_modules": ("gallery.strict", "matplotlib"),
    "reset_modules_order": "both",
    "show_memory": False,
    "write_computation_times": False,  # a page that loads scripts from elsewhere
}
