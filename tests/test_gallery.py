"""The gallery: small enough to be kept, and made of pages of this version."""

from pathlib import Path

GALLERY = Path(__file__).parents[1] / "examples" / "gallery"


def test_the_gallery_is_small_and_whole() -> None:
    sizes = {path.name: path.stat().st_size for path in GALLERY.iterdir()}
    assert sorted(sizes) == ["ladder.html", "ladder.png", "tiny.html", "tiny.png"]
    assert sum(sizes.values()) <= 3e6


def test_its_pages_name_no_folder_of_the_machine_that_made_them() -> None:
    for path in GALLERY.glob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert "probekit sweep --family tiny" in page
        assert not [place for place in ("/home/", "/root/", "/tmp/", "file://") if place in page]
