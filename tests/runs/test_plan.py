"""What a run will take."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from probekit.marginalization.branch_engine import TOKENS_ON_CPU
from probekit.models import devices
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes import waves as probe_waves
from probekit.runs import plan


@pytest.fixture
def anatomy(tiny_llama: PreTrainedModel) -> Anatomy:
    return find_anatomy(tiny_llama)


def test_a_plan_counts_by_hand(anatomy: Anatomy) -> None:
    made = plan.make(anatomy, n_blocks=10, block=16, layers=(0, 3), offsets=3, batch_size=4)
    d, v = anatomy.d_model, anatomy.vocab_size
    assert (made.n_tokens, made.n_cells, made.batch_size) == (160, 6, 4)
    assert made.n_probe_parameters == 6 * (d * d + d + v)
    assert made.store_bytes == 160 * 2 * d * 4


def test_further_sites_are_planned_from_layer_1_on_one_beside_the_first(anatomy: Anatomy) -> None:
    one, three = (
        plan.make(anatomy, 10, 16, (0, 1, 3), offsets=2, batch_size=4, n_sites=n) for n in (1, 3)
    )
    assert (one.n_cells, three.n_cells) == (6, 6 + 2 * 4)
    assert three.store_bytes == 2 * one.store_bytes


def test_the_batch_follows_free_memory(anatomy: Anatomy, monkeypatch: pytest.MonkeyPatch) -> None:
    def planned(free: int) -> plan.Plan:
        monkeypatch.setattr(plan, "free_bytes", lambda _: free)
        return plan.make(anatomy, 1000, 128, (0, 1, 2, 3), 4)

    rich, poor = planned(2**36), planned(2**23)
    assert (rich.batch_size, rich.store) == (plan.MOST_BLOCKS, "memory")
    assert (poor.batch_size, poor.store) == (2, "live")
    assert planned(2**22).batch_size == 1
    each = anatomy.vocab_size * 4 * plan.LOGIT_COPIES
    assert rich.branch_tokens == TOKENS_ON_CPU
    assert planned(2**22).branch_tokens == int(2**22 * plan.BATCH_SHARE // each)


# Layers L, width and vocabulary.
SHAPES = {
    "gpt2": (12, 768, 50_257),
    "qwen3-0.6b": (28, 1024, 151_936),
    "llama-3.2-1b": (16, 2048, 128_256),
    "llama-3.1-8b": (32, 4096, 128_256),
    "llama-3.1-70b": (80, 8192, 128_256),
}


@pytest.mark.parametrize(
    ("gigabytes", "waves"),
    [(16, (1, 3, 6, 44, 324)), (24, (1, 2, 4, 33, 324)), (80, (1, 1, 2, 9, 81))],
)
def test_no_model_is_refused_that_one_probe_at_a_time_could_do(
    gigabytes: int, waves: tuple[int, ...], anatomy: Anatomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan, probe_waves):
        monkeypatch.setattr(module, "free_bytes", lambda _: gigabytes * 10**9)
    found = []
    for n_layers, width, vocabulary in SHAPES.values():
        head = nn.Linear(width, vocabulary, bias=False, device="meta", dtype=torch.bfloat16)
        large = replace(anatomy, output_embeddings=head, d_model=width)
        made = plan.make(large, 800, 256, range(n_layers + 1), 4)
        found.append(made.n_waves)
        assert made.fit_bytes <= gigabytes * 10**9
        assert f"{made.n_waves} waves" in made.line() or made.n_waves == 1
    assert tuple(found) == waves


def test_residuals_are_kept_on_disk_where_memory_has_no_room_for_them(
    anatomy: Anatomy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def store(free: int, scratch: Path | None) -> str:
        monkeypatch.setattr(plan, "free_bytes", lambda _: free)
        return plan.make(anatomy, 1000, 128, (0, 1), 1, scratch=scratch).store

    kept = 1000 * 128 * 2 * anatomy.d_model * 4
    assert store(3 * kept, tmp_path) == "memory"
    assert store(2 * kept, tmp_path) == "disk"
    assert store(2 * kept, None) == "live"
    usage = SimpleNamespace(free=kept)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert store(2 * kept, tmp_path) == "live"


def test_a_plan_is_one_line(anatomy: Anatomy) -> None:
    line = plan.make(anatomy, 10, 16, (0, 3), 3).line()
    assert "160 tokens, 6 probes" in line
    assert "for all probes at once" in line
    assert "\n" not in line


def test_a_shortlist_takes_less_than_the_vocabulary(
    anatomy: Anatomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = nn.Linear(8, 100_000, bias=False, device="meta")
    large = replace(anatomy, output_embeddings=head)
    monkeypatch.setattr(plan, "seconds_each", lambda _, n_rows: n_rows * 1e-6)
    n_rows, n_train = 1_000 + 20 * 100, 10_000.0
    looks = plan.USUAL_PASSES * n_rows * n_train + 100_000 * (1_024 + 512 + 500)
    assert plan.cell_seconds(large, n_train, 500.0) == pytest.approx(looks * 1e-6)
    whole = plan.USUAL_PASSES * anatomy.vocab_size * n_train
    assert plan.cell_seconds(anatomy, n_train, 500.0) == pytest.approx(whole * 1e-6)


def test_a_second_model_is_left_out_where_twice_the_model_does_not_fit(
    tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(parameter.nbytes for parameter in tiny_llama.parameters())
    for free, room in ((2 * size, True), (size, False)):
        monkeypatch.setattr(plan, "free_bytes", lambda _, free=free: free)
        assert plan.room_for_another(tiny_llama) == room
    made = plan.make(find_anatomy(tiny_llama), 10, 16, (0, 3), 3)
    assert "untrained" not in made.line()
    assert "without the control on an untrained" in replace(made, another=False).line()


def test_of_several_processes_each_has_its_share_and_the_last_layer(anatomy: Anatomy) -> None:
    alone = plan.make(anatomy, 10, 16, range(5), 3)
    found = [plan.make(anatomy, 10, 16, range(5), 3, n_ranks=n) for n in (2, 5, 9)]
    each = alone.store_bytes // 5
    assert [made.store_bytes // each for made in found] == [4, 2, 2]
    assert {made.n_cells for made in found} == {alone.n_cells}
    assert [made.fit_bytes * 15 // alone.fit_bytes for made in found] == [9, 3, 3]
    assert "in each of 2 processes residuals" in found[0].line()


def test_free_memory_is_some() -> None:
    assert devices.free_bytes(torch.device("cpu")) > 2**20
