"""The page of a study of heads: every number, nothing of the run as markup, the same bytes."""

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from probekit.errors import RunError
from probekit.reports.heads import render
from probekit.reports.heads_tables import (
    cost_tables,
    strategy_tables,
    sweep_tables,
    training_table,
)
from probekit.reports.numbers import METRICS, MINUS, fixed

EVIL = "<script>alert(1)</script>"
STRATEGIES = ("base", "finetune", "heads-only", "joint", "heads-on-finetuned")


def rate(name: str, value: float, spread: float = 0.1) -> dict[str, float]:
    return {name: value, f"{name}_low": value - spread, f"{name}_high": value + spread}


def scores() -> list[dict[str, Any]]:
    return [
        {
            "domain": "all", "positions": positions, "strategy": strategy, "offset": offset,
            "blind": True, "n_positions": 1234, "n_documents": 17,
            **rate("nats", 3 + offset + 0.1 * place), **rate("bits", 2.5 - 0.1 * place),
            **rate("top1", 0.3 - 0.01 * place, 0.01), **rate("top5", 0.5 - 0.01 * place, 0.01),
        }
        for positions in ("all", "marginal")
        for place, strategy in enumerate(STRATEGIES)
        for offset in (1, 2)
    ]  # fmt: skip


def differences() -> list[dict[str, Any]]:
    return [
        {
            "domain": "all", "positions": row["positions"], "strategy": row["strategy"],
            "against": against, "offset": row["offset"], **rate("nats", 0.777, 0.001),
            **rate("top1", -0.02, 0.001), **rate("top5", -0.034, 0.001),
        }
        for row in scores()
        for against in ("finetune", "heads-only", "base")
        if row["strategy"] != against
    ]  # fmt: skip


def sweep() -> list[dict[str, Any]]:
    return [
        {
            "domain": "all", "readout": readout, "layer": layer, "offset": 2,
            **rate("nats", 5 + 0.1 * layer), **rate("bits", 1.0), **rate("top1", 0.2, 0.01),
            **(rate("nats_minus_head", 0.25) if readout == "linear" else dict.fromkeys(
                ("nats_minus_head", "nats_minus_head_low", "nats_minus_head_high"))),
            "validation_nats": 5.0,
        }
        for layer in (0, 1, 2)
        for readout in ("head", "linear")
    ]  # fmt: skip


def document() -> dict[str, Any]:
    trained = STRATEGIES[1:]
    share = {"share": 0.42, "share_low": 0.4, "share_high": 0.44, "reason": None}
    none = {"share": None, "share_low": None, "share_high": None, "reason": "too small a gap"}
    return {
        "schema": "probekit.heads/1",
        "run": {
            "id": "x", "created": "2026-01-01T00:00:00+00:00", "command": "probekit heads",
            "seconds": 12.5, "stage_seconds": {"train joint": 3.25}, "seed": 0, "device": "cpu",
            "dtype": "float32", "versions": {"torch": "2"}, "settings": {"model": "tiny"},
        },
        "model": {
            "name": "tiny", "repository": None, "revision": None, "architecture": "Llama",
            "n_layers": 2, "d_model": 8, "vocab_size": 64, "n_parameters": 1000,
            "fingerprint": "ab",
        },
        "text": [{
            "domain": "all", "source": "words", "sha256": "ab" * 32,
            "documents": {"train": 3, "validation": 1, "test": 1},
            "tokens": {"train": 30, "validation": 10, "test": 10},
        }],
        "verdict": ["The order was found.", "It costs something."],
        "scores": scores(),
        "differences": differences(),
        "gaps": [
            {"domain": "all", "strategy": strategy, "offset": 2, "metric": metric}
            | (share if metric == "nats" else none)
            for strategy in trained[2:]
            for metric in ("top5", "nats")
        ],
        "training": [
            {
                "strategy": strategy, "n_parameters": 4321, "best_step": 7, "stopped_early": False,
                "seconds": 3.5, "learning_rate": 0.001, "head_rate_factor": 4.0,
                "joint": strategy == "joint", "mix": False, "finetuned": False,
            }
            for strategy in trained
        ],
        "curves": [
            {
                "strategy": strategy, "stage": "heads", "step": step, "tokens": 100 * step,
                "part": part, "offset": offset, "nats": 5.0 - step / 10, "rate": 0.001,
            }
            for strategy in trained
            for step in (0, 5, 10)
            for part in ("train", "validation")
            for offset in (1, 2)
        ],
        "sweep": sweep(),
        "marginal": [],
        "weights": {"joint": {"heads": "heads-joint.safetensors", "adapter": None}},
        "checks": [],
        "warnings": [{"code": "estimate", "message": "an estimate"}],
    }  # fmt: skip


