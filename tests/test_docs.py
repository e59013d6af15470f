"""The README's Python runs, and the recipe of the docs is one."""

import json
import re
from pathlib import Path

import pytest

from kompakt.demo import digits

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    "docs/distillation.md",
    "docs/evaluation.md",
    "docs/inspecting.md",
    "docs/migrating.md",
    "docs/pruning.md",
    "docs/quantization.md",
    "docs/ranges.md",
    "docs/watching.md",
}
"""Those with Python in them."""

MADE = {
    "docs/evaluation.md": "int8.tflite",
    "docs/quantization.md": "chosen.tflite",
    "docs/ranges.md": "learned.tflite",
    "docs/distillation.md": "student.tflite",
    "docs/inspecting.md": "int8.tflite",
    "docs/migrating.md": "qat.tflite",
    "docs/watching.md": "watched.tflite",
}
"""Document -> the last file that its code writes, where that is another."""


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", ["README.md", *sorted(DOCUMENTS)])
def test_the_python_of_a_document_runs_from_top_to_bottom(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    code = blocks(document, "python")
    assert len(code) >= 3
    for block in code:
        exec(compile(block, document, "exec"), scope)
    if "model" in scope:  # what is said of a model at chance says nothing
        outputs = scope["model"].predict(digits().x_test, verbose=0)
        assert (outputs.argmax(-1) == digits().y_test).mean() > 0.9
    assert (tmp_path / "build" / MADE.get(document, "pcqat.tflite")).exists()


def test_no_document_has_python_that_is_not_run():
    have = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md") if "```python" in path.read_text()
    }
    assert have == DOCUMENTS


def test_the_recipe_of_the_docs_is_valid():
    from kompakt.recipe import load_recipe

    (text,) = blocks("docs/recipes.md", "json")
    assert load_recipe(json.loads(text)).name == "my_pqat_int8"


def test_the_readme_lists_every_recipe_and_no_other():
    from kompakt.recipe import recipe_names

    table = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    listed = {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert listed == set(recipe_names()) - {"float"}


def test_every_link_and_picture_of_the_documents_is_there():
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_every_public_name_has_an_example():
    """Run as doctests; here is seen that none is forgotten."""
    import inspect

    import kompakt as kp

    bare, names = [], [name for name in dir(kp) if not name.startswith("_")]
    for name in names:
        thing = getattr(kp, name)
        module = inspect.ismodule(thing)
        of_module = (getattr(thing, each) for each in vars(thing)) if module else ()
        own = [each for each in of_module if callable(each) and getattr(each, "__module__", "") == thing.__name__]
        for each in own if module else [thing]:
            if not each.__name__.startswith("_") and "Example" not in (inspect.getdoc(each) or ""):
                bare.append(f"{name}: {each.__name__}")
    assert len(names) > 30 and bare == []
