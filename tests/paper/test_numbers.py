"""What the paper reports: complete, shares of its positions, found by a model's name."""

import pytest

from probekit.paper import numbers
from probekit.pipelines.reproduction import reproduce


def test_the_papers_file_is_complete() -> None:
    assert len(numbers.models()) == 12
    for model in numbers.models():
        assert set(model.figure_1) == set(model.figure_4) == {"open_ended", "translation"}
        assert all(0 < second < first < 1 for first, second in model.figure_1.values())
    shown = [model for model in numbers.models() if model.figure_2]
    assert len(shown) == 10
    assert all(
        ("first_depth" in (m.figure_2 or {})) != ("never" in (m.figure_2 or {})) for m in shown
    )
    assert len(numbers.strategies()) == 7
    assert {tuple(s.top5) for s in numbers.strategies()} == {
        tuple(numbers.source_of("table_1")["models"])
    }
    labels = {
        name: numbers.source_of(name)["label"] for name in ("figure_1", "figure_2", "figure_4")
    }
    assert (set(labels.values()), numbers.source_of("table_1")["label"]) == ({"FIG"}, "READ-P")
    assert all(numbers.choices(name) for name in reproduce.SAMPLES)


def test_the_papers_points_are_shares_of_its_positions() -> None:
    for model in numbers.models():
        for task in numbers.TASKS:
            for share in model.shares(task):
                assert share.value * share.n == pytest.approx(round(share.value * share.n), abs=0.1)
    best = {key: max(s.top5[key][1] for s in numbers.strategies()[1:]) for key in ("pythia-410m",)}
    assert best == {"pythia-410m": 0.590}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EleutherAI/pythia-410m", "Pythia 410M"),
        ("/data/models/pythia-6.9b-deduped", "Pythia 6.9B"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "Llama-3 8B"),
        ("meta-llama/Llama-3.1-8B", None),
        ("pythia-1b-of-mine", None),
    ],
)
def test_a_model_is_the_papers_by_its_repositorys_name(name: str, expected: str | None) -> None:
    found = numbers.match(name)
    assert (found and found.name) == expected
