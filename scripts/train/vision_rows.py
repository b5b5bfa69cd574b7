"""What images add to tokenized rows: their names, their share of the tokens, and that none of them is ever cut."""

from dataclasses import dataclass, field

from scripts.common.chat import Conversation
from scripts.common.records import Record, images_of
from scripts.common.vision import VisionTokenizer


@dataclass
class VisionLedger:
    """How much of one split's tokens is images; `image_cut` holds ids of rows whose limit lies before an image's end.

    `rows` are [id, text tokens, image tokens, images] of the rows that are kept.
    """

    tokenizer: VisionTokenizer
    rows: list[list] = field(default_factory=list)
    image_cut: list[str] = field(default_factory=list)

    def image_tokens(self, ids: list[int]) -> int:
        """Return how many of the ids belong to images, the ends of rows and of images included."""
        return sum(token in self.tokenizer.image_ids for token in ids)

    def cuts_image(self, record: Record, row: Conversation, limit: int) -> bool:
        """Say whether a row cut to `limit` tokens would lose an image or a part of one; its id is noted then."""
        cut = self.image_tokens(row.ids[limit:]) > 0
        if cut:
            self.image_cut.append(record.id)
        return cut

    def columns(self, record: Record, row: Conversation) -> dict:
        """Count a row that is kept, and return what its Arrow row holds beside ids and labels."""
        names = images_of(record.messages)
        image_tokens = self.image_tokens(row.ids)
        self.rows.append([record.id, len(row.ids) - image_tokens, image_tokens, len(names)])
        return {"images": names}

    def summary(self) -> dict:
        """Return the counts, JSON-ready."""
        counts = [image_tokens for _, _, image_tokens, images in self.rows if images]
        return {
            "images": sum(images for *_, images in self.rows),
            "image_tokens": sum(counts),
            "text_tokens": sum(text for _, text, _, _ in self.rows),
            "most_image_tokens": max(counts, default=0),
            "tokens_of_rows": [
                dict(zip(("id", "text_tokens", "image_tokens", "images"), row, strict=True)) for row in self.rows
            ],
        }
