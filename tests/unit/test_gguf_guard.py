"""Native code sees no GGUF file that was not checked first: every place that opens one is known."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
OPENERS = {
    "Llama", "llama_model_load_from_file", "llama_load_model_from_file", "llama_model_load_from_splits",
    "llama_model_quantize", "llama_adapter_lora_init", "mtmd_init_from_file", "gguf_init_from_file",
    "Llava15ChatHandler", "MTMDChatHandler", "from_pretrained_gguf",
}  # fmt: skip
# Function, and its argument that names the file.
CHECKED = {
    ("common/llama.py", "open_gguf", "Llama"): "path",
    ("common/llama_vision.py", "open_vision", "mtmd_init_from_file"): "mmproj",
    ("gguf/quantize_gguf.py", "quantize_gguf", "llama_model_quantize"): "source",
}
# Programs for the bundle, without anything of this project; their files have a SHA-256 in the bundle.
EXAMPLES = "deploy/examples/"


def called(node: ast.AST) -> str:
    """Return the name that a call calls."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", ""))


def functions() -> list[tuple[str, ast.FunctionDef]]:
    """Return every function of the scripts with its file."""
    return [
        (str(path.relative_to(SCRIPTS)), node)
        for path in sorted(SCRIPTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]


def test_every_place_that_opens_a_gguf_file_in_native_code_is_known():
    found = {
        (file, function.name, called(node))
        for file, function in functions()
        for node in ast.walk(function)
        if called(node) in OPENERS and not file.startswith(EXAMPLES)
    }
    assert found == set(CHECKED)


def test_it_checks_the_file_first():
    for file, function in functions():
        for (known_file, name, opener), argument in CHECKED.items():
            if (file, function.name) != (known_file, name):
                continue
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            opened = min(node.lineno for node in calls if called(node) == opener)
            names = {argument, f"intact({argument})"}
            checks = [node for node in calls if called(node) == "read_header"]
            checked = [node.lineno for node in checks if ast.unparse(node.args[0]) in names]
            assert checked, f"{file}: {name} does not check '{argument}'"
            assert min(checked) < opened


def test_nothing_outside_of_functions_opens_one():
    for path in sorted(SCRIPTS.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for statement in tree.body:
            if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
                assert not any(called(node) in OPENERS for node in ast.walk(statement)), path
