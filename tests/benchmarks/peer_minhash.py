"""Remove near duplicates with datasketch or rensa as their documentation does; runs in an environment with both.

python peer_minhash.py datasketch texts.jsonl 0.85 5

Each line of the file is a text as JSON. A text is dropped when the index finds an earlier one that is kept; candidates
are not compared. Prints the numbers of the dropped texts as JSON.
"""

import json
import sys

SLOTS = 256


def shingles(text: str, size: int) -> set[str]:
    """Return the set of a text's runs of `size` characters."""
    return {text[start : start + size] for start in range(max(1, len(text) - size + 1))}


def by_datasketch(texts: list[str], threshold: float, size: int) -> list[int]:
    """Return the numbers of the dropped texts by datasketch's MinHashLSH."""
    from datasketch import MinHash, MinHashLSH

    index, dropped = MinHashLSH(threshold=threshold, num_perm=SLOTS), []
    for number, text in enumerate(texts):
        minhash = MinHash(num_perm=SLOTS)
        minhash.update_batch([shingle.encode("utf-8") for shingle in shingles(text, size)])
        if index.query(minhash):
            dropped.append(number)
        else:
            index.insert(number, minhash)
    return dropped


def by_rensa(texts: list[str], threshold: float, size: int) -> list[int]:
    """Return the numbers of the dropped texts by rensa's RMinHashDeduplicator."""
    from rensa import RMinHash, RMinHashDeduplicator

    deduplicator, dropped = RMinHashDeduplicator(threshold, SLOTS, use_lsh=True), []
    for number, text in enumerate(texts):
        minhash = RMinHash(num_perm=SLOTS, seed=42)
        minhash.update(list(shingles(text, size)))
        if not deduplicator.add(str(number), minhash):
            dropped.append(number)
    return dropped


if __name__ == "__main__":
    library, path, threshold, size = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        texts = [json.loads(line) for line in file]
    remove = {"datasketch": by_datasketch, "rensa": by_rensa}[library]
    print(json.dumps(remove(texts, float(threshold), int(size))))
