"""Tokenizers of made-up words."""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from support.architectures import VOCABULARY


def words(count: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the words w0, w1 and so on."""
    vocabulary = {f"w{index}": index for index in range(count)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
