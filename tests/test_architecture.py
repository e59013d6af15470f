"""Imports go down only: every module may import the modules of lower lines of this table, and no others.

Imports inside functions count. A row ``folder.*`` stands for every module of that folder without a row of its
own. A folder's own name is its ``__init__``, which sits above the modules that it collects.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

LEVELS = (
    (
        "errors",
        "former_names",
        "printable",
        "compiled",
        "scopes",
        "isolated_messages",
        "run_progress",
    ),
    ("records_bounds", "progress"),
    ("records_layers", "records_difference"),
    ("precision", "isolated_limits", "spelling", "recipe_files", "targets.words"),
    ("model_paths", "keras2.mends", "keras2.activations", "keras2.constants", "keras2.resizing"),
    ("keras2.layers", "keras2.names", "keras2.weights", "keras2.operators"),
    ("keras2.dtypes", "keras2.causal"),
    ("keras2.nodes",),
    ("keras2.config",),
    ("keras2.training",),
    ("keras2.h5",),
    ("keras2",),
    ("isolated_process", "isolated_child"),
    ("axes",),
    (
        "numerics",
        "topk",
        "codebook",
        "requantize",
        "schedules",
        "records",
        "contents",
        "records_profile",
        "files",
        "images",
        "isolated",
        "intervals",
        "summaries",
    ),
    ("data", "centroids", "folders", "records_evaluation", "changes", "histogram", "measure", "event_file"),
    ("sites", "transform"),
    ("copies", "counted"),
    ("graph", "checks", "inference", "scores"),
    (
        "transforms.moving",
        "transforms.patterns",
        "transforms.scores",
        "rewrite.elementwise",
        "rewrite.matrix_product",
        "rewrite.recurrent_loops",
        "rewrite.repeated_blocks",
        "rewrite.trace",
    ),
    ("transforms.*", "rewrite.*", "attach", "compare", "cost", "policies"),
    ("distillation.losses", "distillation.outputs", "distillation.digests"),
    ("distillation.terms", "distillation.capture", "distillation.teachers", "distillation.sheet"),
    ("distillation.cache", "distillation.layer_terms", "distillation.fit"),
    ("distillation.words",),
    ("transforms", "rewrite", "rewrite.channel_scope", "integer_layers", "integer_functions", "transforms.passing"),
    ("rewrite.channel_linear", "rewrite.channel_moves"),
    ("rewrite.channel_rules",),
    ("rewrite.channel_groups",),
    ("rewrite.remove_channels",),
    ("ranking", "gauges", "targets.protobuf", "targets.graph_view", "targets.owned", "keras_modes"),
    ("selection",),
    (
        "targets.target",
        "targets.bandwidth",
        "targets.batches",
        "targets.notes",
        "targets.first_run",
        "targets.laps",
        "targets.quiet",
        "targets.sparse_format",
        "targets.tensorflow_attributes",
        "targets.tfjs_rewrite",
        "targets.tfjs_weights",
        "targets.web_packages",
    ),
    (
        "targets.litert",
        "targets.litert_converter",
        "targets.ai_edge",
        "targets.grappler",
        "targets.tflm_runtime",
        "targets.ethos_u",
        "targets.savedmodel_graph",
        "targets.warm_up",
        "targets.endpoints",
        "targets.onnx_layout",
        "targets.tensorflow_channels",
        "targets.tflite_options",
        "targets.profiler",
    ),
    ("targets.litert_slices", "targets.savedmodel_server", "targets.savedmodel_write", "targets.onnx_server"),
    ("targets.tensorflow_nodes",),
    ("targets.onnx_converter", "targets.onnx_view", "targets.savedmodel_view", "targets.onnx_work"),
    ("targets.onnx_grids",),
    (
        "targets.tflite_build",
        "targets.tflite_file",
        "targets.tflite_runtime",
        "targets.float_target",
        "targets.tfjs_model",
        "targets.web_process",
    ),
    ("targets.tflite_edit",),
    ("targets.tflite_grids", "targets.tflite_scales"),
    (
        "targets.machine",
        "targets.tflite_biases",
        "targets.tflite_constants",
        "targets.tflite_float",
        "targets.tflm_arena",
        "targets.tflm_operators",
        "targets.tflm_source",
        "targets.tflm_tables",
        "targets.tflite_links",
        "targets.tflite_islands",
        "targets.tflite_layers",
        "targets.tflite_tables",
        "targets.tflite_sparse",
        "targets.tflite_seal",
        "targets.tflite_work",
        "targets.tfjs_graph",
        "targets.tfjs_runtime",
        "targets.tfjs_view",
        "targets.tflite_view",
    ),
    ("targets.tflm_edit", "targets.tflite_signatures", "targets.tflite_analyzer", "targets.tflite_slices"),
    (
        "targets.profiler_tflite",
        "targets.tflm_rewrite",
        "targets.tflite_sound",
        "targets.tfjs_links",
        "targets.tfjs_page",
    ),
    ("targets.web_browser",),
    ("targets.tflite_widths",),
    ("targets.tflite_quantize",),
    ("targets.tflite",),
    ("targets.*", "activation_ranges", "calibrate", "placement", "loading"),
    (
        "profiling.limits",
        "profiling.symbols",
        "targets.onnx_marks",
        "driving",
        "watching",
        "targets.profiler_savedmodel",
        "targets.profiler_tfjs",
        "targets.profiler_tflm",
    ),
    ("targets.onnx_graph", "callbacks"),
    ("targets.onnx",),
    ("targets.profiler_onnx",),
    ("repairs.walk", "repairs.soft"),
    ("repairs.*",),
    ("distillation.model",),
    ("distillation", "distill"),
    ("targets", "simulation", "assignment", "choose", "repairs", "planning"),
    ("noise", "deployable", "profiling.rows", "profiling.profiled", "profiling.related"),
    ("profiling.starts", "profiling.pairs"),
    ("profiling", "profile"),
    ("techniques", "quantization", "testing", "shrink"),
    ("summands",),
    ("deploy", "sensitivity", "student"),
    ("verdicts", "samples"),
    ("culprit",),
    ("examine", "layerwise"),
    ("stages", "export_options", "browser", "viewable"),
    ("signatures", "subjects", "inspect", "viewer"),
    ("export", "recipe", "task", "verify", "answers", "difference"),
    ("export_all", "evaluate"),
    ("versus",),
    ("contest", "run_measure", "run_resume", "run_checks"),
    ("run_setting",),
    ("run_stage",),
    ("run_job",),
    ("run",),
    ("tfmot.wrapping", "tfmot.summaries"),
    ("tfmot.clustering.options", "tfmot.clustering.keras.clusterable_layer"),
    ("tfmot.clustering.*",),
    ("tfmot.clustering.keras.experimental.cluster",),
    ("tfmot.clustering.keras.experimental",),
    ("tfmot.clustering.keras",),
    ("tfmot.clustering",),
    ("tfmot.sparsity.prunable_layer", "tfmot.sparsity.policies", "tfmot.sparsity.schedules"),
    ("tfmot.sparsity.masks", "tfmot.sparsity.callbacks"),
    ("tfmot.sparsity.weights",),
    ("tfmot.sparsity.keras",),
    ("tfmot.sparsity",),
    ("tfmot.gone", "tfmot.quantization.quantizers"),
    ("tfmot.quantization.config", "tfmot.quantization.own_quantizer"),
    ("tfmot.quantization.gone_names", "tfmot.quantization.default_configs"),
    (
        "tfmot.quantization.annotate",
        "tfmot.quantization.asked",
        "tfmot.quantization.grids",
        "tfmot.quantization.scheme",
    ),
    ("tfmot.quantization.chains", "tfmot.quantization.scope"),
    ("tfmot.quantization.apply", "tfmot.quantization.ends"),
    (
        "tfmot.quantization.keras.*",
        "tfmot.quantization.keras.default_8bit.*",
        "tfmot.quantization.keras.graph_transformations.*",
        "tfmot.quantization.keras.experimental.default_n_bit.*",
        "tfmot.experimental.combine",
    ),
    (
        "tfmot.quantization.keras.default_8bit",
        "tfmot.quantization.keras.graph_transformations",
        "tfmot.quantization.keras.experimental.default_n_bit",
        "tfmot.experimental",
    ),
    ("tfmot.quantization.keras.experimental", "tfmot.deep_names", "tfmot.deep_paths"),
    ("tfmot.quantization.keras", "tfmot.python"),
    ("tfmot.quantization",),
    ("tfmot",),
    ("known",),
    (
        "report.facts.metric",
        "report.facts.layers",
        "report.facts.curves",
        "report.facts.provenance",
        "report.blocks",
        "report.facts.speed",
    ),
    ("report.facts.front", "report.facts.combine", "report.facts.agreement", "report.facts.undone"),
    ("report.facts.variants",),
    ("report.facts.verdict",),
    ("report.facts", "report.reading", "report.terminal"),
    ("report.fitting",),
    ("report.table", "report.contents"),
    ("report.units",),
    (
        "report.layers",
        "report.deployments",
        "report.comparison",
        "report.differences",
        "report.profile",
        "report.plots.labels",
        "report.plots.svg",
        "report.plots.histogram",
    ),
    ("report.plots.*", "report.sections.words", "report.sections.beside"),
    ("report.sections.*", "report.plots"),
    ("report.sections",),
    ("report.html", "report.markdown", "report.sheet"),
    ("report.formats",),
    ("report",),
    ("demo",),
    ("commands.shared", "commands.early"),
    ("commands.*",),
    ("commands",),
    ("cli",),
    ("__main__",),
)

ONLY_IN_TARGETS = {"tensorflow", "ai_edge_litert", "ai_edge_quantizer"}
"""Frameworks of deployment: everything else runs without them."""

REPORT_READS = {
    "errors",
    "printable",
    "records",
    "records_difference",
    "records_bounds",
    "records_evaluation",
    "records_layers",
    "records_profile",
    "contents",
    "changes",
    "files",
}
"""A report renders records. It computes nothing that needs a model."""

MAY_IMPORT_ANYTHING_LATE = {"commands.*", "cli", "demo"}
"""The top, which puts imports into functions so that ``kompakt --help`` is quick."""

SOURCE = Path(__file__).parents[1] / "src" / "kompakt"
ROOT = "kompakt"


@dataclass(frozen=True)
class Import:
    name: str  # dotted, absolute
    line: int
    late: bool  # inside a function


def module_files() -> dict[str, Path]:
    """Name below ``kompakt`` -> file; the package's own ``__init__`` has the empty name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = module_files()
