"""Formulas as MathML: every current browser draws it, without a script."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def mathml(formula: str, node: nodes.Element) -> str:
    """Translate a formula; what docutils does not know becomes a warning."""
    try:
        return tex2mathml(formula)
    except MathError as error:
        logger.warning("%s", error, location=node, type="mathml")
        return ""


def visit_inline(translator: Any, node: nodes.math) -> None:
    """Write a ``:math:`` role."""
    translator.body.append(mathml(node.astext(), node))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """Write a ``.. math::`` directive."""
    formula = node.astext()
    if r"\\" in formula:  # several lines, which Sphinx aligns at their &
        formula = rf"\begin{{aligned}}{formula}\end{{aligned}}"
    block = mathml(formula, node).replace("<math ", '<math display="block" ', 1)
    translator.body.append(f'<div class="math">{block}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer as ``html_math_renderer = "mathml"``."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
