"""Write the plain-text and chat corpus on which the embedded base model is trained.

    python scripts/model/generate_corpus.py --documents 6000 --seed 0 --languages fr,vi,en --output corpus.jsonl

Each line is one document: {"language", "kind": "text", "text"} or {"language", "kind": "chat", "messages"}.
A document depends on the seed and on its own number only: a longer corpus begins with the shorter one.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from types import ModuleType

from scripts.common.cli import Progress, run_step, step_parser
from scripts.common.errors import UserError
from scripts.common.files import write_jsonl
from scripts.model import corpus_english, corpus_french, corpus_vietnamese
from scripts.model.grammar import Grammar

LANGUAGES: dict[str, tuple[ModuleType, int]] = {
    "fr": (corpus_french, 9),
    "vi": (corpus_vietnamese, 9),
    "en": (corpus_english, 2),
}
CHAT_SHARE = 1 / 3
SYSTEM_SHARE = 1 / 3
SECOND_ROUND_SHARE = 1 / 3
SENTENCE_COUNTS = (1, 2, 3, 3, 4, 4, 5, 6)


def generate_documents(documents: int, seed: int, languages: Sequence[str]) -> Iterator[dict]:
    """Yield `documents` documents in the given languages; raise UserError for a language that is not there."""
    for language in languages:
        if language not in LANGUAGES:
            raise UserError(f"{language}: no such language, choose from {', '.join(LANGUAGES)}")
    weights = [LANGUAGES[language][1] for language in languages]
    for number in range(documents):
        random = Random(f"{seed}/{number}")
        language = random.choices(languages, weights)[0]
        yield make_document(language, random)


def make_document(language: str, random: Random) -> dict:
    """Return one document in `language`, either a text or a chat."""
    module = LANGUAGES[language][0]
    if random.random() < CHAT_SHARE:
        return {"language": language, "kind": "chat", "messages": make_chat(module, random)}
    return {"language": language, "kind": "text", "text": make_text(module, random)}


def make_text(module: ModuleType, random: Random) -> str:
    """Return a paragraph of one to six different sentences on one topic of the language `module`."""
    sentences = module.TOPICS[random.choice(sorted(module.TOPICS))]
    count = min(random.choice(SENTENCE_COUNTS), len(sentences))
    grammar = Grammar(module.RULES, random)
    return " ".join(module.polish(grammar.expand(template)) for template in random.sample(sentences, count))


def make_chat(module: ModuleType, random: Random) -> list[dict]:
    """Return one or two rounds of question and answer, now and then after a system turn."""
    grammar = Grammar(module.RULES, random)
    messages = []
    if random.random() < SYSTEM_SHARE:
        messages.append({"role": "system", "content": module.polish(random.choice(module.SYSTEMS))})
    rounds = 2 if random.random() < SECOND_ROUND_SHARE else 1
    for question, answer in random.sample(module.EXCHANGES, rounds):
        messages.append({"role": "user", "content": module.polish(grammar.expand(question))})
        messages.append({"role": "assistant", "content": module.polish(grammar.expand(answer))})
    return messages


def write_corpus(path: Path, documents: int, seed: int, languages: Sequence[str]) -> None:
    """Write the corpus as JSON lines; the file appears only when it is complete."""
    bar = Progress("writing the corpus", documents)

    def rows() -> Iterator[dict]:
        for row in generate_documents(documents, seed, languages):
            yield row
            bar.advance()

    write_jsonl(path, rows())


def step(arguments: argparse.Namespace) -> None:
    """Run the step."""
    write_corpus(arguments.output, arguments.documents, arguments.seed, arguments.languages.split(","))


def parser() -> argparse.ArgumentParser:
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("--documents", type=int, default=6000, help="number of documents (default: %(default)s)")
    result.add_argument("--seed", type=int, default=0, help="seed of the generator (default: %(default)s)")
    result.add_argument("--languages", default="fr,vi,en", help="comma-separated, of fr, vi, en (default: all)")
    result.add_argument("--output", type=Path, required=True, help="JSONL file to write")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
