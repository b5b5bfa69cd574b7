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
from tests.support.pictures import decoded, encoded, looking, picture, png_chunk, png_header

TURNED = 0x0112  # the EXIF tag of the orientation


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a dataset's images, with one image in it."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    (folder / "good.png").write_bytes(encoded(picture()))
    return folder


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> ImageStore:
    return ImageStore(folder, tmp_path / "images")


@pytest.fixture
def stage(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> Stage:
    return Stage(tmp_path, settings_of(images=str(folder)), capsys)


def fault(store: ImageStore, *names: str) -> BadRecordError:
    with pytest.raises(BadRecordError) as caught:
        store.stored(looking(*names)["messages"])
    return caught.value


@pytest.mark.parametrize("name", ["../other.png", "sub/../../other.png", "/etc/passwd", "..", "sub/../good.png"])
def test_a_path_that_leaves_the_folder_is_refused(store: ImageStore, folder: Path, name: str):
    (folder.parent / "other.png").write_bytes(encoded(picture()))
    assert fault(store, name).kind == "image outside"
    assert "leaves the dataset's folder" in fault(store, name).detail


def test_a_link_that_leads_out_is_refused_and_one_within_is_not(store: ImageStore, folder: Path):
    (folder.parent / "other.png").write_bytes(encoded(picture()))
    (folder / "link.png").symlink_to("../other.png")
    (folder / "around").symlink_to("..")
    (folder / "within.png").symlink_to("good.png")
    assert "is a link out of the folder" in fault(store, "link.png").detail
    assert "is a link out of the folder" in fault(store, "around/other.png").detail
    assert store.kept("within.png") == store.kept("good.png")


def test_what_is_no_readable_file_is_refused(store: ImageStore, folder: Path):
    (folder / "circle.png").symlink_to("circle.png")
    os.mkfifo(folder / "pipe.png")
    kinds = {
        "none.png": "missing image",
        "good.png/none.png": "missing image",
        "circle.png": "missing image",
        "sub": "not an image",
        "pipe.png": "not an image",
        "": "unnamed image",
        "a\0.png": "unnamed image",
    }
    assert {name: fault(store, name).kind for name in kinds} == kinds
    assert str(fault(store, "none.png")) == (
        f"there is no image 'none.png' in {folder}; name a file below the dataset's folder 'images'"
    )


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("https://example.org/a.png", "https:"),
        ("file:///etc/passwd", "file:"),
        ("DATA:image/png;base64," + "A" * 5000, "data:"),
    ],
)
def test_addresses_are_refused(store: ImageStore, name: str, scheme: str):
    found = fault(store, name)
    assert found.kind == "remote image"
    assert f"by a {scheme} address" in found.detail
    assert len(str(found)) < 300


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no image that can be read"),
        (b"%PDF-1.7 ...", "is a PDF: render its pages"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is XML or HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image that can be read"),
        (encoded(picture(), "PPM"), "is no image that can be read"),
    ],
)
def test_what_is_no_image_is_refused(store: ImageStore, folder: Path, data: bytes, words: str):
    (folder / "bad.png").write_bytes(data)
    assert fault(store, "bad.png").kind == "not an image"
    assert words in fault(store, "bad.png").detail


def test_the_formats_of_this_stage_alone_are_decoded(folder: Path, store: ImageStore):
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        (folder / f"a.{kind}").write_bytes(encoded(picture(), kind))
        assert store.kept(f"a.{kind}").width == 12
    assert store.kept("a.JPEG").name.endswith(".jpg")
    assert store.kept("a.WEBP").name.endswith(".png")


@pytest.mark.parametrize(
    ("size", "kind", "words"),
    [
        ((100_000, 100_000), "too many pixels", "unpacks to more than 89 million pixels"),
        ((8_000, 5_001), "too many pixels", "has 8000 x 5001 pixels"),
        ((8_000, 5_000), "damaged image", "can't be decoded"),
        ((1_001, 10), "too thin", "has 1001 x 10 pixels"),
    ],
)
def test_a_bomb_is_refused_by_its_header_alone(store: ImageStore, folder: Path, size, kind: str, words: str):
    (folder / "bomb.png").write_bytes(png_header(*size))
    assert fault(store, "bomb.png").kind == kind
    assert words in fault(store, "bomb.png").detail


def test_a_text_chunk_that_explodes_is_refused(store: ImageStore, folder: Path):
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 10**8))
    (folder / "bomb.png").write_bytes(png_header(4, 4, text))
    assert fault(store, "bomb.png").kind == "not an image"


