"""No code that comes with what is read is run unasked."""

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from probekit.errors import ModelError
from probekit.models.loading import load
from support.layers import LIBRARY, modules

BUNDLED = LIBRARY / "models" / "bundled" / "tiny-s"
CODE = "from pathlib import Path\nPath(__file__).with_name('code-ran').touch()\n"
UNASKED = "comes with Python code of its own, which is not run unasked.* --trust-remote-code"

# What runs code that it is given; torch.load and pickle read what may hold some.
RUNS_CODE = {"eval", "exec", "compile", "__import__", "system", "popen"}
READS_CODE = {("pickle", "load"), ("pickle", "loads"), ("torch", "load"), ("yaml", "load")}


def points_to_code(file: str, *names: str) -> Callable[[Path], None]:
    """Return what lets a JSON file of a model name a class in a file of code."""

    def change(folder: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text()) if path.exists() else {}
        content["auto_map"] = dict.fromkeys(names, "code.Mine")
        if file == "config.json":
            content["model_type"] = "of-its-own"
        if file == "tokenizer_config.json":
            content["tokenizer_class"] = "Mine"
            content["auto_map"] = {name: ["code.Mine", None] for name in names}
        path.write_text(json.dumps(content))

    return change


def generates(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(BUNDLED, tmp_path / "model"))
    for name in ("code.py", "configuration_mine.py", "modeling_mine.py", "tokenization_mine.py"):
        (folder / name).write_text(CODE)
    return folder


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (points_to_code("config.json", "AutoConfig", "AutoModelForCausalLM"), True),
        (points_to_code("tokenizer_config.json", "AutoTokenizer"), True),
        (points_to_code("generation_config.json", "GenerationConfig"), False),
        (points_to_code("processor_config.json", "AutoProcessor"), False),
        (generates, False),
    ],
)
def test_code_of_a_model_is_not_run(
    model: Path, change: Callable[[Path], None], refused: bool
) -> None:
    change(model)
    if refused:
        with pytest.raises(ModelError, match=UNASKED):
            load(str(model), device="cpu")
    else:
        load(str(model), device="cpu")  # what transformers knows without the code
    assert not list(model.rglob("code-ran"))


def calls(source: str) -> set[tuple[str, str]]:
    """Return the module (or nothing) and name of each function that a source calls."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(("", node.func.id))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            found.add((owner.id if isinstance(owner, ast.Name) else "?", node.func.attr))
    return found


def test_nothing_that_is_read_is_taken_for_code_or_a_pickle() -> None:
    made = {
        name: {
            call
            for call in calls(path.read_text(encoding="utf-8"))
            if call in READS_CODE or (call[1] in RUNS_CODE and call[0] in {"", "os"})
        }
        for name, path in modules().items()
    }
    assert {name: found for name, found in made.items() if found} == {
        # What processes of one launcher tell each other, through its store.
        "probekit.runs.ranks": {("pickle", "loads")},
        # Tensors alone (`weights_only`), of a training that goes on.
        "probekit.heads.training.loop": {("torch", "load")},
    }
