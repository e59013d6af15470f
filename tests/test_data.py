"""Every form of data that load_data takes, and the text of every error."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kompakt.data import Data, check_data, load_data, sample_rows
from kompakt.errors import InputError

FORMS = "an .npz file, a folder of images by class, or package.module:function"


def arrays(**changes):
    """Four small arrays that are fine, with some of them changed; None leaves one out."""
    random = np.random.default_rng(0)
    fine = {
        "x_train": random.normal(size=(6, 4, 4, 1)).astype("float32"),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": random.normal(size=(3, 4, 4, 1)).astype("float32"),
        "y_test": np.array([0, 1, 2]),
    }
    return {name: value for name, value in {**fine, **changes}.items() if value is not None}


def save(path: Path, **changes) -> Path:
    np.savez(path, **arrays(**changes))
    return path


def save_image(path: Path, *, size=(5, 4), mode="RGB", value=0):
    """An image of ``size`` (width, height), as Pillow counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (value, 0, 0) if mode == "RGB" else value
    Image.new(mode, size, colour).save(path)


def refused(text: str):
    """The call raises InputError with exactly this text, on one line."""
    assert "\n" not in text
    return pytest.raises(InputError, match=f"^{re.escape(text)}$")


# --- what is taken


def test_npz(tmp_path):
    path = save(tmp_path / "d.npz", class_names=np.array([1, 2, 3]))
    data = load_data(path)
    assert data.source == str(path)
    assert data.x_val is None
    for name, expected in arrays().items():
        np.testing.assert_array_equal(getattr(data, name), expected)


def test_validation_data(tmp_path):
    given = arrays()
    data = load_data(save(tmp_path / "d.npz", x_val=given["x_test"], y_val=given["y_test"]))
    np.testing.assert_array_equal(data.y_val, [0, 1, 2])


def test_mapping_and_data():
    data = load_data(arrays(y_test=[0, 1, 2]))
    assert data.source == "arrays in memory"
    assert isinstance(data.y_test, np.ndarray)
    again = load_data(Data(**arrays(), source="elsewhere"))
    assert again.source == "elsewhere"


def test_several_inputs():
    given = arrays()
    x = {"image": given["x_train"], "mass": np.ones((6, 1))}
    x_test = {"image": given["x_test"], "mass": np.ones((3, 1))}
    data = load_data(arrays(x_train=x, x_test=x_test))
    check_data(data, input_shape={"image": (None, 4, 4, 1), "mass": (None, 1)}, output_units=3)


def test_function_in_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_digits.py").write_text(
        "import numpy as np\nX, Y = np.zeros((2, 3)), np.array([0, 1])\n"
        "def load():\n    return {'x_train': X, 'y_train': Y, 'x_test': X, 'y_test': Y}\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    data = load_data("my_digits:load")
    assert data.source == "my_digits:load"
    assert data.x_train.shape == (2, 3)
    assert sys.path == before


