"""What all tests share: two cores, no network, and tiny models.

Nothing here imports probekit at the top: the hook that checks shapes is installed later.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from probekit.pipelines.analysis.finished import Run


def pytest_configure() -> None:
    """Set what torch and the Hub read once, at their import, here and in subprocesses."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    os.environ.setdefault("OMP_NUM_THREADS", "2" if alone else "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    # A busy machine is no failure: no limit on the time of an example, or of drawing one.
    settings.register_profile(
        "probekit", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("probekit")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose machine is not this one, and say so."""
    # Where CI is set a missing browser is a failure, not a reason to skip.
    missing = shutil.which("chromium") is None and "CI" not in os.environ
    if item.get_closest_marker("browser") and missing:
        pytest.skip("needs Debian's chromium")
    if item.get_closest_marker("gpu") and not _has_gpu():
        pytest.skip("needs an accelerator")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def tiny_llama() -> "PreTrainedModel":
    """Return a random Llama of three blocks, float32, to be read and never changed."""
    from support.architectures import build

    return build("llama")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a saved model of two blocks that knows a little of `text_file`; never changed."""
    from support import tiny_run

    folder = tmp_path_factory.mktemp("world") / "mini"
    tiny_run.model().save_pretrained(folder)
    tiny_run.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a JSONL file of forty short documents."""
    from support import tiny_run

    return tiny_run.jsonl(tmp_path_factory.mktemp("text") / "words.jsonl", tiny_run.documents())


@pytest.fixture(scope="session")
def asked(model_folder: Path, text_file: Path) -> dict[str, Any]:
    """Return the settings of `finished_run`."""
    from support import tiny_run

    return {**tiny_run.SETTINGS, "model": str(model_folder), "text": (str(text_file),)}


@pytest.fixture(scope="session")
def finished_run(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """Return a finished run of the tiny model on the small text; never changed."""
    import probekit

    return probekit.analyze(**asked, output=tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return Debian's chromium."""
    playwright_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("the browser tests need Debian's chromium, and CI must run them")
    with playwright_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        with playwright.chromium.launch(executable_path=path, args=arguments) as found:
            yield found


@pytest.fixture
def open_page(browser: Any, files: dict[str, Path]) -> Iterator[Any]:
    """Return a function that opens one of a test file's `files`, watched, in its own context."""
    from support.pages.watched_pages import Seen

    opened: list[Any] = []

    def start(name: str = "plain", **options: Any) -> tuple[Any, Seen]:
        # Without it the page scrolls softly, and a click comes before what it is meant for.
        usual = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        context = browser.new_context(**(usual | options))
        opened.append(context)
        page, seen = context.new_page(), Seen()
        page.on("console", lambda message: seen.problems.append(message.text))
        page.on("pageerror", lambda error: seen.problems.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.goto(files[name].as_uri())
        return page, seen

    yield start
    for context in opened:
        context.close()
