"""Data sets of picture files: TinyImageNet, and a user's own folder."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from snnc import data
from snnc.data.decode import Form
from snnc.data.tinyimagenet import PUBLISHED, Counts, load_counted
from snnc.errors import InvalidFile, MissingDependency, Refusal

Image = pytest.importorskip("PIL.Image", reason="pictures need Pillow")

TINY = Counts(classes=2, train=3, test=1, held_out=1, form=Form(width=4, height=4, mode="RGB"))


def picture(path, value, *, size=(4, 4), mode="RGB"):
    """Write a picture of one colour, all channels `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode in ("L", "P", "I;16") else (value,) * len(mode)
    Image.new(mode, size, colour).save(path)


def tiny_imagenet(root):
    """Write a set of two classes; the second class has names that sort first."""
    place = root / "tiny-imagenet-200"
    for word, first in (("n02", 100), ("n01", 10)):
        for number in range(3):
            picture(place / "train" / word / "images" / f"{word}_{number}.JPEG", first + number)
    picture(place / "val" / "images" / "val_0.JPEG", 200)
    picture(place / "val" / "images" / "val_1.JPEG", 50)
    (place / "val" / "val_annotations.txt").write_text(
        "val_0.JPEG\tn02\t0\t0\t3\t3\nval_1.JPEG\tn01\t0\t0\t3\t3\n"
    )
    (place / "words.txt").write_text("n02\ttabby, tabby cat\nn03\tcrow\nn01\tgoldfish\n")
    return place


def corners(split):
    """Return the first value of every image."""
    return split.pixels[:, 0, 0, 0].tolist()


def test_classes_are_numbered_by_wordnet_id_and_named_by_their_first_synonym(tmp_path):
    tiny_imagenet(tmp_path)
    found = load_counted(TINY, tmp_path)
    assert found.class_names == ("goldfish", "tabby")
    assert found.train.labels.tolist() == [0, 0, 1, 1]
    assert found.train.pixels.shape == (4, 3, 4, 4)
    assert corners(found.train) == [10, 11, 100, 101]
    assert corners(found.validation) == [12, 102]


def test_the_published_validation_files_are_the_test_split(tmp_path):
    tiny_imagenet(tmp_path)
    found = load_counted(TINY, tmp_path)
    assert corners(found.test) == [200, 50]
    assert found.test.labels.tolist() == [1, 0]


def test_the_unzipped_folder_itself_is_found(tmp_path):
    place = tiny_imagenet(tmp_path)
    assert load_counted(TINY, place).digest == load_counted(TINY, tmp_path).digest


def test_a_grey_jpeg_gets_three_equal_channels(tmp_path):
    place = tiny_imagenet(tmp_path)
    picture(place / "train" / "n01" / "images" / "n01_0.JPEG", 77, mode="L")
    assert (load_counted(TINY, tmp_path).train.pixels[0] == 77).all()


def test_missing_images_are_counted_class_by_class(tmp_path):
    place = tiny_imagenet(tmp_path)
    (place / "train" / "n02" / "images" / "n02_1.JPEG").unlink()
    with pytest.raises(Refusal, match="train n02: 2 images of 3; unzip it again$"):
        load_counted(TINY, tmp_path)
    with pytest.raises(Refusal, match="train: 2 classes of 200; unzip it again"):
        data.load("tinyimagenet", root=tmp_path)


def test_an_annotated_image_that_is_absent_is_named(tmp_path):
    place = tiny_imagenet(tmp_path)
    (place / "val" / "images" / "val_1.JPEG").unlink()
    with pytest.raises(Refusal, match=r"val_1\.JPEG: cannot be decoded \(.*No such file"):
        load_counted(TINY, tmp_path)


def test_a_line_of_the_annotations_without_a_known_class_is_named(tmp_path):
    place = tiny_imagenet(tmp_path)
    (place / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\nval_1.J")
    with pytest.raises(Refusal, match="damaged:\n  line 2: names no class of train"):
        load_counted(TINY, tmp_path)


def test_a_class_without_a_name_is_refused(tmp_path):
    place = tiny_imagenet(tmp_path)
    (place / "words.txt").write_text("n02\ttabby\n")
    with pytest.raises(InvalidFile, match=r"words\.txt has no name for n01"):
        load_counted(TINY, tmp_path)


def test_a_file_that_was_cut_short_and_one_of_another_size_are_both_named(tmp_path):
    place = tiny_imagenet(tmp_path)
    path = place / "train" / "n01" / "images" / "n01_1.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    picture(place / "train" / "n02" / "images" / "n02_2.JPEG", 5, size=(4, 5))
    with pytest.raises(Refusal) as caught:
        load_counted(TINY, tmp_path)
    assert len(caught.value.issues) == 2
    assert "n01_1.JPEG: cannot be decoded" in str(caught.value)
    assert "n02_2.JPEG: is 4x5, not 4x4; resize or remove it" in str(caught.value)


def test_an_absent_tinyimagenet_shows_the_layout_and_the_place_to_download(tmp_path):
    with pytest.raises(InvalidFile, match=r"val_annotations\.txt.* download http://cs231n\."):
        data.load("tinyimagenet", root=tmp_path)


def test_tinyimagenet_has_200_classes_of_500_and_50(tmp_path):
    assert (PUBLISHED.classes, PUBLISHED.train, PUBLISHED.test) == (200, 500, 50)
    assert PUBLISHED.held_out * PUBLISHED.classes == 5000


def a_folder(root, *, mode="RGB", validation=False):
    """Write eleven training images of two classes each, and one test image of each."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(11):
            path = root / "train" / name / f"{number:02}.png"
            picture(path, 100 * label + number, mode=mode)
        picture(root / "test" / name / "a.png", 50 + label, mode=mode)
        if validation:
            picture(root / "validation" / name / "a.png", 60 + label, mode=mode)


def test_folders_are_classes_in_the_order_of_their_names(tmp_path):
    a_folder(tmp_path)
    found = data.load("folder", root=tmp_path)
    assert found.class_names == ("cat", "dog")
    assert corners(found.test) == [50, 51]
    assert found.test.labels.tolist() == [0, 1]
    assert found.test.pixels.shape == (2, 3, 4, 4)


def test_without_a_validation_folder_the_last_tenth_of_each_class_validates(tmp_path):
    a_folder(tmp_path)
    found = data.load("folder", root=tmp_path)
    assert corners(found.validation) == [10, 110]
    assert corners(found.train) == [*range(10), *range(100, 110)]


def test_with_a_validation_folder_all_training_images_train(tmp_path):
    a_folder(tmp_path, validation=True)
    found = data.load("folder", root=tmp_path)
    assert corners(found.validation) == [60, 61]
    assert len(found.train) == 22


def test_grey_pictures_have_one_channel(tmp_path):
    a_folder(tmp_path, mode="L")
    assert data.load("folder", root=tmp_path).train.pixels.shape == (20, 1, 4, 4)


def test_colours_are_red_green_blue(tmp_path):
    a_folder(tmp_path)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "test" / "cat" / "a.png")
    pixels = data.load("folder", root=tmp_path).test.pixels[0]
    assert pixels.reshape(3, 16).T.tolist() == [[1, 2, 3]] * 16


def test_rows_are_height_and_columns_are_width(tmp_path):
    a_folder(tmp_path)
    for path in tmp_path.rglob("*.png"):
        picture(path, 0, size=(3, 2), mode="L")
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(values).save(tmp_path / "test" / "cat" / "a.png")
    assert data.load("folder", root=tmp_path).test.pixels[0, 0].tolist() == values.tolist()


def test_the_digest_changes_with_a_pixel(tmp_path):
    a_folder(tmp_path)
    before = data.load("folder", root=tmp_path).digest
    picture(tmp_path / "test" / "cat" / "a.png", 51)
    assert data.load("folder", root=tmp_path).digest != before


def test_pictures_unlike_the_others_are_all_listed(tmp_path):
    a_folder(tmp_path)
    picture(tmp_path / "train" / "cat" / "03.png", 1, size=(5, 4))
    picture(tmp_path / "test" / "dog" / "a.png", 1, mode="L")
    with pytest.raises(Refusal) as caught:
        data.load("folder", root=tmp_path)
    assert [issue.problem for issue in caught.value.issues] == [
        "is 5x4 RGB, most are 4x4 RGB",
        "is 4x4 L, most are 4x4 RGB",
    ]
    assert caught.value.issues[0].layer.endswith("03.png")


def test_many_odd_pictures_are_listed_up_to_twenty_and_counted(tmp_path):
    a_folder(tmp_path)
    for number in range(11, 45):
        picture(tmp_path / "train" / "cat" / f"{number}.png", 1)
    for number in range(11, 41):
        picture(tmp_path / "train" / "dog" / f"{number}.png", 1, size=(9, 9))
    with pytest.raises(Refusal) as caught:
        data.load("folder", root=tmp_path)
    assert len(caught.value.issues) == 21
    assert caught.value.issues[-1].layer == "10 more"


@pytest.mark.parametrize("mode", ["RGBA", "P", "I;16"])
def test_a_mode_that_is_neither_grey_nor_colour_is_refused_with_the_remedy(tmp_path, mode):
    a_folder(tmp_path, mode=mode)
    with pytest.raises(Refusal, match=f"all pictures: have mode {mode}; convert all to L "):
        data.load("folder", root=tmp_path)


def test_files_that_are_no_pictures_are_named_before_anything_is_decoded(tmp_path):
    a_folder(tmp_path)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("mine")
    (tmp_path / "test" / "loose.png").write_bytes(b"")
    (tmp_path / "train" / "cat" / ".hidden").write_text("not looked at")
    with pytest.raises(Refusal, match=r"notes\.txt: is no picture; use \.bmp .*, or remove it$"):
        data.load("folder", root=tmp_path)
    (tmp_path / "train" / "cat" / "notes.txt").unlink()
    with pytest.raises(Refusal, match=r"loose\.png: is no class of train; move or remove it$"):
        data.load("folder", root=tmp_path)


def test_a_picture_that_is_damaged_is_named(tmp_path):
    a_folder(tmp_path)
    whole = (tmp_path / "train" / "cat" / "00.png").read_bytes()
    (tmp_path / "train" / "cat" / "01.png").write_bytes(whole[:45])
    with pytest.raises(Refusal, match=r"01\.png: cannot be decoded"):
        data.load("folder", root=tmp_path)
    (tmp_path / "train" / "cat" / "01.png").write_bytes(b"text")
    with pytest.raises(Refusal, match=r"01\.png: cannot be decoded \(cannot identify"):
        data.load("folder", root=tmp_path)


def test_a_file_of_several_pictures_is_refused(tmp_path):
    a_folder(tmp_path)
    pages = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "test" / "cat" / "b.tiff", save_all=True, append_images=pages[1:])
    with pytest.raises(Refusal, match=r"b\.tiff: holds 2 pictures; store them one by one$"):
        data.load("folder", root=tmp_path)


def test_annotations_that_are_no_text_are_refused(tmp_path):
    place = tiny_imagenet(tmp_path)
    (place / "val" / "val_annotations.txt").write_bytes(b"\xff\xfe\x00\tn\xff\t0\n")
    with pytest.raises(Refusal, match="line 1: names no class of train"):
        load_counted(TINY, tmp_path)


def test_a_test_class_that_training_does_not_know_is_refused(tmp_path):
    a_folder(tmp_path)
    picture(tmp_path / "test" / "bird" / "a.png", 1)
    with pytest.raises(Refusal, match="bird: is no class of train"):
        data.load("folder", root=tmp_path)


def test_a_class_without_training_images_is_refused(tmp_path):
    a_folder(tmp_path)
    (tmp_path / "train" / "bird").mkdir()
    with pytest.raises(Refusal, match="bird: is empty; fill or remove it"):
        data.load("folder", root=tmp_path)


def test_a_class_of_one_picture_needs_a_validation_folder(tmp_path):
    a_folder(tmp_path)
    picture(tmp_path / "train" / "bird" / "a.png", 1)
    with pytest.raises(InvalidFile, match="bird holds 1 picture; without a folder 'validation'"):
        data.load("folder", root=tmp_path)


def test_a_missing_split_shows_the_layout(tmp_path):
    with pytest.raises(InvalidFile, match="has no folder 'train'; expected {train,test}/<class>/"):
        data.load("folder", root=tmp_path)
    picture(tmp_path / "train" / "cat" / "a.png", 1)
    with pytest.raises(InvalidFile, match="holds 1 folders, one for each class; at least 2"):
        data.load("folder", root=tmp_path)
    picture(tmp_path / "train" / "dog" / "a.png", 1)
    with pytest.raises(InvalidFile, match="test is missing; expected {train,test}/<class>/"):
        data.load("folder", root=tmp_path)
    (tmp_path / "test").mkdir()
    with pytest.raises(InvalidFile, match="test holds no pictures"):
        data.load("folder", root=tmp_path)


def test_without_pillow_there_is_one_clear_error(tmp_path, monkeypatch):
    a_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependency, match=r"needs Pillow; try: .* 'snnc\[images\]'"):
        data.load("folder", root=tmp_path)


def test_a_count_that_is_right_and_one_that_is_not_differ_in_one_number(tmp_path):
    tiny_imagenet(tmp_path)
    with pytest.raises(Refusal, match="val n01: 1 images of 2; unzip it again"):
        load_counted(replace(TINY, test=2), tmp_path)