class Page(HTMLParser):
    """What a parser makes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attrs)
        self.ids += [known["id"] or ""] if "id" in known else []
        self.links += [known[name] or "" for name in ("href", "src") if name in known]


def test_the_page_is_the_same_bytes_and_loads_nothing() -> None:
    page = render(document())
    assert page == render(document())
    found = Page(page)
    assert "script" not in found.tags
    assert all(link.startswith("#") or link == "data:," for link in found.links)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert "default-src 'none'; style-src 'unsafe-inline'" in page


def test_every_sentence_and_warning_is_there() -> None:
    page, given = render(document()), document()
    for sentence in [*given["verdict"], *(row["message"] for row in given["warnings"])]:
        assert sentence in page
    assert "heads-joint.safetensors" in page


def test_nothing_of_the_run_is_markup() -> None:
    clean = Page(render(document()))

    def poisoned(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: poisoned(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [poisoned(each, key) for each in value]
        # Words that other rows are found by stay.
        fixed_words = {"schema", "positions", "offset", "metric", "readout", "part", "against"}
        return EVIL + value if isinstance(value, str) and key not in fixed_words else value

    page = render(poisoned(document()))
    assert EVIL not in page
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "script" not in Page(page).tags
    assert clean.ids == Page(page).ids


def test_the_tables_show_the_numbers() -> None:
    given = document()
    (table,) = strategy_tables(given)
    assert len(table.rows) == 2 * len(STRATEGIES)
    by_row = {(row[0].text, row[1].text): row for row in table.rows}
    row = by_row["joint with LoRA", "t+2"]
    (own,) = [
        each for each in given["scores"]
        if (each["strategy"], each["offset"], each["positions"]) == ("joint", 2, "marginal")
    ]  # fmt: skip
    named = dict(zip(table.head, row, strict=True))
    assert named["Cross-entropy (nats)"].text == fixed(own["nats"], 3)
    assert named["Top-5 (%)"].text == fixed(100 * own["top5"], 1)
    assert named["Nats against the baseline"].text == "0.777"
    assert named["Top-5 against the baseline (points)"].interval == f"{MINUS}3.5 to {MINUS}3.3"
    assert named["Gap closed, nats (%)"].text == "42"
    assert named["Gap closed, top-5 (%)"].missing == "too small a gap"
    (cost,) = cost_tables(given)
    assert [cell.missing for cell in cost.rows[1][3:5]] == ["it is the reference itself"] * 2
    assert cost.rows[3][3].text == "0.777"


def test_the_sweep_and_the_training_show_theirs() -> None:
    (table,) = sweep_tables(document())
    assert [row[0].text for row in table.rows] == ["0", "1", "2"]
    assert table.rows[1][1].text == fixed(5.1, METRICS["nats"].digits)
    assert table.rows[1][3].text == "0.250"
    rows = {row[0].text: row for row in training_table(document()).rows}
    assert rows["joint with LoRA"][4].text == "0.001"
    assert rows["joint with LoRA"][5].text == "0.004"
    assert rows["heads only, frozen model"][4].missing == "frozen"


def test_a_study_without_a_sweep_has_no_section_for_it() -> None:
    without = document() | {"sweep": []}
    assert 'id="sweep"' in render(document())
    assert 'id="sweep"' not in render(without)


def test_each_figure_has_words() -> None:
    page = render(document())
    labels = re.findall(r'role="img" aria-label="([^"]+)"', page)
    assert len(labels) == 4 + 2 + 2
    assert "Best at t+2: model as it came, marginalized, 5.000 nats" in labels


def test_another_schema_is_refused() -> None:
    other = copy.deepcopy(document()) | {"schema": "probekit.heads/2"}
    with pytest.raises(RunError, match=r"not of schema probekit\.heads/1"):
        render(other)