def test_a_huge_file_is_refused_before_it_is_read(store: ImageStore, folder: Path):
    with open(folder / "huge.png", "wb") as file:
        file.truncate(MAX_BYTES + 2**20)
    assert fault(store, "huge.png").kind == "image too large"
    assert "has 65 MiB" in fault(store, "huge.png").detail


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_or_pages_are_refused(store: ImageStore, folder: Path, kind: str):
    options = {"save_all": True, "append_images": [picture(seed=9)]}
    (folder / "film").write_bytes(encoded(picture(), kind, **options))
    assert fault(store, "film").kind == "several frames"


def test_the_views_behind_a_photograph_are_no_frames(store: ImageStore, folder: Path):
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=9)])
    (folder / "photo.jpg").write_bytes(data)
    kept = store.kept("photo.jpg")
    assert (store.output / kept.name).read_bytes() == data
    assert kept.name.endswith(".jpg")


@given(st.sampled_from(["PNG", "GIF", "WEBP", "BMP", "TIFF"]), st.floats(0, 0.9))
def test_an_image_that_is_cut_off_is_refused(kind: str, share: float):
    data = encoded(picture(size=(40, 30)), kind)
    with pytest.raises(BadRecordError) as caught:
        canonical(data[: int(share * len(data))], "a.png")
    assert caught.value.kind in ("damaged image", "not an image")


def test_a_photograph_that_is_cut_off_is_refused():
    data = encoded(picture(size=(400, 300)), "JPEG")
    with pytest.raises(BadRecordError, match="truncated") as caught:
        canonical(data[: len(data) // 2], "a.jpg")
    assert caught.value.kind == "damaged image"


@settings(max_examples=150)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_are_refused_or_make_an_image_that_can_be_read(kind: str, changes: list[tuple[int, int]]):
    data = bytearray(encoded(picture(size=(30, 20)), kind))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        kept, suffix, size = canonical(bytes(data), "a.png")
    except BadRecordError:
        return
    again = canonical(kept, f"kept.{suffix}")
    assert again[1:] == (suffix, size)


def test_too_many_images_in_a_record_are_refused(store: ImageStore):
    assert len(images_of(store.stored(looking(*["good.png"] * MAX_IMAGES)["messages"]))) == MAX_IMAGES
    assert fault(store, *["good.png"] * (MAX_IMAGES + 1)).kind == "too many images"


def test_without_a_folder_an_image_is_refused_and_text_is_not():
    with pytest.raises(BadRecordError, match=r"names the image 'a.png', .*; name the folder under 'images'"):
        without_images(looking("a.png")["messages"])
    assert without_images(chat("q", "a")["messages"]) == chat("q", "a")["messages"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match="images: there is no folder"):
        ImageStore(tmp_path / "none", tmp_path / "images")


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("1", "PNG"), ("RGB", "JPEG"), ("L", "JPEG")]
)
def test_an_image_that_needs_no_change_is_kept_byte_for_byte(store: ImageStore, folder: Path, mode: str, kind: str):
    data = encoded(picture(mode), kind)
    (folder / "a").write_bytes(data)
    kept = store.kept("a")
    assert (store.output / kept.name).read_bytes() == data
    assert kept.name.partition(".")[0] == hashlib.sha256(data).hexdigest()
    assert (kept.bytes, kept.width, kept.height) == (len(data), 12, 8)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_is_kept_upright(store: ImageStore, folder: Path, orientation: int, kind: str):
    exif = Image.Exif()
    exif[TURNED] = orientation
    lossless = {"WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(picture(size=(40, 16)), kind, exif=exif, **lossless)
    (folder / "a").write_bytes(data)
    kept = store.kept("a")
    ways = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }  # fmt: skip
    (folder / "plain").write_bytes(encoded(picture(size=(40, 16)), kind, **lossless))
    expected = decoded(folder / "plain").transpose(ways[orientation])
    with Image.open(store.output / kept.name) as image:
        assert image.format == "PNG"
        assert not image.getexif()
        assert image.tobytes() == expected.tobytes()
    assert (kept.width, kept.height) == expected.size


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


def test_what_is_transparent_becomes_paper(store: ImageStore, folder: Path):
    ink = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    ink.putpixel((1, 1), (0, 0, 0, 255))
    ink.putpixel((2, 1), (0, 0, 0, 128))
    (folder / "ink.png").write_bytes(encoded(ink))
    (folder / "index.png").write_bytes(encoded(Image.new("P", (4, 2), 0), transparency=0))
    page = decoded(store.output / store.kept("ink.png").name)
    assert [page.getpixel((x, 1)) for x in range(3)] == [(255, 255, 255), (0, 0, 0), (127, 127, 127)]
    assert decoded(store.output / store.kept("index.png").name).getpixel((0, 0)) == (255, 255, 255)


