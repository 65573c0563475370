"""Formulas as MathML, made while the site is built: browsers draw it themselves, without a script.

They need a font with the tables of mathematics for it. STIX Two (SIL Open Font License) comes along, cut
down to the signs that formulas use; ziamath is the package on PyPI that carries it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ziamath
from docutils import nodes
from fontTools import subset
from latex2mathml.converter import convert
from sphinx.application import Sphinx

SIGNS = (
    (0x20, 0x7F),  # ASCII
    (0xA0, 0x100),  # ± × ·
    (0x391, 0x3F7),  # Greek
    (0x2010, 0x2070),  # dashes, dots, invisible operators
    (0x2100, 0x2300),  # letterlike signs, arrows, operators
    (0x27E6, 0x27EC),  # brackets
    (0x1D400, 0x1D7D0),  # bold, italic, script and Greek letters of formulas
)


def inline(translator: Any, node: nodes.math) -> None:
    """A formula inside a sentence."""
    translator.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """A formula on a line of its own, which scrolls where it is wider than the screen."""
    body = convert(node.astext(), display="block")
    translator.body.append(f'<div class="math-block">{body}</div>\n')
    raise nodes.SkipNode


def write_font(app: Sphinx) -> None:
    """Put the font beside the style sheet, in the throw-away copy of docs/ that is built from."""
    options = subset.Options()
    options.flavor, options.hinting = "woff", False
    options.name_IDs = ["*"]  # author and licence stay in it
    source = Path(ziamath.__file__).with_name("fonts") / "STIXTwoMath-Regular.ttf"
    font = subset.load_font(str(source), options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=[code for first, end in SIGNS for code in range(first, end)])
    cutter.subset(font)
    subset.save_font(font, str(Path(app.srcdir) / "_static" / "stix-two-math.woff"), options)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("builder-inited", write_font)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
