"""A picture of the page that comes with a TF.js model, made in headless Chromium: the digits CNN, weights as uint8.

python benchmarks/web_page.py [docs/tfjs_page.png] [--backend wasm|webgl|cpu] [--dark]
"""

from __future__ import annotations

import argparse
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras

import kompakt as kp
from kompakt.demo import digits, digits_model, train
from kompakt.run_progress import silent
from kompakt.targets import find_target
from kompakt.targets.web_browser import IN_BROWSER, take_screenshot


def main() -> None:
    """Train, export, open the page, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", default="docs/tfjs_page.png")
    parser.add_argument("--backend", default="wasm", choices=IN_BROWSER)
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    keras.utils.set_random_seed(0)
    data = digits(0)
    model = train(digits_model(), data, epochs=8, seed=0, report=silent)
    with tempfile.TemporaryDirectory() as folder:
        made = kp.export(model, f"{folder}/web", target="tfjs", quantization="uint8", verify=(data.x_test, data.y_test))
        place = find_target("tfjs")
        found = take_screenshot(place.read(made.path), given.path, backend=given.backend, dark=given.dark)
    print(made.report)
    print(found)


if __name__ == "__main__":
    main()
