"""Answer prompts of text with llama.cpp, many in one batch; the beginning that prompts share is evaluated once.

The tokens of a prompt and of its expected answer are evaluated alone, so that a likelihood does not depend on other
prompts. Then one token of each answer of the batch is generated at a time. An answer's logits depend on the others in
the batch by rounding only, and batches are made from all prompts, so that an interruption changes no answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy

from scripts.gguf import llama
from scripts.gguf.llama_sequences import Sequences, open_sequences
from scripts.predict.answers import AnswerFile, answer_row, likelihood_row
from scripts.predict.llama_readers import TextReader, shared_length
from scripts.predict.prompts import Prompt

if TYPE_CHECKING:
    from llama_cpp import Llama

SHARED = 0  # the sequence with the beginning that prompts share
Row = tuple[Prompt, dict | None, dict | None]


def answered_ids(model: "Llama", told: list[int], asked: int) -> list[int]:
    """Return the ids of a conversation up to the end token of its last answer, which begins after `asked` ids."""
    ends = [place for place in range(asked, len(told)) if llama.ends_generation(model, told[place])]
    return told[: ends[-1] + 1] if ends else told


def negative_log_likelihood(logits: numpy.ndarray, ids: list[int]) -> float:
    """Return the sum over rows of -log softmax(logits)[id] in nats; `logits` are [rows, vocabulary] in float32.

    Exponentials are in float32 and their sum in float64: their rounding is below that of the logits.
    """
    peak = logits.max(axis=1)
    total = numpy.log(numpy.exp(logits - peak[:, None]).sum(axis=1, dtype=numpy.float64))
    chosen = logits[numpy.arange(len(ids)), ids].astype(numpy.float64)
    return float((peak.astype(numpy.float64) + total - chosen).sum())


def sampling_options(generation: dict) -> dict:
    """Return the arguments of llama-cpp-python's sampler; a temperature of 0 takes the most probable token."""
    options = {key: generation[key] for key in ("top_k", "top_p", "min_p")}
    return options | {"temp": generation["temperature"], "repeat_penalty": generation["repetition_penalty"]}


def answered_in_batches(
    model: "Llama", prompts: list[Prompt], first: int, file: AnswerFile, generation: dict, size: int, threads: int
) -> Iterator[Row]:
    """Yield (prompt, answer, likelihood) of the prompts from the place `first` on, in order, batch by batch.

    The answer is None if the file has it, the likelihood if it is not wanted. `size` is the number of prompts in a
    batch; the model's context has room for the longest prompt with its answer.
    """
    if first >= len(prompts):
        return
    with open_sequences(model, 1 + size, model.n_ctx(), threads) as sequences:
        batch = Batch(model, sequences, generation)
        for start in range(first, len(prompts), size):
            part = prompts[start : start + size]
            # All of a batch are answered again if it was interrupted: their rounding may depend on each other.
            seeds = [answer_seed(generation, start + i) for i in range(len(part))]
            is_answered = all(file.has(prompt) for prompt in part)
            yield from batch.rows(part, None if is_answered else seeds)


def answer_seed(generation: dict, number: int) -> int:
    """Return the random seed of the answer to a prompt, by its place in the list of all."""
    return generation["seed"] * 1_000_003 + number


@dataclass
class Answer:
    """An answer that is generated: the token ids of its prompt, its own, and whether the model has ended it."""

    prompt: list[int]
    sampler: object
    ids: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def last(self) -> tuple[int, int]:
        """The token that is evaluated next, and its place."""
        return (self.ids or self.prompt)[-1], len(self.prompt) + len(self.ids) - 1


