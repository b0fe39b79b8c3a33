"""Matplotlib figures as inline SVG: small, dark-mode safe, the same bytes every time."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "C0"  # the colour of text: matplotlib's name for the first colour of the cycle
MARK = "mark:"  # a gid that starts so becomes a class
# What stands in a drawing for the page's colours until the page sets them; no palette has them.
_TEXT, _OTHER = "#010203", "#0a0b{:02x}"
_PAGE = (_TEXT, *(_OTHER.format(number) for number in range(1, 256)))
# Said once, at the root, or what is so anyway.
_ROOT = (f"fill:{_TEXT}", "font-size:9.5px")
_NEEDLESS = frozenset((*_ROOT, "stroke-dashoffset:0", "stroke-linejoin:miter"))
_REFERENCE = re.compile(r"#([A-Za-z][\w.-]*)(?=$|\))")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")


def ink(number: int) -> str:
    """Return the colour of offset `number`, or of any other series that is numbered from 1.

    >>> ink(2)
    'C2'
    """
    return f"C{number}"


@contextmanager
def style(inks: Sequence[str]) -> Iterator[None]:
    """Draw within seaborn's style, with text as text and nothing random.

    Args:
        inks: The colour of text, then those of series 1, 2, ...
    """
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib.rcsetup import cycler

    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    settings = {
        **sns.axes_style("ticks"),
        **dict.fromkeys(inked, inks[0]),
        "axes.prop_cycle": cycler(color=inks),
        "font.family": ["sans-serif"],
        "font.size": 9.5,
        "axes.labelsize": 9.5,
        "axes.linewidth": 0.7,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "xtick.major.size": 3.0,
        "ytick.major.size": 3.0,
        "axes.formatter.use_mathtext": False,
        "axes.unicode_minus": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "probekit",
    }
    with mpl.rc_context(settings):
        yield


def inline(draw: "Callable[[], Figure]", prefix: str) -> str:
    """Return a figure as an SVG element to stand inside a page.

    Args:
        draw: Draws it in the colours `INK` and `ink(n)`; a gid that starts with `MARK` becomes
            the element's classes.
        prefix: Put before every id, so that two figures of a page share none.

    Returns:
        An `<svg>` element without width, height and namespaces; the colours are the
        page's: `ink(n)` is the CSS variable --on.
    """
    stream = io.StringIO()
    with style(_PAGE):
        draw().savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    root = ElementTree.fromstring(stream.getvalue())
    _strip(root)
    _rename(root, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"aria-hidden": "true", "focusable": "false", "style": ";".join(_ROOT)}
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
    text = re.sub(r"#0a0b([0-9a-f]{2})", lambda colour: f"var(--o{int(colour[1], 16)})", text)
    return text.replace(_TEXT, "currentColor")


def _strip(root: ElementTree.Element) -> None:
    """Drop metadata, what is unseen, namespaces, font names, needless digits and style."""
    for parent in list(root.iter()):
        for child in list(parent):
            line = _bare(child.tag) == "path"
            unseen = line and (child.attrib.get("style") == "fill: none" or not child.get("d"))
            if unseen or _bare(child.tag) in {"metadata", "style"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = _bare(element.tag)
        element.attrib = {_bare(name): _short(value) for name, value in element.attrib.items()}
        if style := element.attrib.pop("style", ""):
            said = ";".join(part for part in style.split(";") if part not in _NEEDLESS)
            element.attrib |= {"style": said} if said else {}
        element.text = (element.text or "").strip()
        element.tail = ""


def _bare(name: str) -> str:
    return name.rsplit("}", 1)[-1]


def _short(value: str) -> str:
    """Round to a tenth of a point, a sixth of a pixel at the largest size shown."""
    value = re.sub(r" ?font-family:[^;]*;?", "", value)
    value = re.sub(r" ?rotate\(-0 [^)]*\)", "", value).replace("; ", ";").replace(": ", ":")
    value = _LONG_NUMBER.sub(
        lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), value
    ).strip()
    return re.sub(r"\s*([MLQCz])\s*", r"\1", value) if value.startswith("M ") else value


def _rename(root: ElementTree.Element, prefix: str) -> None:
    """Make marked ids classes, number those referred to, drop the rest."""
    used = {reference for node in root.iter() for reference in _references(node)}
    names: dict[str, str] = {}
    for node in root.iter():
        if not node.attrib.get("transform", "."):
            del node.attrib["transform"]
        gid = node.attrib.pop("id", "")
        if gid.startswith(MARK):
            node.attrib["class"] = gid.removeprefix(MARK)
        elif gid in used:
            names[gid] = f"{prefix}{len(names)}"
            node.attrib["id"] = names[gid]
    _unwrap(root)
    for node in root.iter():
        for name in ("href", "clip-path", "style"):
            if "#" in node.attrib.get(name, ""):
                value = node.attrib[name]
                new = _REFERENCE.sub(
                    lambda reference: f"#{names.get(reference[1], reference[1])}", value
                )
                node.attrib[name] = new
    _inherit(root)


def _inherit(root: ElementTree.Element) -> None:
    """Drop of the style of each use of a mark what the mark says itself."""
    own = {f"#{node.attrib.get('id')}": _style(node) for node in root.iter("path")}
    for node in root.iter("use"):
        style = [part for part in _style(node) if part not in own[node.attrib["href"]]]
        node.attrib.pop("style", None)
        node.attrib |= {"style": ";".join(style)} if style else {}


def _style(node: ElementTree.Element) -> list[str]:
    return node.attrib.get("style", "").split(";")


def _unwrap(root: ElementTree.Element) -> None:
    """Put the children of bare groups in their place, and drop empty groups and definitions."""
    for parent in list(root.iter())[::-1]:
        children: list[ElementTree.Element] = []
        for child in parent:
            bare = child.tag == "g" and not child.attrib
            children += list(child) if bare else [child]
        parent[:] = [child for child in children if child.tag not in {"defs", "g"} or len(child)]


def _references(node: ElementTree.Element) -> list[str]:
    values = (node.attrib.get(name, "") for name in ("href", "clip-path", "style"))
    return [name for value in values for name in _REFERENCE.findall(value)]