BELOW_ROOT = [name for name in MODULES if name]


def level(module: str) -> int | None:
    for row in (module, module.rpartition(".")[0] + ".*"):
        for height, names in enumerate(LEVELS):
            if row in names:
                return height
    return None


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """Everything that ``source``, the text of ``kompakt.<module>``, imports, in functions too."""
    package = [ROOT, *module.split(".")] if is_package else [ROOT, *module.split(".")][:-1]

    def visit(node: ast.AST, late: bool) -> Iterator[Import]:
        for name in imported_names(node, package):
            yield Import(name, node.lineno, late)
        inside = late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(source), False)


def imported_names(node: ast.AST, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        origin = ".".join([*base, *([node.module] if node.module else [])])
        return [module_or_its_owner(f"{origin}.{alias.name}") for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if function in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def module_or_its_owner(name: str) -> str:
    """``kompakt.a.b`` itself where b is a module, else ``kompakt.a``, of which b is a name."""
    below = name.removeprefix(f"{ROOT}.")
    return name if not name.startswith(f"{ROOT}.") or below in MODULES else name.rpartition(".")[0]


def imports_of(module: str) -> list[Import]:
    path = MODULES[module]
    return list(imports(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py"))


def own_imports(module: str) -> list[tuple[str, Import]]:
    """Those of kompakt's own modules, with the name below ``kompakt`` ("" is the package itself)."""
    found = [each for each in imports_of(module) if each.name.split(".")[0] == ROOT]
    return [(each.name.removeprefix(ROOT).removeprefix("."), each) for each in found]


@pytest.mark.parametrize("module", BELOW_ROOT)
def test_module_has_a_level(module):
    assert level(module) is not None, (
        f"{module} has no row in LEVELS: add it to tests/test_architecture.py, on the lowest line "
        "that is above everything it imports"
    )


@pytest.mark.parametrize("module", BELOW_ROOT)
def test_imports_go_down_only(module):
    height = level(module)
    if height is None:
        pytest.fail("no row in LEVELS")
    upward = {
        f"line {each.line}: imports kompakt.{name}".rstrip("."): None
        for name, each in own_imports(module)
        if not (each.late and {module, module.rpartition(".")[0] + ".*"} & MAY_IMPORT_ANYTHING_LATE)
        and not (name in BELOW_ROOT and (level(name) or 0) < height)
    }
    assert not upward, f"{MODULES[module]}: {'; '.join(upward)}: not below kompakt.{module} in LEVELS"


@pytest.mark.parametrize("module", list(MODULES))
def test_deployment_frameworks_only_in_targets(module):
    if module.split(".")[0] == "targets":
        return
    found = [each for each in imports_of(module) if each.name.split(".")[0] in ONLY_IN_TARGETS]
    assert not found, f"{MODULES[module]}: {found}: only the files of targets/ import these"


@pytest.mark.parametrize("module", [name for name in BELOW_ROOT if name.split(".")[0] == "targets"])
def test_targets_know_no_technique(module):
    found = [each for name, each in own_imports(module) if name.split(".")[0] == "transforms"]
    assert not found, f"{MODULES[module]}: {found}: a target sees a plain model and encodings"


@pytest.mark.parametrize("module", [name for name in BELOW_ROOT if name.split(".")[0] == "report"])
def test_reports_read_records_only(module):
    found = [each for name, each in own_imports(module) if name.split(".")[0] not in REPORT_READS | {"report"}]
    assert not found, f"{MODULES[module]}: {found}: a report only renders records"


def test_every_exact_row_is_a_module_once():
    rows = [name for names in LEVELS for name in names]
    assert len(rows) == len(set(rows))
    gone = [name for name in rows if name not in MODULES and not name.endswith(".*")]
    assert not gone, f"rows of LEVELS without a module: {gone}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import kompakt.errors", [("kompakt.errors", False)]),
        ("from kompakt import errors", [("kompakt.errors", False)]),
        ("from kompakt import prune", [("kompakt", False)]),
        ("from kompakt.errors import InputError", [("kompakt.errors", False)]),
        ("from . import records", [("kompakt.records", False)]),
        ("from .records import Run", [("kompakt.records", False)]),
        ("def f():\n    import tensorflow as tf", [("tensorflow", True)]),
        ("class C:\n    async def f(self):\n        from kompakt import data", [("kompakt.data", True)]),
        ("if TYPE_CHECKING:\n    from kompakt.data import Data", [("kompakt.data", False)]),
        ("importlib.import_module('kompakt.data')", [("kompakt.data", False)]),
        ("import_module(name)", []),
    ],
)
def test_the_reader_of_imports(source, expected):
    assert [(each.name, each.late) for each in imports(source, "files")] == expected


def test_the_reader_of_imports_knows_packages():
    found = imports("from .facts import Row\nfrom ..records import Run", "report", is_package=True)
    assert [each.name for each in found] == ["kompakt.report.facts", "kompakt.records"]
