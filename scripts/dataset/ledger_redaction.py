"""The ledger of a dataset whose personal data are replaced shows no raw text."""

HIDDEN = "(raw data: not shown, for this dataset is redacted)"


def without_raw_texts(ledger: dict) -> dict:
    """Return a ledger without the texts of bad records and of violated checks: they are raw, so not redacted.

    Where they stand and why they are bad stays; a detail goes too, for it may quote the record. No image is shown, for
    what is in images is not redacted.
    """
    quarantine = [row | {"reason": HIDDEN, "text": HIDDEN} for row in ledger["quarantine"]]
    return ledger | {
        "reasons": [hidden(reason) for reason in ledger["reasons"]],
        "checks": [hidden(check) for check in ledger["checks"]],
        "quarantine": quarantine,
        "images": ledger["images"] and ledger["images"] | {"examples": []},
    }


def hidden(entry: dict) -> dict:
    """Return an entry whose examples say only where they stand."""
    examples = [{**dict.fromkeys(example, HIDDEN), "origin": example["origin"]} for example in entry["examples"]]
    return entry | {"examples": examples}