class Batch:
    """Answers prompts in sequences 1 and following of an open context."""

    def __init__(self, model: "Llama", sequences: Sequences, generation: dict):
        self.model, self.sequences, self.generation = model, sequences, generation
        self.reader, self.beginning = TextReader(), []

    def rows(self, prompts: list[Prompt], seeds: list[int] | None) -> list[Row]:
        """Return (prompt, answer, likelihood) of each prompt of a batch; without seeds no answer is generated."""
        asked = [self.reader.tail(self.model, prompt.messages) for prompt in prompts]
        likelihoods = [
            self.read(place + 1, prompt, asked[place]) if seeds or prompt.has_likelihood else None
            for place, prompt in enumerate(prompts)
        ]
        answers = [None] * len(prompts)
        if seeds:
            answers = [Answer(ids, self.sampler(seed)) for ids, seed in zip(asked, seeds, strict=True)]
            self.generate(answers)
            answers = [self.row(answer) for answer in answers]
        return list(zip(prompts, answers, likelihoods, strict=True))

    def read(self, number: int, prompt: Prompt, ids: list[int]) -> dict | None:
        """Evaluate a prompt in a sequence, up to its last token; return the likelihood of the expected answer."""
        likelihood, kept = None, self.begin(number, ids[: shared_length(self.model, prompt.messages, ids)])
        if prompt.has_likelihood:
            told = answered_ids(self.model, self.reader.tail(self.model, prompt.answered), len(ids))
            same = llama.first_difference(ids[:-1], told)
            start, nll = min(kept, same), 0.0
            self.sequences.keep(number, start)
            for place, logits in self.sequences.extend(number, start, told[start:-1], first=len(ids) - 1):
                nll += negative_log_likelihood(logits, told[place + 1 : place + 1 + len(logits)])
            likelihood, kept = likelihood_row(prompt, nll, len(told) - len(ids)), same
            self.sequences.keep(number, kept)
        for _ in self.sequences.extend(number, kept, ids[kept:-1]):
            pass
        return likelihood

    def begin(self, number: int, beginning: list[int]) -> int:
        """Copy the shared beginning of a prompt to a sequence; return its length."""
        if beginning != self.beginning:
            self.beginning = beginning
            self.sequences.keep(SHARED, 0)
            for _ in self.sequences.extend(SHARED, 0, beginning):
                pass
        self.sequences.copy(SHARED, number)
        return len(beginning)

    def sampler(self, seed: int):
        """Return the sampler that `Llama.generate` has for these settings, or None where numpy is faster."""
        options = sampling_options(self.generation)
        if options["temp"] == 0 and options["repeat_penalty"] == 1:
            return None
        self.model.set_seed(seed)
        return self.model._init_sampler(**options)

    def generate(self, answers: list[Answer]) -> None:
        """Generate the answers to prompts that are in sequences 1 and following."""
        import llama_cpp

        active = dict(enumerate(answers, 1))
        while active:
            numbers = sorted(active)
            logits = self.sequences.evaluate([(*active[number].last, number) for number in numbers])
            for row, number in enumerate(numbers):
                answer = active[number]
                if answer.sampler is None:
                    token = int(logits[row].argmax())
                else:
                    token = llama_cpp.llama_sampler_sample(answer.sampler.sampler, self.sequences.context, row)
                answer.ended = llama.ends_generation(self.model, token)
                if not answer.ended:
                    answer.ids.append(token)
                if answer.ended or len(answer.ids) == self.generation["max_new_tokens"]:
                    del active[number]
            self.close_gaps(active)

    def close_gaps(self, active: dict[int, Answer]) -> None:
        """Move sequences so that their numbers follow each other, because llama.cpp computes only such together."""
        while active and max(active) > len(active):
            last = max(active)
            gap = min(set(range(1, last)) - set(active))
            self.sequences.copy(last, gap)
            active[gap] = active.pop(last)

    def row(self, answer: Answer) -> dict:
        """Return the columns of an answer."""
        text = self.model.detokenize(answer.ids, prev_tokens=answer.prompt).decode("utf-8", errors="replace").strip()
        return answer_row(text, len(answer.prompt), len(answer.ids), answer.ended)