def test_of_sixteen_bits_the_higher_eight_are_kept(store: ImageStore, folder: Path):
    values = [0, 255, 256, 40_000, 65_535]
    deep = Image.frombytes("I;16", (5, 1), b"".join(value.to_bytes(2, "little") for value in values))
    (folder / "deep.png").write_bytes(encoded(deep))
    grey = decoded(store.output / store.kept("deep.png").name)
    assert [grey.getpixel((x, 0))[0] for x in range(5)] == [value >> 8 for value in values]


def test_colours_of_32_bits_are_refused(store: ImageStore, folder: Path):
    (folder / "a.tiff").write_bytes(encoded(Image.new("F", (4, 4)), "TIFF"))
    assert fault(store, "a.tiff").kind == "unknown colours"


def test_a_bad_image_is_named_with_file_and_line(stage: Stage, tmp_path: Path):
    raw = write_lines(tmp_path / "raw.jsonl", [looking("good.png"), looking("none.png")])
    assert stage.ingest(raw) == 1
    assert stage.error().startswith(f"{raw}:2: there is no image 'none.png' in ")


def test_a_record_with_a_bad_image_is_quarantined_and_the_others_are_kept(stage: Stage, tmp_path: Path):
    stage.settings["on_bad_record"] = "quarantine"
    raw = write_lines(tmp_path / "raw.jsonl", [looking("good.png"), looking("../raw.jsonl"), chat("q", "a")])
    assert stage.ingest(raw) == 0
    (row,) = stage.lines("quarantine")
    assert row["record"] == looking("../raw.jsonl")
    assert row["reason"] == "the image '../raw.jsonl' leaves the dataset's folder"
    assert len(stage.ingested()) == 2


def test_the_manifest_lists_the_images_of_kept_records_alone(stage: Stage, folder: Path, tmp_path: Path):
    stage.settings = settings_of(images=str(folder), on_bad_record="quarantine", min_characters=3)
    for seed, name in enumerate(("bad.png", "sub/other.png"), 1):
        (folder / name).write_bytes(encoded(picture(seed=seed)))
    (folder / "copy.png").write_bytes((folder / "good.png").read_bytes())
    records = [looking("good.png"), looking("bad.png", answer="x"), looking("bad.png", "none.png")]
    raw = write_lines(tmp_path / "raw.jsonl", [*records, looking("copy.png", "sub/other.png")])
    (tmp_path / "images").mkdir()
    stale = [f"{'0' * 64}.png", f".{'0' * 64}.jpg.77.partial"]
    for name in [*stale, "notes.txt"]:
        (tmp_path / "images" / name).write_text("", encoding="utf-8")
    assert stage.ingest(raw) == 0
    manifest = check_manifest(tmp_path / "images/manifest.json", hashes=True)
    assert [entry["origins"] for entry in sorted(manifest["files"].values(), key=lambda e: e["origins"])] == [
        ["copy.png", "good.png"],
        ["sub/other.png"],
    ]
    there = {path.name for path in (tmp_path / "images").iterdir()}
    assert there == {*manifest["files"], "manifest.json", ".manifest.json.sha256", "notes.txt"}
    named = {name for row in stage.ingested() for name in images_of(json.loads(row["messages"]))}
    assert named == {f"images/{file}" for file in manifest["files"]}


def test_the_manifest_is_there_without_images_too(tmp_path: Path, capsys: pytest.CaptureFixture):
    stage = Stage(tmp_path, settings_of(), capsys)
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", [chat("q", "a")])) == 0
    assert stage.facts("images/manifest") == {"files": {}}


def test_the_folder_for_images_has_the_name_by_which_records_call_it(stage: Stage, tmp_path: Path):
    raw = write_lines(tmp_path / "raw.jsonl", [looking("good.png")])
    assert stage.ingest(raw, images_output=tmp_path / "kept") == 1
    assert "name a folder 'images'" in stage.error()


def test_an_image_that_was_damaged_since_is_written_anew(stage: Stage, tmp_path: Path):
    raw = write_lines(tmp_path / "raw.jsonl", [looking("good.png")])
    assert stage.ingest(raw) == 0
    (path,) = (tmp_path / "images").glob("*.png")
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert stage.ingest(raw) == 0
    assert path.read_bytes() == content