def test_function_may_return_data(tmp_path, monkeypatch):
    (tmp_path / "my_data.py").write_text(
        "import numpy as np\nfrom kompakt.data import Data\nX, Y = np.zeros((2, 3)), np.array([0, 1])\n"
        "def load():\n    return Data(x_train=X, y_train=Y, x_test=X, y_test=Y, source='mine')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load_data("my_data:load").source == "mine"


def test_image_folder_with_splits(tmp_path):
    for split, count in {"train": 2, "val": 1, "test": 1}.items():
        for label, name in enumerate(("ant", "bee")):
            for i in range(count):
                save_image(tmp_path / split / name / f"{i}.png", value=100 * label + i)
    data = load_data(tmp_path)
    assert data.x_train.dtype == "float32"
    assert data.x_train.shape == (4, 4, 5, 3)
    assert data.x_val.shape == data.x_test.shape == (2, 4, 5, 3)
    np.testing.assert_array_equal(data.y_train, [0, 0, 1, 1])
    np.testing.assert_array_equal(data.x_train[:, 0, 0, 0], [0, 1, 100, 101])


def test_image_folder_without_splits(tmp_path):
    for label, name in enumerate(("bee", "ant", "cat")):
        for i in range(10):
            save_image(tmp_path / name / f"{i}.png", mode="L", value=10 * label + i)
    (tmp_path / ".cache").mkdir()
    data = load_data(str(tmp_path))
    assert data.x_train.shape == (24, 4, 5, 1)
    assert data.x_test.shape == (6, 4, 5, 1)
    np.testing.assert_array_equal(np.bincount(data.y_test), [2, 2, 2])
    firsts = {"ant": 10, "bee": 0, "cat": 20}
    for label, name in enumerate(sorted(firsts)):
        pixels = [
            *data.x_train[data.y_train == label][:, 0, 0, 0],
            *data.x_test[data.y_test == label][:, 0, 0, 0],
        ]
        assert sorted(pixels) == [firsts[name] + i for i in range(10)]


def test_image_folder_split_depends_on_the_seed_only(tmp_path):
    for i in range(20):
        save_image(tmp_path / "only" / f"{i:02}.png", value=i)
    first, again, other = (load_data(tmp_path, seed=seed).x_test for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "tram"):
        for i in range(2):
            save_image(tmp_path / name / f"{i}.png")
    assert load_data(tmp_path).x_train.shape == (2, 4, 5, 3)


def test_image_size_resizes(tmp_path):
    save_image(tmp_path / "a" / "0.png", size=(5, 4))
    save_image(tmp_path / "a" / "1.png", size=(8, 9), value=200)
    data = load_data(tmp_path, image_size=(2, 3))
    assert data.x_train.shape == (1, 2, 3, 3)
    assert data.x_train.max() in (0, 200)


def test_palette_images_are_read_as_rgb(tmp_path):
    for i in range(2):
        Image.new("RGB", (5, 4), (7, 8, 9)).convert("P").save(tmp_path / f"{i}.gif")
    (tmp_path / "a").mkdir()
    for i in range(2):
        (tmp_path / f"{i}.gif").rename(tmp_path / "a" / f"{i}.gif")
    assert load_data(tmp_path).x_train.shape == (1, 4, 5, 3)


def test_nothing_heavy_is_imported():
    code = (
        "import sys, kompakt.data\n"
        "print([m for m in ('PIL', 'sklearn', 'tensorflow', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what is refused: files


def test_missing_file(tmp_path):
    path = tmp_path / "no.npz"
    with refused(f"data file {path} does not exist; give the path of {FORMS}"):
        load_data(path)


def test_not_an_npz(tmp_path):
    path = tmp_path / "text.npz"
    path.write_text("hello")
    with refused(f"{path}: not an .npz file (a zip of arrays); write one with numpy.savez"):
        load_data(path)


def test_damaged_npz(tmp_path):
    path = save(tmp_path / "d.npz")
    content = bytearray(path.read_bytes())
    content[200:240] = bytes(40)
    path.write_bytes(content)
    text = f"{path}: a damaged .npz file (BadZipFile: Bad CRC-32 for file 'x_train.npy'); write it again"
    with refused(text):
        load_data(path)


def test_lacking_a_name(tmp_path):
    path = save(tmp_path / "d.npz", y_test=None)
    with refused(
        f"{path}: lacks y_test; it has x_train, y_train, x_test, "
        "expected x_train, y_train, x_test, y_test and perhaps x_val, y_val"
    ):
        load_data(path)


def test_mistyped_name():
    given = arrays()
    with refused(
        "arrays in memory: unknown name 'x_valid'; did you mean 'x_val'? "
        "known: x_train, y_train, x_test, y_test, x_val, y_val"
    ):
        load_data(arrays(x_valid=given["x_test"], y_val=given["y_test"]))


def test_half_a_validation_set():
    with refused("arrays in memory: has only one of x_val and y_val; give both or neither"):
        load_data(arrays(x_val=arrays()["x_test"]))


def test_pickled_content(tmp_path):
    path = save(tmp_path / "d.npz", x_train=np.array([{"a": 1}, None], dtype=object))
    with refused(
        f"{path}: holds pickled Python objects, which could run code when read, so they are refused; "
        "save plain arrays of numbers with numpy.savez"
    ):
        load_data(path)


def test_unknown_form(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("1,2")
    with refused(f"{path}: a data file of an unknown form; expected {FORMS}"):
        load_data(path)
    with refused(f"data 'no_such_thing': no such file or folder; expected {FORMS}"):
        load_data("no_such_thing")
    with refused(f"data of type int: expected {FORMS}, or a mapping of arrays"):
        load_data(3)


# --- what is refused: values


def test_nan():
    x = arrays()["x_test"]
    x[1, 2, 3, 0] = np.nan
    x[2, 0, 0, 0] = -np.inf
    with refused(
        "arrays in memory: x_test: 2 of 48 values are NaN or infinite, the first at (1, 2, 3, 0); "
        "expected finite numbers: clean the data, kompakt never replaces a value"
    ):
        load_data(arrays(x_test=x))


def test_empty():
    with refused(
        "arrays in memory: x_train: is empty (shape (0, 4, 4, 1)); expected at least one sample along the first axis"
    ):
        load_data(arrays(x_train=np.zeros((0, 4, 4, 1)), y_train=np.zeros(0)))


def test_not_numbers():
    with refused("arrays in memory: y_test: has dtype <U3; expected numbers: encode what it holds as numbers"):
        load_data(arrays(y_test=["cat", "dog", "cat"]))
    with refused("arrays in memory: x_test: has dtype object; expected numbers: encode what it holds as numbers"):
        load_data(arrays(x_test=np.array([None, 1, 2], dtype=object)))


def test_ragged_rows():
    with pytest.raises(
        InputError,
        match=r"^arrays in memory: x_test: cannot be made an array \(ValueError: .*\); "
        r"expected numbers in rows of one length$",
    ):
        load_data(arrays(x_test=[[1, 2], [3]]))


def test_lengths_differ():
    with refused(
        "arrays in memory: x_test has 3, y_test has 2 samples; expected as many in each: give one label a sample"
    ):
        load_data(arrays(y_test=[0, 1]))


def test_shape_differs_between_splits():
    with refused(
        "arrays in memory: x_test has samples of shape (4, 4), x_train has samples of shape (4, 4, 1); "
        "reshape the samples, or give other data"
    ):
        load_data(arrays(x_test=arrays()["x_test"][..., 0]))


def test_shape_differs_from_the_model():
    data = load_data(arrays())
    check_data(data, input_shape=(None, None, None, 1))
    with refused(
        "arrays in memory: x_train has samples of shape (4, 4, 1), "
        "the model takes samples of shape (8, 8, 1); reshape the samples, or give other data"
    ):
        check_data(data, input_shape=(None, 8, 8, 1))


def test_inputs_differ_from_the_model():
    data = load_data(arrays())
    with refused(
        "arrays in memory: x_train is one array, the model takes a mapping with the inputs 'a', 'b'; "
        "expected the same inputs in both"
    ):
        check_data(data, input_shape={"a": (None, 1), "b": (None, 2)})


def test_labels_differ_from_the_model():
    with refused(
        "arrays in memory: y_train: has labels from 0 to 2, the model has 2 outputs; "
        "expected whole class numbers from 0 to 1"
    ):
        check_data(load_data(arrays()), output_units=2)
    one_hot = {"y_train": np.eye(3)[arrays()["y_train"]], "y_test": np.eye(3)}
    check_data(load_data(arrays(**one_hot)), output_units=3)
    with refused(
        "arrays in memory: y_train: has 3 columns, the model has 10 outputs; "
        "expected a column an output, or one class number a sample"
    ):
        check_data(load_data(arrays(**one_hot)), output_units=10)


def test_one_output_takes_any_number_and_several_take_whole_ones():
    data = load_data(arrays(y_train=np.linspace(0.1, 0.6, 6)))
    with refused(
        "arrays in memory: y_train: has labels from 0.1 to 0.6, the model has 3 outputs; "
        "expected whole class numbers from 0 to 2"
    ):
        check_data(data, output_units=3)
    check_data(data, output_units=1)


# --- what is refused: folders of images


def test_folder_without_images(tmp_path):
    with refused(f"{tmp_path}: has no folders of images; expected one a class: {tmp_path}/<class>/*.png"):
        load_data(tmp_path)
    (tmp_path / "ant").mkdir()
    with refused(
        f"{tmp_path}/ant: holds no images (.bmp, .gif, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp); "
        "add some, or remove the folder"
    ):
        load_data(tmp_path)


def test_folder_without_test_images(tmp_path):
    save_image(tmp_path / "train" / "ant" / "0.png")
    with refused(f"{tmp_path}: has train/ but no test/; expected train/<class>/ and test/<class>/"):
        load_data(tmp_path)


def test_unknown_class_in_test(tmp_path):
    save_image(tmp_path / "train" / "ant" / "0.png")
    save_image(tmp_path / "test" / "wasp" / "0.png")
    with refused(f"{tmp_path}/test/wasp: not a class of the training images (ant); rename it"):
        load_data(tmp_path)


def test_one_image_cannot_be_split(tmp_path):
    save_image(tmp_path / "ant" / "0.png")
    with refused(f"{tmp_path}/ant: holds 1 image; expected at least 2, to train and to test"):
        load_data(tmp_path)


def test_images_of_two_sizes(tmp_path):
    save_image(tmp_path / "ant" / "0.png", size=(5, 4))
    save_image(tmp_path / "ant" / "1.png", size=(6, 4))
    with pytest.raises(
        InputError, match=r"high and \d wide; make them one size, or give image_size=\(height, width\)$"
    ):
        load_data(tmp_path)


def test_images_grey_and_rgb(tmp_path):
    save_image(tmp_path / "ant" / "0.png", mode="L")
    save_image(tmp_path / "ant" / "1.png", mode="RGB")
    with pytest.raises(InputError, match=r"colour channels, .*; convert all images to RGB, or all to grey$"):
        load_data(tmp_path)


def test_image_with_transparency(tmp_path):
    for i in range(2):
        save_image(tmp_path / "ant" / f"{i}.png", mode="RGBA")
    with pytest.raises(InputError, match=r"\d.png: an image of mode RGBA; convert it to RGB or to 8-bit grey$"):
        load_data(tmp_path)


def test_damaged_image(tmp_path):
    save_image(tmp_path / "ant" / "0.png")
    path = tmp_path / "ant" / "1.png"
    path.write_text("no image")
    with refused(
        f"{path}: not an image that Pillow can read (cannot identify image file '{path}'); mend or remove the file"
    ):
        load_data(tmp_path)


def test_image_size_must_be_a_pair(tmp_path):
    with refused("image_size=(0, 3): expected (height, width), two whole numbers of at least 1"):
        load_data(tmp_path, image_size=(0, 3))


def test_image_size_is_for_folders():
    with refused("image_size=(2, 3) is for a folder of images, which this data is not; leave it out"):
        load_data(arrays(), image_size=(2, 3))


# --- what is refused: functions

FINDABLE = "expected a module that Python finds from here"


@pytest.mark.parametrize(
    ("name", "source", "text"),
    [
        (
            "absent",
            None,
            "cannot import absent (ModuleNotFoundError: No module named 'absent'); " + FINDABLE,
        ),
        (
            "broken",
            "1 / 0",
            "cannot import broken (ZeroDivisionError: division by zero); " + FINDABLE,
        ),
        ("lacking", "", "the module has no function 'load'; expected one without arguments"),
        ("no_callable", "load = 3", "the module has no function 'load'; expected one without arguments"),
        (
            "failing",
            "def load():\n    raise RuntimeError('two\\nlines')",
            "the function failed (RuntimeError: two lines); call it in Python to see where",
        ),
        (
            "exiting",
            "def load():\n    raise SystemExit(3)",
            "the function failed (SystemExit: 3); call it in Python to see where",
        ),
        (
            "no_mapping",
            "def load():\n    return 3",
            "the function returned int; expected a mapping with the names x_train, y_train, x_test, y_test",
        ),
    ],
)
def test_function_errors(tmp_path, monkeypatch, name, source, text):
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    with refused(f"data {name}:load: {text}"):
        load_data(f"{name}:load")


# sample_rows


def test_rows_are_drawn_from_everywhere_once_and_shuffled():
    x = np.arange(2000).reshape(1000, 2)
    drawn = sample_rows(x, 100)[:, 0] // 2
    assert len(set(drawn)) == 100
    assert all(5 <= (part < 500).sum() <= 20 for part in np.split(drawn, 4))
    np.testing.assert_array_equal(sample_rows(x, 100), sample_rows(x, 100))
    assert not np.array_equal(sample_rows(x, 100), sample_rows(x, 100, seed=1))


def test_rows_of_several_inputs_are_the_same_ones():
    a, b = np.arange(50), np.arange(50)[:, None] * 2
    for inputs in ({"a": a, "b": b}, [a, b]):
        drawn = sample_rows(inputs, 5)
        assert type(drawn) is type(inputs)
        first, second = drawn.values() if isinstance(drawn, dict) else drawn
        np.testing.assert_array_equal(first * 2, second[:, 0])


def test_all_rows_are_given_where_there_are_no_more():
    x = np.arange(5)
    assert sorted(sample_rows(x, 5)) == sorted(sample_rows(x, 9)) == x.tolist()
