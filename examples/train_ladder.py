"""Train the built-in ladder: three sizes of one Llama, and one size trained to see further.

    python examples/train_ladder.py --output probekit/models/bundled

`tiny-s`, `tiny-m` and `tiny-l` learn the next token of the `train` part of the built-in
text. `tiny-mtp` has the shape of `tiny-m` and learns the tokens at t+1 … t+4 at once, in
the way of Gloeckle et al. (2024): the last block serves the next token, and a block for
each further offset reads the same residual stream that the last block reads; final norm
and unembedding are shared. Those blocks are kept in `heads.safetensors`.

`--myopic` trains without gradients of later tokens (`probekit.models.myopic_attention`).

Weights are those with the lowest loss on the `early-stop` part. A run that was stopped
goes on from its last checkpoint when the same command is given again.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from probekit.data import builtin_text
from probekit.models.loading import fingerprint, load
from probekit.models.myopic_attention import make_myopic

VOCABULARY = 2_048
END = "<|endoftext|>"
BLOCK = 256
BATCH = 16
EVALUATE_EVERY = 200


@dataclass(frozen=True)
class Recipe:
    """Shape and schedule of one model; widths are multiples of 32 for the matrix units."""

    width: int
    layers: int
    heads: int
    learning_rate: float
    epochs: int
    horizon: int = 1
    myopic: bool = False


RECIPES = {
    "tiny-m": Recipe(width=128, layers=6, heads=4, learning_rate=3e-3, epochs=6),
    "tiny-mtp": Recipe(width=128, layers=6, heads=4, learning_rate=3e-3, epochs=6, horizon=4),
    "tiny-s": Recipe(width=64, layers=6, heads=4, learning_rate=4e-3, epochs=6),
    "tiny-l": Recipe(width=192, layers=10, heads=6, learning_rate=2e-3, epochs=5),
}


class FurtherHeads(nn.Module):
    """One decoder block per offset 2 … horizon, beside the model's own last block."""

    def __init__(self, model: LlamaForCausalLM, horizon: int) -> None:
        super().__init__()
        self.last = [model.model.layers[-1]]  # in a list: it is not a part of this module
        self.blocks = nn.ModuleDict(
            {
                str(offset): LlamaDecoderLayer(model.config, model.config.num_hidden_layers - 1)
                for offset in range(2, horizon + 1)
            }
        )
        for block in self.blocks.values():
            block.apply(model._init_weights)

    def losses(self, model: LlamaForCausalLM, ids: Tensor) -> Iterator[Tensor]:
        """Yield the mean cross-entropy in nats at each offset 1 … horizon."""
        seen = {}

        def remember(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, object]) -> None:
            seen.update(args=args, kwargs=kwargs)

        handle = self.last[0].register_forward_pre_hook(remember, with_kwargs=True)
        logits = model(ids, use_cache=False).logits
        handle.remove()
        yield loss_at(logits, ids, offset=1)
        for offset, block in self.blocks.items():
            out = block(*seen["args"], **seen["kwargs"])
            yield loss_at(model.lm_head(model.model.norm(out)), ids, int(offset))


@torch.compile(dynamic=False)
def loss_at(logits: Tensor, ids: Tensor, offset: int) -> Tensor:
    """Return the mean cross-entropy in nats of the token `offset` ahead."""
    return cross_entropy(logits[:, :-offset].flatten(0, 1).float(), ids[:, offset:].flatten())


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE; one token both begins a block and ends a document."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END)


def token_stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """Return all documents end to end, each followed by the end token, shape (tokens,)."""
    end = tokenizer.eos_token_id
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return torch.tensor([token for ids in encoded for token in [*ids, end]])


def blocks(stream: Tensor, start: int, bos: int) -> Tensor:
    """Cut the stream, from `start` on, into blocks of BLOCK tokens with BOS first."""
    count = (len(stream) - start) // (BLOCK - 1)
    body = stream[start : start + count * (BLOCK - 1)].view(count, BLOCK - 1)
    return torch.cat([torch.full((count, 1), bos), body], dim=1)


