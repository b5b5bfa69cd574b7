"""Images are read from the dataset's folder alone, checked as a whole, and kept by content."""

import hashlib
import io
import json
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scripts.common.errors import UserError
from scripts.common.files import check_manifest
from scripts.common.records import images_of
from scripts.dataset.images import MAX_BYTES, MAX_IMAGES, ImageStore, canonical, without_images
from scripts.dataset.raw_rows import BadRecordError
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines
from tests.support.pictures import encoded, looking, picture, png_chunk, png_header

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
FILM = {"save_all": True, "append_images": [picture(seed=9)]}


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> ImageStore:
    return ImageStore(folder, tmp_path / "images")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a dataset's images, with one image, and links, a pipe and a huge file."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for path in (folder / "good.png", tmp_path / "other.png"):
        path.write_bytes(encoded(picture()))
    links = [("link.png", "../other.png"), ("around", ".."), ("circle", "circle"), ("within.png", "good.png")]
    for name, target in links:
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe")
    with open(folder / "huge", "wb") as file:
        file.truncate(MAX_BYTES + 2**20)
    return folder


NAMES = {
    "image outside": ["../other.png", "/etc/passwd", "..", "sub/../good.png", "link.png", "around/other.png"],
    "missing image": ["none.png", "good.png/none.png", "circle"],
    "not an image": ["sub", "pipe"],
    "unnamed image": ["", "a\0.png"],
    "remote image": ["https://example.org/a.png", "file:///etc/passwd", "DATA:image/png;base64," + "A" * 5000],
    "image too large": ["huge"],
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NAMES.items() for name in names])
def test_a_name_that_leads_to_no_image_of_the_folder_is_refused(kind: str, name: str, store: ImageStore):
    with pytest.raises(BadRecordError) as caught:
        store.stored(looking(name)["messages"])
    assert caught.value.kind == kind
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", "not an image", "can't be read as an image"),
        (b"%PDF-1.7 ...", "not an image", "is a PDF: render its pages"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image", "is XML or HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an image", "is a pointer of Git LFS"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image", "can't be read as an image"),
        (encoded(picture(), "PPM"), "not an image", "can't be read as an image"),
        (png_header(100_000, 100_000), "too many pixels", "unpacks to more than 89 million pixels"),
        (png_header(8_000, 5_001), "too many pixels", "has 8000 x 5001 pixels"),
        (png_header(8_000, 5_000), "damaged image", "can't be decoded"),
        (png_header(1_001, 10), "too thin", "has 1001 x 10 pixels"),
        (encoded(picture(size=(400, 300)), "JPEG")[:3000], "damaged image", "truncated"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "unknown colours", "pixels"),
        (png_header(4, 4, png_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 10**8))), "not an image", "can't be read"),
        *(
            (encoded(picture(), kind, **FILM), "several frames", "frames or pages")
            for kind in ("GIF", "PNG", "WEBP", "TIFF")
        ),
    ],
)
def test_a_file_that_is_no_safe_image_is_refused(content: bytes, kind: str, words: str):
    with pytest.raises(BadRecordError, match=words) as caught:
        canonical(content, "a.png")
    assert caught.value.kind == kind


def test_too_many_images_in_a_record_are_refused(store: ImageStore):
    assert len(images_of(store.stored(looking(*["good.png"] * MAX_IMAGES)["messages"]))) == MAX_IMAGES
    with pytest.raises(BadRecordError) as caught:
        store.stored(looking(*["good.png"] * (MAX_IMAGES + 1))["messages"])
    assert caught.value.kind == "too many images"


def test_without_a_folder_an_image_is_refused_and_text_is_not(tmp_path: Path):
    with pytest.raises(BadRecordError, match=r"names the image 'a.png', .*; name the folder under 'images'"):
        without_images(looking("a.png")["messages"])
    assert without_images(chat("q", "a")["messages"]) == chat("q", "a")["messages"]
    with pytest.raises(UserError, match="images: there is no folder"):
        ImageStore(tmp_path / "none", tmp_path / "images")


@given(st.sampled_from(["PNG", "GIF", "WEBP", "BMP", "TIFF"]), st.floats(0, 0.9))
def test_an_image_that_is_cut_off_is_refused(kind: str, share: float):
    data = encoded(picture(size=(40, 30)), kind)
    with pytest.raises(BadRecordError) as caught:
        canonical(data[: int(share * len(data))], "a.png")
    assert caught.value.kind in ("damaged image", "not an image")


