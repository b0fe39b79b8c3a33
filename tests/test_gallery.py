"""The gallery: small enough to be kept, and made of pages of this version."""

from support.paths import OF_A_MACHINE, ROOT

GALLERY = ROOT / "examples" / "gallery"


def test_the_gallery_is_small_and_whole() -> None:
    sizes = {path.name: path.stat().st_size for path in GALLERY.iterdir()}
    assert sorted(sizes) == [
        "bits-by-layer.png", "heads.html", "ladder.html", "ladder.png", "results.png",
        "share-by-layer.png", "tiny.html", "tiny.png",
    ]  # fmt: skip
    assert sum(sizes.values()) <= 3e6


def test_its_pages_name_no_folder_of_the_machine_that_made_them() -> None:
    for path in GALLERY.glob("*.html"):
        page = path.read_text(encoding="utf-8")
        command = "probekit heads" if path.stem == "heads" else "probekit sweep --family tiny"
        assert command in page
        assert not [place for place in OF_A_MACHINE if place in page]
