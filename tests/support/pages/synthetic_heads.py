"""A small study of heads, made up: every part of heads.json, numbers that tell rows apart."""

from typing import Any

STRATEGIES = ("base", "finetune", "linear", "heads-only", "joint", "heads-on-finetuned")
TRAINED = tuple(name for name in STRATEGIES if name not in ("base", "linear"))


def rate(name: str, value: float, spread: float = 0.1) -> dict[str, float]:
    return {name: value, f"{name}_low": value - spread, f"{name}_high": value + spread}


def scores() -> list[dict[str, Any]]:
    return [
        {
            "domain": "all", "positions": positions, "strategy": strategy, "offset": offset,
            "blind": True, "n_positions": 1234, "n_documents": 17,
            **rate("nats", 3 + offset + 0.1 * place + shift), **rate("bits", 2.5 - 0.1 * place),
            **rate("top1", 0.3 - 0.01 * place, 0.01),
            **rate("top5", 0.5 - 0.01 * place - shift, 0.01),
        }
        for positions, shift in (("all", 0.07), ("marginal", 0.0))
        for place, strategy in enumerate(STRATEGIES)
        for offset in (1, 2)
        if (strategy, offset) != ("linear", 1)
    ]  # fmt: skip


def differences() -> list[dict[str, Any]]:
    return [
        {
            "domain": "all", "positions": row["positions"], "strategy": row["strategy"],
            "against": against, "offset": row["offset"], **rate("nats", 0.777, 0.001),
            **rate("top1", -0.02, 0.001), **rate("top5", -0.034, 0.001),
        }
        for row in scores()
        for against in ("finetune", "linear", "heads-only", "base")
        if row["strategy"] != against
    ]  # fmt: skip


def sweep() -> list[dict[str, Any]]:
    return [
        {
            "domain": "all", "readout": readout, "layer": layer, "offset": 2,
            **rate("nats", 5 + 0.1 * layer), **rate("bits", 1.0), **rate("top1", 0.2, 0.01),
            **(rate("nats_minus_head", 0.25) if readout == "linear" else dict.fromkeys(
                ("nats_minus_head", "nats_minus_head_low", "nats_minus_head_high"))),
            # The best by validation is not the best on test, which is layer 0.
            "validation_nats": 5.0 - (layer == 1),
        }
        for layer in (0, 1, 2)
        for readout in ("head", "linear")
    ]  # fmt: skip


def document() -> dict[str, Any]:
    share = {"share": 0.42, "share_low": 0.4, "share_high": 0.44, "reason": None}
    none = {"share": None, "share_low": None, "share_high": None, "reason": "too small a gap"}
    return {
        "schema": "probekit.heads/1",
        "run": {
            "id": "x", "created": "2026-01-01T00:00:00+00:00", "command": "probekit heads",
            "seconds": 12.5, "stage_seconds": {"train joint": 3.25}, "seed": 0, "device": "cpu",
            "dtype": "float32", "separator": "eos", "versions": {"torch": "2"},
            "settings": {"model": "tiny"},
        },
        "model": {
            "name": "tiny", "repository": None, "revision": None, "architecture": "Llama",
            "n_layers": 2, "d_model": 8, "vocab_size": 64, "n_parameters": 1000,
            "fingerprint": "ab" * 32,
        },
        "text": [{
            "domain": "all", "source": "words", "sha256": "ab" * 32,
            "documents": {"train": 3, "validation": 1, "test": 1},
            "tokens": {"train": 30, "validation": 10, "test": 10},
            "whole_tokens": 50, "shortened": 0, "copied": None,
            "lost_share": 0.0, "unknown_share": 0.0,
        }],
        "verdict": ["The order was found.", "It costs something."],
        "scores": scores(),
        "differences": differences(),
        "gaps": [
            {"domain": "all", "strategy": strategy, "offset": 2, "metric": metric}
            | (share if metric == "nats" else none)
            for strategy in TRAINED[1:]
            for metric in ("top5", "nats")
        ],
        "training": [
            {
                "strategy": strategy, "n_parameters": 4321,
                "left_out": "trained too little" if strategy == "heads-only" else None,
                "best_steps": {"1": 7, "2": 7}, "stopped_early": False,
                "seconds": 3.5, "learning_rate": 0.001, "head_rate_factor": 4.0,
                "joint": strategy == "joint", "mix": False, "normalise": False, "finetuned": False,
            }
            for strategy in TRAINED
        ],
        "curves": [
            {
                "strategy": strategy, "stage": "heads", "step": step, "tokens": 100 * step,
                "part": part, "offset": offset, "rate": 0.001,
                "nats": 5.0 - step / 10 - 0.3 * (part == "train"),
            }
            for strategy in TRAINED
            for step in (0, 5, 10)
            for part in ("train", "validation")
            for offset in (1, 2)
        ],
        "probe": {"layer": 1, "validation": {"2": 4.6}},
        "sweep": sweep(),
        "marginal": [],
        "weights": {"joint": {"heads": "heads-joint.safetensors", "adapter": None}},
        "checks": [],
        "warnings": [{"code": "estimate", "message": "an estimate"}],
    }  # fmt: skip


EVIL = "<script>alert(1)</script>"
# Words that other rows are found by stay as they are.
_KEPT = {"schema", "positions", "offset", "metric", "readout", "part", "against"}


def poisoned(value: Any, key: str = "") -> Any:
    """Return content with markup in front of every text."""
    if isinstance(value, dict):
        return {name: poisoned(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each, key) for each in value]
    return EVIL + value if isinstance(value, str) and key not in _KEPT else value


def hostile() -> dict[str, Any]:
    """Return the study with markup in front of every text of the run."""
    found: dict[str, Any] = poisoned(document())
    return found
