"""pyproject.toml, environment.yml and the rules' environment name the same packages."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "libigl": "igl"}


def bounds(lines) -> dict[str, str]:
    """Package to version bounds, in conda's names."""
    found = {}
    for line in lines:
        name, versions = re.fullmatch(r"([A-Za-z0-9_-]+)\s*([<>=!].*)?", line.strip()).groups()
        found[CONDA_NAMES.get(name.lower(), name.lower())] = versions or ""
    return found


def of_file(path: Path) -> dict[str, str]:
    listed = yaml.safe_load(path.read_text())["dependencies"]
    flat = [entry for entry in listed if isinstance(entry, str)]
    flat += [line for entry in listed if isinstance(entry, dict) for line in entry["pip"]]
    found = bounds(flat)
    assert len(found) == len(flat), f"{path.name} names a package twice"
    return {name: value for name, value in found.items() if name not in ("python", "pip")}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_rules_have_what_the_package_needs():
    wanted = bounds(project()["dependencies"])
    del wanted["snakemake"]  # runs the rules, is not run by them
    assert of_file(ROOT / "workflow/envs/core.yaml") == wanted


def test_launcher_has_everything():
    extras = project()["optional-dependencies"]
    wanted = bounds([*project()["dependencies"], *extras["slurm"], *extras["dev"]])
    assert of_file(ROOT / "environment.yml") == wanted


def test_one_channel():
    for path in ("environment.yml", "workflow/envs/core.yaml"):
        assert yaml.safe_load((ROOT / path).read_text())["channels"] == ["conda-forge"]


def test_same_python():
    for path in ("environment.yml", "workflow/envs/core.yaml"):
        assert "python =3.11" in yaml.safe_load((ROOT / path).read_text())["dependencies"]
    assert project()["requires-python"] == ">=3.11"
