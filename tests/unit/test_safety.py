"""Files from others are data: nothing in the package unpickles, evaluates or runs them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "nefgpt"
MODULES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "subprocess",
}
CALLS = {
    "eval",
    "exec",
    "read_pickle",
    "unsafe_load",
    "full_load",
    "load_all",
    "system",
    "yaml.load",
}
NEEDED = {"np.load": ("allow_pickle", False), "torch.load": ("weights_only", True)}


def offences(source: str) -> list[str]:
    """Imports and calls by which a file could run code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").split(".")[0] in FORBIDDEN else []
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            # A model's own `eval()` takes no argument.
            if node.args and (name in CALLS or name.split(".")[-1] in CALLS):
                found.append(name)
            if name in NEEDED:
                key, value = NEEDED[name]
                given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
                found += [] if given.get(key) is value else [name]
    return found


def test_every_module_is_looked_at():
    folders = {path.parent for path in MODULES}
    assert len(MODULES) > 40 and {PACKAGE, PACKAGE / "report"} <= folders


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_executed(path):
    assert offences(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "os.system(text)",
        "pd.read_pickle(path)",
    ],
)
def test_what_could_run_code_is_found(source):
    assert len(offences(source)) == 1
