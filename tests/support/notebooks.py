"""Run the notebooks from top to bottom, and keep their small outputs.

PYTHONPATH=tests:. python -m support.notebooks    # writes the outputs again
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
MOST = 100_000  # characters of an output that is kept
# What tells one run from the next, and nothing else.
_CHANGING = re.compile(r": \d+\.\d s\b|0x[0-9a-f]{6,}")


def executed(path: Path) -> dict[str, Any]:
    """Run a notebook in the working folder, and return it with its outputs.

    Raises:
        Exception: Whatever a cell raises.
    """
    from IPython.core.displayhook import DisplayHook
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from matplotlib import pyplot
    from matplotlib_inline.backend_inline import configure_inline_support

    results: list[dict[str, Any]] = []

    class Hook(DisplayHook):
        """Keep what a cell ends with, in all its forms, and print none of it."""

        write_output_prompt = finish_displayhook = lambda _: None

        def write_format_data(self, format_dict: dict[str, Any], _: Any = None) -> None:
            results.append(format_dict)

    class Shell(InteractiveShell):
        displayhook_class = Hook

        def enable_gui(self, gui: str | None = None) -> None:
            """Wait for no window: figures are shown below their cell."""

    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    # As in a kernel that was started now: figures are told of to each shell once.
    configured: Any = configure_inline_support
    configured.current_backend = "unset"
    shell = Shell.instance(history_manager=None)
    try:
        for number, cell in enumerate(code, 1):
            results.clear()
            with capture_output() as captured:
                run: Any = shell.run_cell  # which has no annotations
                run("".join(cell["source"]), store_history=True).raise_error()
            shown = [*results, *(each.data for each in captured.outputs)]
            outputs = list(_kept(captured.stdout, shown, number))
            cell |= {"execution_count": number, "outputs": outputs}
    finally:
        Shell.clear_instance()
        pyplot.close("all")
        pyplot.switch_backend("agg")
    return notebook


def _kept(printed: str, shown: list[dict[str, Any]], number: int) -> Iterator[dict[str, Any]]:
    text = _CHANGING.sub("", printed)
    if text:
        lines = text.splitlines(keepends=True)
        yield {"output_type": "stream", "name": "stdout", "text": lines}
    for data in shown:
        kept = {
            kind: value.splitlines(keepends=True) if "text" in kind else value
            for kind, value in data.items()
            if len(value) < MOST
        }
        result = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
        yield result | {"data": kept}


def write() -> None:
    """Run all notebooks, and write them with their outputs."""
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            made = executed(path)
        text = json.dumps(made, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
