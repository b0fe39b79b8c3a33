"""Names of models, texts and run folders."""

import json
from collections.abc import Callable
from pathlib import Path

from hostile.cases import Case
from hostile.texts import given, rows


def called(model: str) -> Callable[[Path], list[str]]:
    """Return the analysis of a model of that name."""

    def make(folder: Path) -> list[str]:
        (folder / "outputs" / "checkpoint-600").mkdir(parents=True)
        return ["analyze", "--model", model, "--dry-run"]

    return make


def text_called(name: str) -> Callable[[Path], list[str]]:
    return given(f"{name}=a.jl", a_jl=rows())


def pairs(template: str) -> Callable[[Path], list[str]]:
    written = "".join(
        json.dumps({"source": f"a {n}", "target": f"b {n} c d e f g"}) + "\n" for n in range(40)
    )
    return given("a.jl", "--pair-template", template, a_jl=written)


NONE = "A model is a short name (`probekit models` lists them), a Hub repository"
PRINTED = "the name of a text must be of 1..100 characters that can be printed, got "
ONCE = "--pair-template must be auto, paper or a text with {source} in it once, … got "

CASES = (
    Case("a mistyped model", called("lama"), "no model called 'lama': did you mean llama"),
    Case("no model", called(""), "there is no model called ''"),
    Case("blanks", called("   "), "there is no model called '   '"),
    Case("a folder that is not there", called("./mine"), "There is no folder mine here."),
    Case(
        "a mistyped checkpoint",
        called("outputs/checkpoint-500"),
        "There is no folder outputs/checkpoint-500 here, but there is outputs/checkpoint-600",
    ),
    Case("an empty folder", called("outputs"), "outputs has no config.json, so it is no model"),
    Case("the working folder", called("."), ". has no config.json, so it is no model folder"),
    Case("two dashes", called("out/llama--sft"), "no model called 'out/llama--sft': There is no"),
    Case("a leading dash", called("out/-x"), "no model called 'out/-x': There is no folder"),
    Case("a dot at the end", called("out/name."), "no model called 'out/name.': There is no"),
    Case("out of the folder", called("a/.."), "no model called 'a/..'"),
    Case(
        "far out of it", called("../../nowhere/at-all"), "There is no folder ../../nowhere/at-all"
    ),
    Case("97 characters", called("o/" + "x" * 97), "no model called 'o/xxx"),
    Case("5,000 characters", called("x" * 5000), NONE),
    Case("a NUL", called("a\0b"), r"there is no model called 'a\x00b'"),
    Case("an escape", called("\x1b[31m"), r"there is no model called '\x1b[31m'"),
    Case("right to left", called("\u202etxt"), r"there is no model called '\u202etxt'"),
    Case("nobody's model", called("~nobody-of-this-name/m"), NONE),
    Case("an address", called("https://example.com/m"), "no model called 'https://example.com/m'"),
    Case("three parts", called("a/b/c"), "no model called 'a/b/c': There is no folder a/b/c"),
    Case("out of reach", called("no-one/no-model"), "no-one/no-model is out of reach from here"),
    Case("a text called all", text_called("all"), "need different names, none of them 'all'", 2),
    Case("a text of two lines", text_called("a\nb"), PRINTED + r"'a\nb'", 2),
    Case("a text with an escape", text_called("\x1b[31m"), PRINTED + r"'\x1b[31m'", 2),
    Case("a text right to left", text_called("\u202eabc"), PRINTED + r"'\u202eabc'", 2),
    Case("a text of blanks", text_called("  "), PRINTED + "' '", 2),
    Case(
        "a text of 3,000 characters",
        text_called("x" * 3000),
        PRINTED + "'xxxxxxxxxxxx...xxxxxxxxxxxxx",
        2,
    ),
    Case("a text with a path", text_called("../../x"), "Text ../../x (a.jl)", 0),
    Case("a text of markup", text_called("<b>x</b>"), "Text <b>x</b> (a.jl)", 0),
    Case("a template without a source", pairs("{nope}"), ONCE + "'{nope}'", 2),
    Case("a template that reaches", pairs("{source.__class__}"), ONCE + "'{source.__class__", 2),
    Case("a template that grows", pairs("{source!r:>99999999}"), ONCE + "'{source!r", 2),
    Case("a template of a brace", pairs("{"), ONCE + "'{'", 2),
)
