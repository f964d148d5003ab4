"""What is installed: its metadata, what it imports, its signatures and its types."""

import ast
import inspect
import pydoc
import re
import subprocess
import sys
import sysconfig
import typing
from importlib import import_module
from importlib.metadata import metadata, requires, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import sk_batchnorm

ROOT = Path(__file__).parents[1]
PACKAGE = Path(sk_batchnorm.__file__).parent
MODULES = [
    "",
    "functional",
    "model_selection",
    "pipeline",
    "compose",
    "plot",
    "torch",
    "onnx",
    "dask",
]

SCRIPT = Path(__file__).with_name("typing_user_script.py")
spec = spec_from_file_location(SCRIPT.stem, SCRIPT)
script = module_from_spec(spec)
spec.loader.exec_module(script)

# Where the example of a door's module is in the user's script, and what it needs.
NEEDED = {
    "plot": "matplotlib",
    "torch_door": "torch",
    "onnx_door": "skl2onnx",
    "dask_door": "dask.array",
}

# Modules that only those who use them import, and the extra that brings what they need.
DOORS = {
    "dask.py": "dask",
    "onnx.py": "onnx",
    "plot.py": "plot",
    "torch.py": "torch",
}


def public_module(name):
    if name in ("torch", "onnx", "dask"):
        pytest.importorskip(NEEDED[f"{name}_door"])
    return import_module(f"sk_batchnorm.{name}".rstrip("."))


def public_callables(module):
    """Functions and classes of a module, and the methods that the classes define."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value):
            yield name, value
            for base in reversed(value.__mro__):
                for method in vars(base):
                    function = getattr(value, method)
                    if is_ours(function) and not method.startswith("_"):
                        yield f"{name}.{method}", function
        elif callable(value):
            yield name, value


def is_ours(method):
    module = getattr(getattr(method, "fget", method), "__module__", None)
    return str(module).startswith("sk_batchnorm")


def signature(value):
    if inspect.isclass(value) and not is_ours(value.__init__):
        return inspect.Signature()  # StreamingPipeline's is Pipeline's
    return inspect.signature(getattr(value, "fget", value))


# Metadata


def test_version_is_that_of_the_package():
    assert version("sk-batchnorm") == sk_batchnorm.__version__


def test_metadata_are_complete():
    told = metadata("sk-batchnorm")
    assert told["License-Expression"] == "BSD-3-Clause"
    assert told["Requires-Python"] == ">=3.11"
    assert told["Description-Content-Type"] == "text/markdown"
    assert told["Summary"]
    assert "Typing :: Typed" in told.get_all("Classifier")
    assert (PACKAGE / "py.typed").exists()


def test_every_extra_is_in_the_readme():
    extras = set(metadata("sk-batchnorm").get_all("Provides-Extra"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`sk-batchnorm\[(\w+)\]`", readme))
    assert named | {"test", "docs", "dev"} == extras


def test_every_door_names_its_extra():
    extras = set(metadata("sk-batchnorm").get_all("Provides-Extra"))
    named = {
        extra
        for path in PACKAGE.rglob("*.py")
        for extra in re.findall(r"sk-batchnorm\[(\w+)\]", path.read_text("utf-8"))
    }
    assert {"dask", "onnx", "plot", "torch"} <= named <= extras


# Import


def test_import_brings_only_what_scikit_learn_brings():
    code = """
import sys
import sklearn.compose, sklearn.model_selection, sklearn.pipeline, sklearn.preprocessing
before = {name.partition(".")[0] for name in sys.modules}
import sk_batchnorm
import sk_batchnorm.compose, sk_batchnorm.functional, sk_batchnorm.model_selection
import sk_batchnorm.pipeline, sk_batchnorm.plot
after = {name.partition(".")[0] for name in sys.modules}
# But for the types that all modules made by one version of Cython share.
print({name for name in after - before if not name.startswith("_cython_")})
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(result.stdout) - sys.stdlib_module_names == {"sk_batchnorm"}


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="a Python with a GIL"
)
def test_import_does_not_bring_the_gil_back():
    code = "import sys, sk_batchnorm; print(sys._is_gil_enabled())"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert result.stdout == "False\n", result.stderr


def modules_by_level():
    """Modules and folders of the package, from top to bottom."""
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`sk_batchnorm/.*?) \|", guide, re.M)
    return [re.findall(r"(\w+)(?:\.py|/)`", row) for row in rows]


