"""A planted signal: a model that holds the token at t + 2 at some layers, and nowhere else."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import LlamaForCausalLM

from probekit.errors import SettingsError
from probekit.pipelines.calibration import llama_weights
from probekit.shapes import TokenIds


@dataclass(frozen=True)
class Planted:
    """Text whose next token is a noisy sum, and a model that forgets the one it foresaw.

    x_{t+2} = x_t + x_{t-1} modulo the number of tokens with probability 1 - noise, else it is
    drawn uniformly. The model holds x_t from layer 0, x_{t-1} from layer 1, their sum from
    `planted_layer` up to before `erased_layer`, and from there on x_{t-1} + x_{t-2}, of which
    it predicts the next token. A linear readout gains nothing from the terms of a sum: their
    best additive logits are invariant under any shift of one term alone, so constant. So at
    offset 1 a linear readout knows all or nothing by layer, at offset 2 too, and from offset 3
    on nothing, though the model, marginalized, knows.

    Attributes:
        n_tokens: Number of tokens, at least 2.
        noise: Share of tokens drawn uniformly, in (0, 1).
        n_layers: Number of blocks.
        planted_layer: The first layer that holds the sum.
        erased_layer: The first layer that no longer does.

    Raises:
        SettingsError: If one of them is outside what is allowed.
    """

    # Beyond it sums count a token twice, and moduli have divisors.
    longest_offset: ClassVar[int] = 5
    # The model lacks x_{t-1} at position 0, and x_{t-2} at position 1.
    unscored: ClassVar[int] = 2

    n_tokens: int = 8
    noise: float = 0.2
    n_layers: int = 6
    planted_layer: int = 3
    erased_layer: int = 4

    def __post_init__(self) -> None:
        if self.n_tokens < 2 or not 0 < self.noise < 1:
            raise SettingsError(
                "n_tokens must be 2 or more and noise in (0, 1), got "
                f"{self.n_tokens} and {self.noise}"
            )
        llama_weights.require_order(self.planted_layer, self.erased_layer, self.n_layers)

    def sample(self, n: int, length: int, generator: torch.Generator) -> TokenIds:
        """Draw token sequences, each from the stationary distribution on.

        Args:
            n: Number of sequences.
            length: Tokens of each.
            generator: Source of randomness.

        Returns:
            Token ids, shape (n, length), int64.
        """
        tokens = torch.randint(self.n_tokens, (n, length), generator=generator)
        summed = torch.rand(n, length, generator=generator) >= self.noise
        # Any three tokens in a row are independent and uniform, the first three too.
        for at in range(3, length):
            total = (tokens[:, at - 2] + tokens[:, at - 3]) % self.n_tokens
            tokens[:, at] = torch.where(summed[:, at], total, tokens[:, at])
        return tokens

    def model(self) -> LlamaForCausalLM:
        """Return the model; it predicts the next token as well as can be."""
        odds = math.log(self._hit(1) / ((1 - self._hit(1)) / (self.n_tokens - 1)))
        return llama_weights.planted(
            odds * torch.eye(self.n_tokens), self.n_layers, self.planted_layer, self.erased_layer
        )

    def nats(self, layer: int, offset: int) -> float:
        """Return the cross-entropy of the best linear readout of a layer.

        Raises:
            SettingsError: If layer or offset is outside what is allowed.
        """
        return self._nats(self._hit(1)) if self._held(layer, offset) else math.log(self.n_tokens)

    def top1(self, layer: int, offset: int) -> float:
        """Return the top-1 accuracy of the best linear readout of a layer."""
        return self._hit(1) if self._held(layer, offset) else 1 / self.n_tokens

    def ceiling_nats(self, offset: int) -> float:
        """Return the cross-entropy of the model with the tokens between summed out.

        The sums that lead to x_{t+k} are 1, 1, 2, 3 and 4 for k = 1 … 5; each is noisy.
        """
        self._require(0, offset)
        return self._nats(self._hit((1, 1, 2, 3, 4)[offset - 1]))

    def best_layers(self, offset: int) -> range:
        """Return the layers that tell most about an offset; all of them if none tells anything."""
        held = [layer for layer in range(self.n_layers + 1) if self._held(layer, offset)]
        return range(held[0], held[-1] + 1) if held else range(self.n_layers + 1)

    def forgotten_bits(self, offset: int) -> float:
        """Return the last layer's cross-entropy minus the best layer's, in bits."""
        best = self.nats(self.best_layers(offset)[0], offset)
        return (self.nats(self.n_layers, offset) - best) / math.log(2)

    def _held(self, layer: int, offset: int) -> bool:
        self._require(layer, offset)
        if offset == 1:
            return layer >= self.erased_layer
        return offset == 2 and self.planted_layer <= layer < self.erased_layer

    def _require(self, layer: int, offset: int) -> None:
        if not (0 <= layer <= self.n_layers and 1 <= offset <= self.longest_offset):
            raise SettingsError(
                f"layer must be in 0..{self.n_layers} and offset in 1..{self.longest_offset}, got "
                f"{layer} and {offset}"
            )

    def _hit(self, sums: int) -> float:
        """Return the probability of a token that so many noisy sums lead to."""
        certain = (1 - self.noise) ** sums
        return certain + (1 - certain) / self.n_tokens

    def _nats(self, hit: float) -> float:
        """Return the entropy if one token has probability `hit` and the others share the rest."""
        missed = (1 - hit) / (self.n_tokens - 1)
        return -hit * math.log(hit) - (1 - hit) * math.log(missed)
