"""A small tokenizer in the published format (byte-level BPE), trained on a task's instructions.

The real GPT-NeoX vocabulary has 50304 entries; a policy of two million parameters that hears
a handful of sentences needs none of them. Any other sentence still tokenises, byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from salus_ros.policy.tinyvla.preprocessing import END, prompt

PADDING = "<|padding|>"


def train_tokenizer(instructions: Iterable[str]) -> Tokenizer:
    """A tokenizer in which each word of the instructions is one token, and so is the prompt's preamble."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=[END, PADDING], initial_alphabet=alphabet, show_progress=False
    )
    preamble, rest = prompt("").split("<image>")
    sentences = [rest.replace("\n", f"\n{instruction}") for instruction in sorted(set(instructions))]
    tokenizer.train_from_iterator([sentence.replace(END, "") for sentence in sentences] * 2, trainer)
    tokenizer.add_tokens([AddedToken(preamble, normalized=False)])
    return tokenizer