def imported(path):
    """Parts of the names of the modules that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
        yield from (name.split(".") for name in names)


def brought_by(extra=None):
    """Names of what pip installs along with the package, always or with an extra."""
    for requirement in requires("sk-batchnorm"):
        needed_by = re.search(r"extra == .(\w+)", requirement)
        if (needed_by and needed_by[1]) == extra:
            yield re.match(r"[\w-]+", requirement)[0]


def third_parties(*paths):
    """Names, as pip knows them, of what files of the package import."""
    names = {name for path in paths for name, *_ in imported(path)}
    names -= sys.stdlib_module_names | {"sk_batchnorm"}
    return {"scikit-learn" if name == "sklearn" else name for name in names}


def test_pip_brings_what_the_package_imports():
    core = set(PACKAGE.rglob("*.py")) - {PACKAGE / door for door in DOORS}
    assert third_parties(*core) == set(brought_by())


@pytest.mark.parametrize("door", DOORS)
def test_an_extra_brings_what_its_door_imports(door):
    needed = third_parties(PACKAGE / door) - set(brought_by())
    assert needed == set(brought_by(DOORS[door]))


def test_imports_point_down_the_contributors_list():
    level = {name: i for i, row in enumerate(modules_by_level()) for name in row}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name not in ("__init__", "_show_versions"):
            for package, *below in imported(path):
                if package == "sk_batchnorm":
                    assert below[0] == name or level[below[0]] > level[name], path


def test_what_kind_x_is_of_is_asked_in_one_module():
    """Of others, dask has collections, and coefficients of a linear model are no X."""
    asks = re.compile(
        r"issparse\((?!\w*\.?coef)|ndim == 3|isinstance\((X|data), np.ndarray\)"
    )
    places = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if asks.search(path.read_text(encoding="utf-8"))
    }
    assert places == {"_inputs.py", "_kernels", "dask.py"}


# Signatures, docstrings and types


@pytest.mark.parametrize("name", MODULES)
def test_signatures_are_annotated_and_read_well(name):
    for path, value in public_callables(public_module(name)):
        known = signature(value)
        for parameter in known.parameters.values():
            if parameter.name not in ("self", "cls"):
                assert parameter.annotation is not parameter.empty, (path, parameter)
        if not inspect.isclass(value):
            assert known.return_annotation is not known.empty, path
        # Aliases that only the package knows say nothing to its users.
        assert not re.search("Floats|Count|Gradients", str(known)), (path, known)


@pytest.mark.parametrize("name", MODULES)
def test_annotations_can_be_resolved(name):
    if name == "plot":
        pytest.skip("names matplotlib's types, which it does not import")
    for _, value in public_callables(public_module(name)):
        function = value.__init__ if inspect.isclass(value) else value
        typing.get_type_hints(getattr(function, "fget", function))


@pytest.mark.parametrize("name", MODULES)
def test_every_parameter_is_in_the_docstring(name):
    for path, value in public_callables(public_module(name)):
        doc = inspect.getdoc(value)
        assert doc, path
        assert doc.splitlines()[0].endswith("."), path
        parameters = set(signature(value).parameters) - {"self", "cls"}
        # "X, y : array-like" documents two, and so does a list cut by a line's end.
        heads = re.findall(r"^[*\w][\w*, ]*?(?= :|$)", doc, re.M)
        documented = {each.strip("* ") for head in heads for each in head.split(",")}
        assert parameters - documented == set(), path


@pytest.mark.parametrize("name", MODULES)
def test_help_shows_the_docstrings(name):
    module = public_module(name)
    shown = pydoc.plain(pydoc.render_doc(module))
    for path, value in public_callables(module):
        assert inspect.getdoc(value).splitlines()[0] in shown, path


# The user's script, which .ci/run has mypy and pyright read


def functions_of_script():
    return [
        name
        for name, value in vars(script).items()
        if inspect.isfunction(value)
        and value.__module__ == script.__name__
        and not name.startswith("_")  # as __annotate__, of Python 3.14
    ]


@pytest.mark.parametrize("name", functions_of_script())
def test_users_script_runs(name, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    getattr(script, name)()


@pytest.mark.parametrize("name", MODULES)
def test_users_script_names_all_that_is_public(name):
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    named |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    public = {path.split(".")[-1] for path, _ in public_callables(public_module(name))}
    assert public - named == set()


def test_stubs_name_what_the_compiled_module_has():
    compiled = pytest.importorskip(
        "sk_batchnorm._kernels.compiled", exc_type=ImportError
    )
    stub = (PACKAGE / "_kernels" / "compiled.pyi").read_text(encoding="utf-8")
    typed = {
        getattr(node, "name", None) or node.target.id
        for node in ast.parse(stub).body
        if isinstance(node, ast.FunctionDef | ast.AnnAssign)
    }
    public = {
        name
        for name, value in vars(compiled).items()
        if not name.startswith("_")
        and (type(value) is int or type(value).__name__ == "cython_function_or_method")
    }
    assert public == typed


def test_every_module_has_its_tests():
    apart = {"_compat", "_draft", "_show_versions", "numpy"}
    modules = {path.stem for path in PACKAGE.rglob("*.py")} - {"__init__"} - apart
    tests = {path.stem for path in Path(__file__).parent.glob("test_*.py")}
    assert {f"test_{module.strip('_')}" for module in modules} <= tests
