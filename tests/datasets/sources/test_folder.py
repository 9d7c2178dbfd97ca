import pytest

from multimodal.datasets import SOURCES, SourceOptions
from multimodal.datasets.sources.record import IMAGE_SUFFIXES


def read_folder(path, templates=None):
    return SOURCES["folder"].read(path, SourceOptions(templates))


@pytest.fixture
def tree(tmp_path, jpeg):
    for i, name in enumerate(
        [
            "cat/1.jpg",
            "cat/0.JPG",
            "cat/deep/er/2.png",
            "hot_air-balloon/a.webp",
            "cat/notes.txt",
            "cat/.hidden.jpg",
            ".cache/x.jpg",
            "cat/.thumbs/x.jpg",
            "outside.jpg",
            "__/x.jpg",
        ]
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(i))
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_folder_worked_by_hand(tree):
    source = read_folder(tree)
    assert [tuple(sample) for sample in source] == [
        ("cat/0.JPG", {"image": tree / "cat/0.JPG"}, ("a photo of a cat",), "cat"),
        ("cat/1.jpg", {"image": tree / "cat/1.jpg"}, ("a photo of a cat",), "cat"),
        ("cat/deep/er/2.png", {"image": tree / "cat/deep/er/2.png"}, ("a photo of a cat",), "cat"),
        (
            "hot_air-balloon/a.webp",
            {"image": tree / "hot_air-balloon/a.webp"},
            ("a photo of a hot air balloon",),
            "hot air balloon",
        ),
    ]
    assert {item.name: item.reason for item in source.rejected} == {
        "__/x.jpg": "its folder's name gives no label",
        "cat/notes.txt": "expected a suffix of image, got '.txt'",
        "outside.jpg": "not in a class folder",
    }


def test_every_visible_file_is_a_sample_or_rejected(tree):
    source = read_folder(tree)
    names = [file.relative_to(tree) for file in tree.rglob("*") if file.is_file()]
    visible = {str(name) for name in names if not any(part.startswith(".") for part in name.parts)}
    found = [sample.name for sample in source]
    assert sorted(found + [item.name for item in source.rejected]) == sorted(visible)
    assert all("." + name.rpartition(".")[2].lower() in IMAGE_SUFFIXES for name in found)


def test_templates(tree):
    assert read_folder(tree, ["{}", "my {}."])[0].captions == ("cat", "my cat.")
    with pytest.raises(ValueError, match=r"one \{\} for the label, got 'a photo'"):
        read_folder(tree, ["a photo"])
    with pytest.raises(ValueError, match="expected a list of strings"):
        read_folder(tree, "a {}")


def test_a_image_that_vanishes_is_still_named(tree):
    source = read_folder(tree)
    (tree / "cat/1.jpg").unlink()
    assert source[1].name == "cat/1.jpg"
    with pytest.raises(FileNotFoundError):
        source[1].inputs["image"].read_bytes()


def test_linked_folders_are_followed_once(tree, tmp_path_factory, jpeg):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "3.jpg").write_bytes(jpeg(3))
    (tree / "cat/linked").symlink_to(elsewhere)
    (tree / "cat/loop").symlink_to(tree / "cat")
    names = [sample.name for sample in read_folder(tree) if sample.label == "cat"]
    assert names == ["cat/0.JPG", "cat/1.jpg", "cat/deep/er/2.png", "cat/linked/3.jpg"]
