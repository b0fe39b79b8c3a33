"""Classes of targets: in a word or not, repeated or new, rare or frequent."""

import numpy as np
import pandas as pd
import torch

from probekit.data.blocks import Blocks
from probekit.data.token_classes import CONTINUATION, FIRST, NEW, OTHER, REPEATED, target_classes

SPELT = ["<s>", " fore", "see", "n", ".", " the", "\n"]
#          0        1       2     3     4     5       6
IDS = torch.tensor([[0, 5, 1, 2, 3, 4, 6, 5, 1, 2]])
DOCUMENTS = torch.tensor([[-1, 0, 0, 0, 0, 0, 0, 0, 0, 0]])


def classes(*places: tuple[int, int]) -> list[list[str]]:
    counts = np.array([0.0, 9, 10, 99, 100, 500, 3])
    table = pd.DataFrame(
        {"block": 0, "position": [at for at, _ in places], "offset": [k for _, k in places]}
    )
    blocks = Blocks(IDS, DOCUMENTS)
    return target_classes(table, blocks, SPELT, counts).to_numpy().tolist()


def test_a_target_begins_a_word_or_goes_on_with_one_or_is_no_word() -> None:
    places = [(1, 1), (1, 2), (2, 2), (1, 4), (1, 5), (4, 3)]
    assert [row[0] for row in classes(*places)] == [
        FIRST,  # " fore"
        CONTINUATION,  # "see"
        CONTINUATION,  # "n"
        OTHER,  # "."
        OTHER,  # a line's end
        FIRST,  # " the"
    ]


def test_two_tokens_repeat_where_they_stood_as_far_apart_before() -> None:
    # " the" … "see" at 1 and 3, again at 7 and 9; the first time it is new.
    assert [row[1] for row in classes((1, 2), (7, 2), (7, 1), (6, 2))] == [
        *(NEW, REPEATED, REPEATED, NEW)
    ]


def test_frequency_counts_targets_of_training() -> None:
    targets = [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]  # fore 9, see 10, n 99, full stop 100, 3
    few, some, many = "seen up to 9 times", "seen 10 to 99 times", "seen 100 times or more"
    assert [row[2] for row in classes(*targets)] == [few, some, some, many, few]
