"""The command `nefgpt export`: all that sampling needs, in one folder or archive."""

import dataclasses
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import nefgpt
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, sha256_of, write_json, write_text
from nefgpt.generators.kind import KINDS, generator
from nefgpt.runs import options
from nefgpt.runs.card import card
from nefgpt.runs.package import ABOUT, FORMAT
from nefgpt.runs.run import CODEBOOK, METRICS, TEMPLATE, Run, open
from nefgpt.runs.write import new_folder

ARCHIVES = (".nefgpt", ".zip")
EXAMPLES = """
    nefgpt export results/airplanes airplanes.nefgpt --licence cc-by-4.0
    nefgpt export results/airplanes airplanes-model --model gaussian
    nefgpt export results/digits digits.zip
"""


def _config(run: Run) -> dict:
    """The configuration, without the folders that inputs lay in."""
    values = dataclasses.asdict(run.config) | {"field": run.spec.used()}
    dataset = values["dataset"]
    if dataset["root"]:
        dataset["root"] = Path(dataset["root"]).name
    if dataset["split_files"]:
        files = dataset["split_files"].items()
        dataset["split_files"] = {split: Path(name).name for split, name in files}
    return values


def _gather(run: Run, models: list[str], licence: str, folder: Path, file: Path) -> None:
    """Write an exported model's files to a folder."""
    write_json(folder / "config.json", _config(run))
    for name in (TEMPLATE, CODEBOOK, METRICS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.file(name), folder / name)
    for model in models:
        kind, given = run.models[model], run.given(model)
        target = folder / kind / model
        target.mkdir(parents=True)
        if KINDS[kind].learns:
            for name in ("model.safetensors", "config.json"):
                shutil.copyfile(run.file(f"{kind}/{model}/{name}"), target / name)
        else:
            module = generator(kind)
            module.save(module.load(given), next(iter(run.settings(model).values())), target)
    write_text(folder / "README.md", card(run, models, licence, file))
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    about = {
        "format": FORMAT,
        "nefgpt": nefgpt.__version__,
        "name": run.config.name,
        "licence": licence,
        "models": {model: run.models[model] for model in models},
        "block": run.block,
        "size": None if run.size is None else list(run.size),
        "files": {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths},
    }
    write_json(folder / ABOUT, about)


def export(
    run: Run, file: str | Path, models: list[str] | None = None, licence: str = "unknown"
) -> Path:
    """Write all that sampling, encoding and decoding need, without the training set's fields.

    Parameters
    ----------
    file : an archive (.nefgpt or .zip), or a new folder.
    models : names of generators; when not given all that do without the train fields.
    licence : of the model, by the Hugging Face hub's name of it or any text.

    Raises
    ------
    InputError
        when the run is not finished, was exported itself, or the file is there.
    """
    file = Path(file)
    if run.exported:
        raise InputError(f"{run.config.name!r} is an exported model itself: copy it")
    models = [run.chosen_model(model) for model in models or filter(run.portable, run.models)]
    if tied := [model for model in models if not run.portable(model)]:
        raise InputError(f"{', '.join(tied)}: made of the train fields, which no export has")
    if file.exists() and file.suffix in ARCHIVES:
        raise InputError(f"{file} is there: name another file, or delete it")
    with tempfile.TemporaryDirectory(prefix="nefgpt-") as scratch:
        folder = Path(scratch)
        _gather(run, models, licence, folder, file)
        if file.suffix not in ARCHIVES:
            shutil.copytree(folder, new_folder(file), dirs_exist_ok=True)
            return file
        with (
            atomic_path(file) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as stored,
        ):
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                # Without the time: the same run gives the same archive.
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                entry.external_attr = 0o644 << 16
                stored.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return file


def main() -> None:
    """Command line: export a run."""
    parser = options.parser(
        "Write what sampling, encoding and decoding need to one archive (.nefgpt or .zip) or a "
        "folder: template, basis, codebook, generators, configuration, metrics, and a model card "
        "(README.md) as the Hugging Face hub reads it. The training set is not in it.",
        EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN", help="folder of results")
    parser.add_argument("file", metavar="FILE", type=Path, help="archive or folder")
    which = "one of the run's; may be repeated (all that need no train fields)"
    parser.add_argument("--model", action="append", help=which)
    what = "of the model, such as mit or cc-by-4.0 (unknown)"
    parser.add_argument("--licence", "--license", default="unknown", help=what)
    args = parser.parse_args()
    file = export(open(args.run), args.file, args.model, args.licence)
    parts = [file] if file.is_file() else [path for path in file.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in parts)
    sys.stdout.write(f"{file}: {size / 1e6:.2f} MB\n")