@settings(max_examples=150)
@given(st.sampled_from(KINDS), st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_are_refused_or_make_an_image_that_can_be_read(kind: str, changes: list[tuple[int, int]]):
    data = bytearray(encoded(picture(size=(30, 20)), kind))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        kept, suffix, size = canonical(bytes(data), "a.png")
    except BadRecordError:
        return
    assert canonical(kept, f"kept.{suffix}")[1:] == (suffix, size)


@pytest.mark.parametrize("layout", ["RGB PNG", "L PNG", "P PNG", "1 PNG", "RGB JPEG", "L JPEG", "RGB MPO"])
def test_an_image_that_needs_no_change_is_kept_byte_for_byte_also_behind_a_link_within_the_folder(
    store: ImageStore, folder: Path, layout: str
):
    mode, kind = layout.split()
    data = encoded(picture(mode), kind, **(FILM if kind == "MPO" else {}))  # the views behind a photograph are no film
    (folder / "good.png").write_bytes(data)
    kept = store.kept("within.png")
    assert (store.output / kept.name).read_bytes() == data
    assert kept.name.partition(".")[0] == hashlib.sha256(data).hexdigest()
    assert (kept.bytes, kept.width, kept.height) == (len(data), 12, 8)


TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")


@pytest.mark.parametrize(("orientation", "way"), list(enumerate(TURNS, 2)))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_is_kept_upright(orientation: int, way: str, kind: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"WEBP": {"lossless": True}}.get(kind, {})
    plain, turned = (encoded(picture(size=(40, 16)), kind, **lossless, **more) for more in ({}, {"exif": exif}))
    expected = Image.open(io.BytesIO(plain)).convert("RGB").transpose(Image.Transpose[way])
    kept, suffix, size = canonical(turned, "a")
    image = Image.open(io.BytesIO(kept))
    assert (suffix, size, dict(image.getexif())) == ("png", expected.size, {})
    assert image.tobytes() == expected.tobytes()


@given(
    st.sampled_from([("RGBA", "PNG"), ("LA", "PNG"), ("I;16", "PNG"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "GIF"),
                     ("RGBA", "WEBP"), ("L", "BMP"), ("RGB", "TIFF"), ("1", "TIFF")]),
    st.integers(0, 50),
)  # fmt: skip
def test_any_image_is_kept_as_plain_as_it_can_be(layout: tuple[str, str], seed: int):
    mode, kind = layout
    lossless = {"WEBP": {"lossless": True, "exact": True}}.get(kind, {})
    data = encoded(picture(mode, seed=seed), kind, **lossless)
    kept, suffix, size = canonical(data, "a")
    assert (suffix, size) == ("png", (12, 8))
    with Image.open(io.BytesIO(kept)) as image:
        assert image.mode in ("RGB", "L", "P", "1")
        assert "transparency" not in image.info
    assert canonical(kept, "b") == (kept, suffix, size)
    assert canonical(data, "a")[0] == kept


def colours(image: Image.Image, **options) -> list[tuple[int, int, int]]:
    """Return the colours of the first row of an image as it is kept."""
    kept = Image.open(io.BytesIO(canonical(encoded(image, **options), "a.png")[0])).convert("RGB")
    return [kept.getpixel((x, 0)) for x in range(kept.width)]


def test_what_is_transparent_becomes_paper_and_of_sixteen_bits_the_higher_eight_are_kept():
    ink = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    ink.putpixel((1, 0), (0, 0, 0, 255))
    ink.putpixel((2, 0), (0, 0, 0, 128))
    assert colours(ink) == [(255, 255, 255), (0, 0, 0), (127, 127, 127)]
    assert colours(Image.new("P", (4, 2), 0), transparency=0) == [(255, 255, 255)] * 4
    values = [0, 255, 256, 40_000, 65_535]
    deep = Image.frombytes("I;16", (5, 1), b"".join(value.to_bytes(2, "little") for value in values))
    assert [red for red, _, _ in colours(deep)] == [value >> 8 for value in values]


def test_the_manifest_lists_the_images_of_kept_records_alone(stage: Stage, folder: Path, tmp_path: Path):
    stage.settings = settings_of(images=str(folder), on_bad_record="quarantine", min_characters=3)
    for seed, name in enumerate(("bad.png", "sub/other.png"), 1):
        (folder / name).write_bytes(encoded(picture(seed=seed)))
    (folder / "copy.png").write_bytes((folder / "good.png").read_bytes())
    records = [looking("good.png"), looking("bad.png", answer="x"), looking("bad.png", "../other.png")]
    raw = write_lines(tmp_path / "raw.jsonl", [*records, looking("copy.png", "sub/other.png")])
    (tmp_path / "images").mkdir()
    for name in (f"{'0' * 64}.png", f".{'0' * 64}.jpg.77.partial", "notes.txt"):
        (tmp_path / "images" / name).touch()
    assert stage.ingest(raw) == 0
    assert [row["record"] for row in stage.lines("quarantine")] == records[1:]
    files = check_manifest(tmp_path / "images/manifest.json", hashes=True)["files"]
    assert sorted(entry["origins"] for entry in files.values()) == [["copy.png", "good.png"], ["sub/other.png"]]
    there = {path.name for path in (tmp_path / "images").iterdir()}
    assert there == {*files, "manifest.json", ".manifest.json.sha256", "notes.txt"}
    named = {name for row in stage.ingested() for name in images_of(json.loads(row["messages"]))}
    assert named == {f"images/{file}" for file in files}
    path = tmp_path / "images" / next(iter(files))
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert stage.ingest(raw) == 0
    assert path.read_bytes() == content, "a damaged image is written anew"
