"""Which outputs of a notebook only show something: a reader's browser runs nothing and fetches nothing for them.

What is named here is let through, all else is not: types of outputs, tags, attributes, characters of a style.
Markup is read by one strict grammar instead of a lenient parser, so text that a browser might read in another
way than we do (comments, unquoted values, tags that are not closed) is refused rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_TAGS = (
    "a b blockquote br caption code col colgroup dd details div dl dt em h1 h2 h3 h4 h5 h6 hr i li ol p pre small span "
    "strong sub summary sup table tbody td tfoot th thead tr ul"
)
_ATTRIBUTES = "align border class colspan open rowspan scope start title valign"

# A style without parentheses, quotes, @ and backslashes can name no address and no expression.
_STYLE = r"[\w\s.,:;#%*>{}+-]*"
_ADDRESS = r"""(?:https?://|\#)[^"<>\\]*"""
_ATTRIBUTE = rf"""\s+(?:
    (?:{_ATTRIBUTES.replace(" ", "|")})(?:="[^"<>]*")?
  | style="{_STYLE.replace(">", "")}"
  | href="{_ADDRESS}"
)"""
_MARKUP = re.compile(
    rf"""(?:
        [^<]++
      | <(?=[^a-z/!?])                              # "1 < 2": by the rules of HTML this begins no tag
      | <style(?:\s+scoped|\s+type="text/css")?>{_STYLE}</style>
      | <(?:{_TAGS.replace(" ", "|")})(?:{_ATTRIBUTE})*\s*/?>
      | </(?:{_TAGS.replace(" ", "|")})>
    )*+""",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)

# Any image of Markdown; a link, or the definition of one, that may lead to another scheme than HTTP's.
_ACTIVE_LINK = re.compile(
    r"""!\[
      | \]\((?!https?:// | [\w./\#-]+[\s)])
      | \]:(?![ \t]+(?:https?:// | [^\s:&\\]+(?:\s|$)))""",
    re.VERBOSE,
)
# What TeX in a browser may be asked for beside formulas.
_ACTIVE_TEX = re.compile(
    r"\\(?:bbox|class|cssId|data|href|html\w*|includegraphics|mmlToken|require|style|url)(?![A-Za-z])"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")


def _is_inert_markup(text: str) -> bool:
    return _MARKUP.fullmatch(text) is not None


def _is_inert_tex(text: str) -> bool:
    return _ACTIVE_TEX.search(text) is None


def _is_inert_html(text: str) -> bool:
    return _is_inert_markup(text) and _is_inert_tex(text)  # pages draw formulas in HTML, too


def _is_inert_markdown(text: str) -> bool:
    return _is_inert_html(text) and _ACTIVE_LINK.search(text) is None


def _is_inert_image(text: str) -> bool:
    return _BASE64.fullmatch(text) is not None  # a quote would end the attribute that it is put into


_CHECKS: dict[str, Callable[[str], bool]] = {
    "text/plain": lambda text: True,
    "text/latex": _is_inert_html,
    "text/html": _is_inert_html,
    "text/markdown": _is_inert_markdown,
    "image/png": _is_inert_image,
    "image/jpeg": _is_inert_image,
    "image/gif": _is_inert_image,
}


def is_inert(mime: str, value: Any) -> bool:
    """Whether an output of this type may be kept; False for any type that is not known to be harmless."""
    check = _CHECKS.get(mime)
    return check is not None and isinstance(value, str) and check(value)


def only_inert(data: dict[str, Any]) -> dict[str, Any]:
    """The inert ones among the forms of one output; a sentence in their place where none is."""
    kept = {mime: value for mime, value in data.items() if is_inert(mime, value)}
    if data and not kept:
        kept["text/plain"] = f"(an output of type {next(iter(data))} was left out: it is not inert)"
    return kept
