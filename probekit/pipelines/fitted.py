"""The probes of a run, with the model that they read: what they say of any text."""

from dataclasses import dataclass, field

import pandas as pd
import torch

from probekit.activations.residual_stream import stream
from probekit.data.token_text import spell
from probekit.errors import DataError
from probekit.models.as_found import plain_torch
from probekit.models.loading import Loaded, longest
from probekit.probes.probe import Probes
from probekit.settings import Site


@dataclass(frozen=True, repr=False, kw_only=True)
class FittedProbes(Probes):
    """Probes, and the model that they were fitted to.

    Attributes:
        loaded: The model and its tokenizer.
        site: Where in a block the probes read.
    """

    loaded: Loaded
    site: Site = field(default="resid_post")

    def __repr__(self) -> str:
        cells = sorted(self.probes, key=str)
        return f"{len(cells)} {self.family} probes of {self.loaded.name}: (layer, offset) {cells}"

    @plain_torch()
    @torch.no_grad()
    def predict_text(self, text: str) -> pd.DataFrame:
        """Return what each probe says of each position of a text.

        Returns:
            One row a layer, offset and position, from 0 on, which is BOS where the model has one:
            `token` stands at the position, `predicted` is the likeliest token so many further on,
            `probability` its probability, `true` the token that is there and `rank` its rank, 1
            the first; both are missing where the text has ended.

        Raises:
            DataError: If the text holds no token, or more than the model takes.
        """
        tokenizer, model = self.loaded.tokenizer, self.loaded.model
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if tokenizer.bos_token_id is not None:
            ids = [tokenizer.bos_token_id, *ids]
        most = longest(model)
        if not text or (most is not None and len(ids) > most):
            raise DataError(f"the text must be of 1 to {most} tokens, BOS included, got {len(ids)}")
        token_ids = torch.tensor([ids])
        valid = dict.fromkeys({offset for _, offset in self.probes}, torch.ones_like(token_ids) > 0)
        streamed = stream(model, self.anatomy, token_ids, self.layers, batch_size=1, site=self.site)
        tables = [
            self._said(token_ids[0], cell.layer, cell.offset, logits.cpu())
            for seen in streamed
            for cell, logits in self.predict(seen, valid)
        ]
        return pd.concat(tables, ignore_index=True).astype({"layer": "Int64", "rank": "Int64"})

    def _said(
        self, ids: torch.Tensor, layer: int | None, offset: int, logits: torch.Tensor
    ) -> pd.DataFrame:
        probs, predicted = logits.softmax(1).max(1)
        true = ids[offset:]
        of_true = logits[: len(true)].gather(1, true[:, None])
        ranks = (logits[: len(true)] > of_true).sum(1) + 1
        missing = [None] * (len(ids) - len(true))
        words = spell(self.loaded.tokenizer, ids.tolist())
        return pd.DataFrame({
            "layer": layer,
            "offset": offset,
            "position": range(len(ids)),
            "token": words,
            "predicted": spell(self.loaded.tokenizer, predicted.tolist()),
            "probability": probs.numpy(),
            "true": [*words[offset:], *missing],
            "rank": [*ranks.tolist(), *missing],
        })  # fmt: skip
