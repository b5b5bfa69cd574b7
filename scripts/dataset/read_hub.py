"""Stream the records of a Hugging Face hub dataset at a pinned commit."""

from collections.abc import Iterator
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.offline import is_offline
from scripts.common.snapshot_from_cache import snapshot_from_cache
from scripts.dataset.raw_rows import RawRow, plain

REMEDY = "check 'hub' (id, revision, name, split), the network, and HF_TOKEN for a private or gated dataset"


def read_hub_rows(hub: dict) -> Iterator[RawRow]:
    """Yield the records of `hub` (`id`, `revision`, `name`, `split`), as JSON types; origins are `id@commit/split:row`.

    Raises UserError if a folder in the working directory has the dataset's name (the library would read it instead of
    the pinned commit), and if the hub can't be read. With `offline: true` the files are read from the local hub cache.
    """
    if Path(hub["id"]).exists():
        raise UserError(f"the folder '{hub['id']}' hides the hub dataset", remedy="rename it, or use 'files'")
    place = f"{hub['id']}@{hub['revision'][:12]}/{hub['split']}"
    if is_offline():
        source, pinned = snapshot_from_cache("dataset", hub["id"], hub["revision"]), {}
    else:
        source, pinned = hub["id"], {"revision": hub["revision"]}
    yield from streamed(source, place, **pinned, name=hub["name"], split=hub["split"])


def streamed(source: str, place: str, **arguments) -> Iterator[RawRow]:
    """Yield the records that `datasets.load_dataset(source, streaming=True, **arguments)` gives, row by row."""
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(source, streaming=True, **arguments)
        for number, record in enumerate(rows, 1):
            yield RawRow(f"{place}:{number}", plain(record))  # an image may not be sent to another process
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        raise UserError(f"{place}: can't be read: {type(error).__name__}: {reason}", remedy=REMEDY) from None
