"""Sphinx configuration of the site. `leandnn site` copies docs/ beside the generated pages and builds there.

Nothing is fetched by the reader's browser: formulas become MathML while building, fonts are the reader's
own, scripts and styles lie in the site.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import leandnn
from leandnn.report import claims_figure

sys.path.insert(0, str(Path(__file__).resolve().parent / "_ext"))

project = "leandnn"
author = "the authors of leandnn"
project_copyright = "the authors of leandnn, Apache-2.0"
version = release = leandnn.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "docstrings", "mathml"]
exclude_patterns = ["_ext", "generated"]  # what other pages include is no page

myst_heading_anchors = 3  # as on GitHub: bf16.md#<claim>
myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath", "deflist"]
nb_execution_mode = "off"  # the pipeline has run them; the site shows exactly what it committed
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # outputs hold tables, as on GitHub
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # the default names a CDN

html_theme = "furo"
html_title = "leandnn"
html_static_path = ["_static"]
html_css_files = ["leandnn.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_math_renderer = "mathml"
pygments_dark_style = "a11y-dark"

# Verdicts as text on a background: at least 4.5 : 1 in both modes; by day as in the tour's figure.
_LIGHT = {word.replace(" ", "-"): colours for word, colours in claims_figure.COLOURS.items()}
_DARK = {
    "reproduced": ("#0c4a38", "#b9f0dd"),
    "better": ("#0d3f63", "#c3e2fa"),
    "partly": ("#574009", "#fbe2a8"),
    "undecided": ("#3d434d", "#e1e5ec"),
    "not-reproduced": ("#6b2a08", "#ffd5bf"),
    "exploratory": ("#3d3266", "#ded5fa"),
    "not-tested": ("#453f2f", "#e8dfca"),
    "not-measured": ("transparent", "#9aa2ae"),
}


def _variables(colours: dict[str, tuple[str, str]]) -> dict[str, str]:
    names = {}
    for word, (background, text) in colours.items():
        names[f"verdict-{word}-background"] = background
        names[f"verdict-{word}-text"] = text
    return names


html_theme_options: dict[str, Any] = {
    "light_css_variables": {
        "color-brand-primary": "#0a5a8c",
        "color-brand-content": "#0a5a8c",
        "color-brand-visited": "#0a5a8c",
        **_variables(_LIGHT),
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cc4f2",
        "color-brand-content": "#7cc4f2",
        "color-brand-visited": "#7cc4f2",
        **_variables(_DARK),
    },
    "navigation_with_keys": True,
}

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # `paths.PREPARED`, not the path it has on the machine that built the site
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 80
default_role = "code"