class Run:
    """The training of one model: its state, its checkpoint, its learning curve."""

    def __init__(
        self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, checkpoint: Path, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.recipe, self.tokenizer, self.seed = recipe, tokenizer, seed
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=recipe.width,
            intermediate_size=recipe.width * 8 // 3 // 32 * 32,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        self.model = LlamaForCausalLM(config)
        # Eager attention in compiled blocks took 0.6 of the time of uncompiled sdpa on a CPU.
        self.model.set_attn_implementation("eager")
        self.heads = FurtherHeads(self.model, recipe.horizon)
        blocks = [*self.model.model.layers, *self.heads.blocks.values()]
        if recipe.myopic:
            make_myopic(blocks)
        for block in blocks:
            block.compile()
        self.modules = nn.ModuleDict({"model": self.model, "heads": self.heads})
        matrices = [p for p in self.modules.parameters() if p.ndim > 1]
        vectors = [p for p in self.modules.parameters() if p.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
            betas=(0.9, 0.95),
        )
        self.checkpoint = checkpoint
        self.step, self.curve = 0, list[dict[str, float]]()
        self.best: dict[str, Tensor] = {}
        if self.checkpoint.exists():
            self.restore()

    def restore(self) -> None:
        """Go on from the last checkpoint."""
        saved = torch.load(self.checkpoint)
        self.modules.load_state_dict(saved["modules"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.curve, self.best = saved["step"], saved["curve"], saved["best"]

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "curve": self.curve,
            "best": self.best,
        }
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def train(self, train: Tensor, early_stop: Tensor) -> None:
        """Train to the end of the schedule, keeping the weights with the lowest loss."""
        bos = self.tokenizer.bos_token_id
        per_epoch = (len(train) - BLOCK) // (BLOCK - 1) // BATCH
        total = per_epoch * self.recipe.epochs
        held = blocks(early_stop, 0, bos)
        while self.step < total:
            epoch, first = divmod(self.step, per_epoch)
            generator = torch.Generator().manual_seed(1000 * self.seed + epoch)
            start = int(torch.randint(BLOCK - 1, (1,), generator=generator))
            data = blocks(train, start, bos)
            order = torch.randperm(len(data), generator=generator)
            for batch in order.split(BATCH)[first:per_epoch]:
                self.advance(data[batch], total)
                if self.step % EVALUATE_EVERY == 0 or self.step == total:
                    self.evaluate(held, total)
                    self.save()

    def advance(self, ids: Tensor, total: int) -> None:
        """Take one optimizer step."""
        warm = min(1.0, (self.step + 1) / 200)
        rate = self.recipe.learning_rate * warm
        rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.step / total))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = sum(self.heads.losses(self.model, ids), torch.zeros(()))
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1

    @torch.no_grad()
    def evaluate(self, held: Tensor, total: int) -> None:
        """Add a point to the learning curve; remember the weights if they are the best."""
        batches = [list(self.heads.losses(self.model, ids)) for ids in held.split(BATCH)]
        means = torch.tensor(batches).mean(dim=0)
        point = {"step": self.step, "tokens": self.step * BATCH * BLOCK}
        point |= {f"nats_{k}": round(float(nats), 4) for k, nats in enumerate(means, start=1)}
        # A model of several offsets is judged by their sum: that is what it is trained for.
        point["nats_sum"] = round(float(means.sum()), 4)
        if all(point["nats_sum"] < other["nats_sum"] for other in self.curve):
            self.best = {k: v.clone() for k, v in self.modules.state_dict().items()}
        self.curve.append(point)
        print(f"{self.checkpoint.stem} step {self.step}/{total} {point}", flush=True)

    def export(self, folder: Path) -> None:
        """Write the best weights as a Hugging Face folder in bf16, with the learning curve."""
        self.modules.load_state_dict(self.best)
        self.model.to(torch.bfloat16).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if self.recipe.horizon > 1:
            weights = self.heads.blocks.state_dict()
            save_file(
                {f"block/{name}": w.bfloat16().contiguous() for name, w in weights.items()},
                folder / "heads.safetensors",
                metadata={
                    "reads": f"residual stream after block {self.recipe.layers - 1}",
                    "model_fingerprint": fingerprint(load(str(folder))),
                },
            )
        lines = {"recipe": asdict(self.recipe), "early_stop": self.curve}
        (folder / "learning-curve.json").write_text(json.dumps(lines, indent=1) + "\n")


def main(
    output: Annotated[Path, typer.Option(help="Folder of the trained models.")],
    work: Annotated[Path, typer.Option(help="Folder of checkpoints.")] = Path("ladder-work"),
    only: Annotated[list[str] | None, typer.Option(help="Train only these.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of first weights and order of the text.")] = 0,
    myopic: Annotated[bool, typer.Option(help="Without gradients of later tokens.")] = False,
) -> None:
    """Train the ladder, one model after another."""
    work.mkdir(parents=True, exist_ok=True)
    texts = {
        part: [t for d in builtin_text.DOMAINS for t in builtin_text.documents(d, part).values()]
        for part in ("train", "early-stop")
    }
    tokenizer = train_tokenizer(texts["train"])
    streams = {part: token_stream(tokenizer, of_part) for part, of_part in texts.items()}
    print(f"tokens { ({part: len(stream) for part, stream in streams.items()}) }", flush=True)
    for name in only or RECIPES:
        recipe = RECIPES[name]
        recipe = replace(recipe, epochs=epochs or recipe.epochs, myopic=myopic)
        called = f"{name}-myopic" if myopic else name
        called += f"-seed-{seed}" if seed else ""
        run = Run(recipe, tokenizer, work / f"{called}.pt", seed)
        run.train(streams["train"], streams["early-stop"])
        shutil.rmtree(output / called, ignore_errors=True)
        run.export(output / called)


if __name__ == "__main__":
    typer.run(main)
