"""Links to the documentation of other projects, without their inventories.

sphinx.ext.intersphinx downloads an inventory of each project at each build.
The few targets that are linked to stand here instead.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

SKLEARN = "https://scikit-learn.org/stable"
PAGES = {
    "df_output_transform": "modules/df_output_transform.html",
    "meta-estimator": "glossary.html#term-meta-estimator",
    "metadata_routing": "metadata_routing.html",
    "sphx_glr_auto_examples_miscellaneous_plot_set_output.py": (
        "auto_examples/miscellaneous/plot_set_output.html"
    ),
}
API = {
    "sklearn.model_selection.TimeSeriesSplit",
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
    page = PAGES.get(node["reftarget"])
    if page is None:
        return None
    return nodes.reference("", "", content, refuri=f"{SKLEARN}/{page}", internal=False)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to the event."""
    app.connect("missing-reference", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
