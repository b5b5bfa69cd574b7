"""The documents of data/titles are what its README says, and come out of its program as they are kept."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from data.titles import make_documents
from data.titles.layouts import FAMILIES_OF, LAYOUTS
from data.titles.texts import QUESTION
from scripts.common.files import read_jsonl
from scripts.common.records import images_of, text_of

FOLDER = Path(__file__).parents[2] / "data/titles"
README = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return list(read_jsonl(FOLDER / "records.jsonl"))


def test_the_program_makes_what_is_kept(tmp_path: Path):
    assert make_documents.main(["--output", str(tmp_path)]) == 0
    assert (tmp_path / "records.jsonl").read_bytes() == (FOLDER / "records.jsonl").read_bytes()
    made, kept = (sorted((folder / "documents").iterdir()) for folder in (tmp_path, FOLDER))
    assert [path.name for path in made] == [path.name for path in kept]
    for new, old in zip(made, kept, strict=True):  # pixel by pixel: another zlib may pack them otherwise
        with Image.open(new) as one, Image.open(old) as other:
            assert one.size == other.size
            assert one.convert("L").tobytes() == other.convert("L").tobytes(), new.name


def test_each_layout_has_as_many_documents_in_each_language_and_each_record_asks_about_one(records: list[dict]):
    cells = Counter((record["layout"], record["language"]) for record in records)
    assert cells == {(layout, language): 4 for layout in LAYOUTS for language in ("en", "fr")}
    for language, families in FAMILIES_OF.items():
        used = Counter(record["font"] for record in records if record["language"] == language)
        assert set(used) == set(families)
        assert min(used.values()) >= 5
    assert all(text_of(row["messages"][-1]["content"]) == QUESTION[row["language"]] for row in records)
    assert len({name for row in records for name in images_of(row["messages"])}) == len(records) == 80
