"""Recipes are the rows of the paper's table, and refuse what makes no sense."""

from dataclasses import replace
from typing import Any

import pytest

from probekit.errors import SettingsError
from probekit.heads.training.recipes import RATES, RECIPES, Recipe, learning_rate


def test_the_rows_of_the_table_are_there_by_name() -> None:
    table = {
        name: (recipe.joint, recipe.warmup_epochs, recipe.head_rate_factor, recipe.mix)
        for name, recipe in RECIPES.items()
    }
    assert table == {
        "heads-only": (False, 0, 1.0, False),
        "joint": (True, 0, 1.0, False),
        "joint-warmup": (True, 1, 1.0, False),
        "joint-diff": (True, 0, 4.0, False),
        "joint-warmup-diff": (True, 1, 4.0, False),
        "joint-diff-whs": (True, 0, 4.0, True),
        "joint-diff-whs-rms": (True, 0, 4.0, True),
        "finetune": (True, 0, 1.0, False),
        "heads-on-finetuned": (False, 0, 1.0, False),
        "heads-from-probes": (False, 0, 1.0, False),
        "joint-from-probes": (True, 0, 1.0, False),
    }
    assert [name for name in RECIPES if RECIPES[name].probed] == [
        "heads-from-probes", "joint-from-probes",
    ]  # fmt: skip
    normed = [name for name, recipe in RECIPES.items() if recipe.normalise]
    assert normed == ["joint-diff-whs-rms"]
    assert [name for name, recipe in RECIPES.items() if recipe.finetuned] == ["heads-on-finetuned"]


def test_a_warm_up_is_the_heads_alone_at_the_rate_of_the_model() -> None:
    recipe = replace(RECIPES["joint-warmup-diff"], warmup_epochs=3, learning_rate=0.5)
    assert recipe.warmup() == replace(
        RECIPES["heads-only"], name=recipe.name, epochs=3, learning_rate=0.5
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"balance": "equal"}, "balance must be rms or none"),
        ({"products": "int8"}, "products must be auto, model or bfloat16"),
        ({"joint": False, "warmup_epochs": 1}, "warmup_epochs come before joint training"),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(wrong: dict[str, Any], message: str) -> None:
    # As a configuration file would give it: no type has been checked.
    values: Any = {"name": "mine"} | wrong
    if any(isinstance(value, str) for value in wrong.values()):
        recipe = Recipe("mine")
        for name, value in wrong.items():
            object.__setattr__(recipe, name, value)
        with pytest.raises(SettingsError, match=message):
            recipe.__post_init__()
    else:
        with pytest.raises(SettingsError, match=message):
            Recipe(**values)


def test_the_rule_is_half_the_rate_of_the_pretraining_and_the_table_breaks_it_twice() -> None:
    differing = {
        size
        for size, rate in RATES["paper-table"].items()
        if rate != pytest.approx(RATES["paper-rule"][size])
    }
    assert differing == {"1.4b", "2.8b"}
    assert learning_rate("paper-table", "EleutherAI/pythia-1.4b-deduped", d_model=1) == 8e-5


def test_the_rate_by_width_is_near_the_rule_where_there_is_one() -> None:
    widths = {"70m": 512, "410m": 1024, "1b": 2048, "2.8b": 2560, "12b": 5120}
    for size, width in widths.items():
        rule = learning_rate("paper-rule", f"pythia-{size}", width)
        assert 0.6 < learning_rate("width", "any", width) / rule < 1.4


@pytest.mark.parametrize("model", ["gpt2", "tiny", "EleutherAI/pythia-7b", "other-410m"])
def test_a_preset_that_does_not_know_a_model_says_so(model: str) -> None:
    with pytest.raises(SettingsError, match="the rates of paper-table are of Pythia 410m, 1b"):
        learning_rate("paper-table", model, d_model=64)
    with pytest.raises(SettingsError, match="preset must be paper-table, paper-rule or width"):
        learning_rate("fast", model, d_model=64)
