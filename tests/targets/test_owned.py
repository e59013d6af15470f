"""What may be replaced by an artifact, and what places are refused before any work."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.errors import InputError
from kompakt.files import there
from kompakt.folders import packed, read_folder
from kompakt.targets import TARGETS, find_target, target_at
from kompakt.targets.float_target import sealed

FOLDERS = ("tfjs", "tflm", "savedmodel")
X = np.random.default_rng(0).random((8, 4), dtype="float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "m"
    kp.export(model, folder, target="savedmodel", verify=X)
    return folder


@pytest.fixture
def copy(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "m"))


@pytest.mark.parametrize("target", FOLDERS)
def test_a_folder_of_someone_else_is_never_replaced(model, target, tmp_path):
    site, main = tmp_path / "site", find_target(target).main
    site.mkdir()
    for name in (main, "app.js", "b.js", "c.js", "d.js"):
        (site / name).write_text("mine")
    before = read_folder(site)
    names = ", ".join(sorted(before)[:3])
    with pytest.raises(
        InputError, match=rf"site: replacing it would delete {names} and 2 more, which kompakt did not "
    ):
        kp.export(model, site, target=target, verify=X)
    assert read_folder(site) == before
    if target == "tflm":  # whose file is one of TFLite too: the folder is one of its own only with kompakt's note
        with pytest.raises(InputError, match=r"is no artifact, and holds some: name one of model.tflite \(tflite\)"):
            target_at(site)
    else:
        assert target_at(site).name == target  # it can be read


@pytest.mark.parametrize("name", ["app.js", "variables/notes.txt", ".hidden"])
def test_a_file_that_the_note_does_not_list_is_named(model, copy, name):
    (copy / name).write_text("mine")
    with pytest.raises(InputError, match=rf"m: replacing it would delete {name}, which kompakt did not write \(a komp"):
        kp.export(model, copy, target="savedmodel", verify=X)
    assert (copy / name).read_text() == "mine"


def test_a_link_in_it_is_a_file_too(copy, tmp_path):
    (tmp_path / "data").mkdir()
    (copy / "data").symlink_to(tmp_path / "data", target_is_directory=True)
    with pytest.raises(InputError, match="would delete data, which"):
        find_target("savedmodel").check_place(copy)


def test_what_is_changed_or_missing_may_be_replaced(model, copy):
    (copy / "saved_model.pb").unlink()
    (copy / "variables/variables.index").write_bytes(b"")
    kp.export(model, copy, target="savedmodel", verify=X)
    assert not kp.verify_file(copy, model, X).breaches


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"sha256": 1}', '{"sha256": ["a"]}'])
def test_a_note_without_digests_is_none(copy, note):
    (copy / "kompakt.json").write_text(note)
    with pytest.raises(InputError, match=r"would delete assets\.extra, kompakt\.json, "):
        find_target("savedmodel").check_place(copy)


def test_an_artifact_of_another_target_stays(copy):
    with pytest.raises(InputError, match=r"m holds an artifact of another target than 'tfjs'; name a new folder$"):
        find_target("tfjs").check_place(copy)


def test_an_empty_folder_is_a_place(tmp_path):
    find_target("tfjs").check_place(tmp_path)


@pytest.mark.parametrize("name", ["m" * 260, "new/" + "m" * 260, "m\0"])
@pytest.mark.parametrize("target", ["savedmodel", "tflite"])
def test_a_name_that_cannot_be_is_refused_before_any_work(model, tmp_path, name, target):
    path = tmp_path / (name + find_target(target).suffix)
    with pytest.raises(
        InputError, match=r"^cannot write .*m.*: (File name too long|embedded null byte); choose another"
    ):
        kp.export(model, path, target=target, verify=lambda: pytest.fail("it is at work"))
    with pytest.raises(InputError, match=r"^cannot read .*: .*; give the path of an exported file or folder$"):
        target_at(path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def closed(tmp_path):
    """A folder that one may not enter, which root may."""
    for target in TARGETS:
        find_target(target)  # not as somebody who may read no modules
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o000)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="Windows has other rights")
def test_a_folder_that_one_may_not_enter(closed):
    for path in (closed, closed / "m"):
        with pytest.raises(InputError, match=r"^cannot read .*: Permission denied; give the path of an exported"):
            target_at(path)
    with pytest.raises(InputError, match=r"^cannot write .*m: Permission denied; choose another place$"):
        there(closed / "m")
    for path in (closed, closed / "m"):
        with pytest.raises(InputError, match="Permission denied"):
            find_target("savedmodel").check_place(path)


def test_several_exports_to_one_place_do_not_take_each_other_for_strangers(tmp_path):
    place, folder = find_target("savedmodel"), tmp_path / "m"
    packs = [packed(sealed({"saved_model.pb": b"1", f"variables/{n}.bin": b"2" * 1000}, {})) for n in range(4)]

    def write(pack):
        for _ in range(100):
            place.write(folder, pack)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, packs))
    assert place.read(folder) in packs
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_link_to_a_folder_stays(model, copy, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(copy, target_is_directory=True)
    kp.export(model, link, target="savedmodel", verify=X)
    assert link.is_symlink() and sorted(path.name for path in tmp_path.iterdir()) == ["link", "m"]
    (copy / "app.js").write_text("mine")
    with pytest.raises(InputError, match=r"link: replacing it would delete app\.js"):
        kp.export(model, link, target="savedmodel", verify=X)
