"""What a run will take."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import PreTrainedModel

from probekit.errors import SettingsError
from probekit.marginalization.branch_engine import TOKENS_ON_CPU
from probekit.models import devices
from probekit.models.anatomy import Anatomy, find_anatomy
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
    with pytest.raises(SettingsError, match="are free: read fewer --layers, or fewer --offsets"):
        planned(2**20)


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


def test_a_plan_is_one_line_with_a_time(anatomy: Anatomy) -> None:
    made = plan.make(anatomy, 10, 16, (0, 3), 3)
    seconds = plan.seconds(made, anatomy)
    assert 0 < seconds < 60
    line = made.line(seconds)
    assert "160 tokens, 6 probes" in line
    assert "about 1 minute" in line
    assert "\n" not in line


def test_free_memory_is_some() -> None:
    assert devices.free_bytes(torch.device("cpu")) > 2**20
