"""Write the plain-text and chat corpus on which the embedded base model is trained.

    python scripts/model/generate_corpus.py --documents 6000 --seed 1 --languages fr,vi,en --output corpus.jsonl

Each line is one document: {"language", "kind": "text", "text"} or {"language", "kind": "chat", "messages"}.
A document depends on the seed and on its own number only: a longer corpus begins with the shorter one.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from types import ModuleType

from scripts.common.files import atomic_path
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
    """Yield `documents` documents in the given languages; raise ValueError for a language that is not there."""
    for language in languages:
        if language not in LANGUAGES:
            raise ValueError(f"{language}: no such language, choose from {', '.join(LANGUAGES)}")
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
    """Write the corpus as UTF-8 JSON lines; the file appears only when it is complete."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as lines:
        rows = generate_documents(documents, seed, languages)
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of this step."""
    parser = argparse.ArgumentParser(description="Write the corpus on which the embedded base model is trained.")
    parser.add_argument("--documents", type=int, default=6000, help="number of documents (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the generator (default: %(default)s)")
    parser.add_argument("--languages", default="fr,vi,en", help="comma-separated, of fr, vi, en (default: all)")
    parser.add_argument("--output", type=Path, required=True, help="JSONL file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; return the exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        write_corpus(arguments.output, arguments.documents, arguments.seed, arguments.languages.split(","))
    except (OSError, ValueError) as error:
        print(f"generate_corpus: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
