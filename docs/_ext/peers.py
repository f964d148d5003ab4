"""What docstrings that are inherited from scikit-learn say, on a site of our own.

Links to its documentation: sphinx.ext.intersphinx downloads an inventory of each
project at each build; the few targets that are linked to stand here instead. And
versions, which are scikit-learn's.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

SKLEARN = "https://scikit-learn.org/stable"
SET_OUTPUT = "sphx_glr_auto_examples_miscellaneous_plot_set_output.py"
PAGES = {
    "fit": "glossary.html#term-fit",
    "r2_score": "modules/model_evaluation.html#r2-score",
    "df_output_transform": "modules/df_output_transform.html",
    "meta-estimator": "glossary.html#term-meta-estimator",
    "metadata_routing": "metadata_routing.html",
    SET_OUTPUT: "auto_examples/miscellaneous/plot_set_output.html",
}
# Of pages that are linked to without a text.
TITLES = {SET_OUTPUT: "Introducing the set_output API"}
API = {
    "sklearn.compose.ColumnTransformer",
    "sklearn.compose.TransformedTargetRegressor",
    "sklearn.frozen.FrozenEstimator",
    "sklearn.model_selection.TimeSeriesSplit",
    "sklearn.metrics.r2_score",
    "sklearn.multioutput.MultiOutputRegressor",
    "sklearn.pipeline.FeatureUnion",
    "sklearn.model_selection.cross_val_predict",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing.StandardScaler",
    "sklearn.set_config",
    "sklearn.utils.metadata_routing.MetadataRequest",
}
PAGES |= {name: f"modules/generated/{name}.html" for name in API}


def link(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.reference | None:
    """Answer Sphinx's ``missing-reference`` event."""
    target = node["reftarget"]
    page = PAGES.get(target)
    if page is None:
        return None
    if target in TITLES:
        content = nodes.inline("", TITLES[target])
    return nodes.reference("", "", content, refuri=f"{SKLEARN}/{page}", internal=False)


def name_sklearn(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Say whose version it is that an inherited docstring names.

    Answers autodoc's ``autodoc-process-docstring`` event.
    """
    if getattr(obj, "__module__", "").startswith("sklearn."):
        for i, line in enumerate(lines):
            lines[i] = re.sub(r"(\.\. version\w+:: )", r"\1scikit-learn-", line)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to the events."""
    app.connect("missing-reference", link)
    app.connect("autodoc-process-docstring", name_sklearn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
