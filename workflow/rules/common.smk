import collections
import functools
import hashlib
import json
import logging
import re
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

REPO = Path(workflow.basedir).parent
sys.path.insert(0, str(REPO))

from snakemake.exceptions import WorkflowError
from snakemake.jobs import Job
from snakemake.settings.types import DeploymentMethod

from nefgpt.config import validate
from nefgpt.inputs.listing import MESHES_PER_PACK, list_shapes
from nefgpt.inputs.splits import template_shapes
from nefgpt.base.errors import InputError
from nefgpt.signals.finished import is_finished, made_from, time_of
from nefgpt.fitting.doubts import doubts_of
from nefgpt.fitting.worth import worth_a_gpu
from nefgpt.base.files import check_writable, clock_advice, remove_unfinished
from nefgpt.generators.kind import BOUNDS, KINDS, TRAINED
from nefgpt.signals.kind import KINDS as SIGNAL_KINDS
from nefgpt.stages import VERSIONS

# `python` is the one that runs Snakemake, unless the rule's conda environment has its own; it
# finds the package from any working directory.
OWN_PYTHON = (
    ""
    if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    else (f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")
)
shell.prefix(f"set -euo pipefail; {OWN_PYTHON}export PYTHONPATH={shlex.quote(str(REPO))}; ")

# Jobs on a cluster read the workflow too: the person at the terminal is told once.
if workflow.is_main_process:
    logging.getLogger("nefgpt.inputs").setLevel(logging.INFO)
    logging.getLogger("nefgpt.inputs").addHandler(logging.StreamHandler(sys.stderr))

try:
    CHECKED = validate(dict(config))
    CONFIG = asdict(CHECKED) | {"field": CHECKED.field.used()}
    RESULTS = f"results/{CONFIG['name']}"
    # Else Snakemake ends with a traceback, or a job's last words find no place in its log.
    for folder in (".", RESULTS):
        check_writable(folder)
    SHAPES = list_shapes(CHECKED.dataset, Path(RESULTS), CONFIG["seed"])
    TEMPLATE_IDS = (
        [CONFIG["template"]["shape_id"]]
        if CONFIG["template"]["shape_id"]
        else template_shapes(
            SHAPES,
            CONFIG["template"]["n_shapes"],
            CONFIG["seed"],
            Path(f"{RESULTS}/fields/template.safetensors"),
        )
    )
    if not set(TEMPLATE_IDS) <= {shape.shape_id for shape in SHAPES}:
        raise InputError(f"template.shape_id = {TEMPLATE_IDS[0]!r}: no such shape in the dataset")
except InputError as error:
    logging.raiseExceptions = False  # of a log on a full disk, which would bury this message
    raise WorkflowError(str(error))


def without(block, *keys):
    return {key: value for key, value in block.items() if key not in keys}


KIND = CHECKED.signals
ABOUT = SIGNAL_KINDS[KIND]
SIGNALS, DECODED, REAL = f"{RESULTS}/{ABOUT.folder}", ABOUT.decoded, ABOUT.real
EXTRACT = CONFIG["extract"] if ABOUT.extracted else {}
LABELLED = all(shape.label is not None for shape in SHAPES)

SHAPE_LIST_HASH = hashlib.sha256(
    json.dumps([[shape.shape_id, shape.split, shape.label] for shape in SHAPES]).encode()
).hexdigest()
BY_ID = {shape.shape_id: shape for shape in SHAPES}
IN_PACK = {}
for shape in SHAPES:
    IN_PACK.setdefault(shape.pack, {})[shape.shape_id] = shape.path
FITTED = [shape.shape_id for shape in SHAPES if shape.split in ("train", "val")]
HERE_GPU = shutil.which("nvidia-smi") is not None
PER_JOB = CONFIG["fit"]["fields_per_job"]
# Without the keys that the others make idle: a change of those re-runs nothing.
SDF = CHECKED.sdf.used()
TEMPLATE = CHECKED.template.used()
# What image files are read as; None: the grayscale ones that stand in for MNIST, and all others.
CHANNELS = CHECKED.field.out_dim if CHECKED.dataset.kind == "images" else None
BACKGROUND = (
    CONFIG["dataset"]["background"] if CHECKED.dataset.kind in ("images", "mnist") else None
)
N_TEST = sum(shape.split == "test" for shape in SHAPES)
N_SAMPLES = CONFIG["evaluation"]["n_samples"] or N_TEST
ROWS = [row[:2] for row in CHECKED.rows]
HALVES, TEST_FIELDS = "test-halves", "test-fields"
FITS = CONFIG["evaluation"]["fits"]
TEST_ROWS = [(HALVES, "all"), *([(TEST_FIELDS, "all")] if FITS else [])] if N_TEST >= 4 else []
SCORED = [ROWS[0], *TEST_ROWS, *ROWS[1:]]
FPD = CONFIG["evaluation"]["fpd"]
NORMALISATION = CONFIG["evaluation"]["normalisation"]
NORMALISATION = NORMALISATION if NORMALISATION != "shape" else None  # the commands' default
FIELD_SETS = ROWS[1:]
MADE_BY = {row[:2]: row for row in CHECKED.rows}
MODELS = sorted({row.method for row in CHECKED.rows if row.kind in TRAINED})


wildcard_constraints:
    kind="|".join(TRAINED),
    shape_id="[A-Za-z0-9._-]+",
    pack="[0-9]+",
    model="[A-Za-z0-9._-]+",
    setting="[A-Za-z0-9._-]+",


def options(**values):
    """All options of a command as one canonical string.

    Snakemake compares parameters as a set of values: in one string no two can swap unnoticed.
    """
    words = []
    for name, value in sorted(values.items()):
        if value is None:
            continue
        text = json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else str(value)
        words += [f"--{name.replace('_', '-')}", shlex.quote(text)]
    return " ".join(words)


def gpu(wildcards):
    """One GPU on a cluster, whose login node need not have any; here, one if there is any."""
    return int(workflow.non_local_exec or HERE_GPU)


def gpu_to_fit(wildcards, settings, n_fields):
    """None for fits that are done sooner than a GPU has started, and need not wait for one."""
    return gpu(wildcards) * int(worth_a_gpu(CHECKED.field, n_fields, settings))


def made_by(wildcards):
    """What the workflow knows of the generator of a row's fields."""
    return KINDS[MADE_BY[wildcards.model, wildcards.setting].kind]


def sampling_of(wildcards):
    """The settings that a row's fields are made with."""
    settings = CHECKED.sampling_of(MADE_BY[wildcards.model, wildcards.setting])
    return asdict(settings) if settings else None


def trained(wildcards):
    """Folder of a row's trained model; None where nothing is trained."""
    row = MADE_BY[wildcards.model, wildcards.setting]
    return f"{RESULTS}/{row.kind}/{row.method}" if KINDS[row.kind].learns else None


def threads_for(network):
    """Small matrices gain little from a second core, and models can train side by side."""
    return 8 if network.get("embedding", network.get("width")) > 128 else 1


def version(stage):
    return f"{stage} version {VERSIONS[stage]}"


def spare_the_scheduler(workflow):
    """Keep Snakemake from work that grows with the square of the number of jobs.

    With a rate limit every selection asks for another one a second later, and every finished job
    for one more: after a thousand jobs a thousand a second. Another limit than the default of
    100 jobs a second is kept.

    Before a job starts, each of its inputs is looked up in the outputs of all jobs that it needs,
    to see whether it is a pipe. This workflow has none.

    Every selection asks the disk for the size of the inputs of the jobs that are ready, to start
    those with large inputs first. Priorities say what comes first here.
    """
    Job.is_pipe_or_service_input = lambda job, path: False

    async def no_sizes(jobs):
        pass

    workflow.scheduler.update_input_sizes = no_sizes
    workflow.scheduler._input_sizes = collections.defaultdict(int)
    limiter = getattr(workflow.scheduler, "job_rate_limiter", None)
    if limiter is not None and (limiter.max_jobs, limiter.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def mesh_of(shape_id):
    """The mesh itself, or the manifest of the pack that writes it, in a list."""
    shape = BY_ID[shape_id]
    if shape.pack is not None:
        return [f"{RESULTS}/dataset/packs/{shape.pack}.json"]
    # A folder that lacks its mesh is rejected by the job, with a reason.
    return [shape.path] if Path(shape.path).exists() else []


# Packs of point clouds are slices of all shapes, those of one procedural pack side by side. An
# added shape moves others between packs, but only clouds that are not finished ask for theirs.
MESH_ORDER = [s.shape_id for s in sorted(SHAPES, key=lambda s: (s.pack or 0, s.shape_id))]
SDF_PER_JOB = CONFIG["sdf"]["shapes_per_job"]
SDF_PACK = {shape_id: i // SDF_PER_JOB for i, shape_id in enumerate(MESH_ORDER)}
MESH_VERSIONS = ("sdf", "procedural") if CONFIG["dataset"]["kind"] == "procedural" else ("sdf",)
SDF_VERSIONS = ", ".join(map(version, MESH_VERSIONS))


def cloud_of(shape_id):
    """What a shape's point cloud is made from."""
    return made_from(
        BY_ID[shape_id].path, CHECKED.sdf, CONFIG["seed"], SDF_VERSIONS, CHECKED.dataset.frame
    )


def forced(shape_id):
    """Whether the command line (-F, -R or -f) wants a point cloud to be made again."""
    asked = workflow.dag_settings
    names = {*asked.forcerun, *(asked.targets if asked.forcetargets else ())}
    return asked.forceall or not names.isdisjoint({"sdf", "signal", signal_path(shape_id)})


def remove_forced_clouds(dag):
    """Finished clouds would be kept by their pack's job, here or on a cluster."""
    for job in dag.needrun_jobs():
        if job.rule.name == "signal" and forced(job.wildcards.shape_id):
            Path(job.output[0]).unlink(missing_ok=True)


@functools.cache
def unfinished(shape_id):
    """Whether a shape's point cloud is still to be made from its mesh and these settings."""
    if forced(shape_id):
        return True
    shape = BY_ID[shape_id]
    mesh = Path(shape.path) if shape.pack is None else None
    return not is_finished(Path(signal_path(shape_id)), cloud_of(shape_id), mesh)


def mesh_time(shape_id):
    """When a mesh was written: Snakemake sees no change by an older file."""
    path = Path(BY_ID[shape_id].path)
    return time_of(path) if BY_ID[shape_id].pack is None and path.exists() else None


def sdf_members(pack):
    """The shapes whose point clouds a pack's job has to make."""
    some = MESH_ORDER[int(pack) * SDF_PER_JOB : (int(pack) + 1) * SDF_PER_JOB]
    return list(filter(unfinished, some))


def signal_sources(wildcards):
    """The mesh of a point cloud, and its pack's job as long as the cloud is unfinished.

    With a job Snakemake runs all that takes its outputs, changed or not, and behind an `ancient`
    output it overlooks other changes. So only unfinished clouds are outputs. A finished one asks
    for a file that nothing makes, and Snakemake then takes the cloud as it is, but not one that
    the command line names.
    """
    shape_id = wildcards.shape_id
    if not unfinished(shape_id):
        named = signal_path(shape_id) in workflow.dag_settings.targets
        return mesh_of(shape_id) if named else f"{signal_path(shape_id)}-is-finished"
    return [f"{SIGNALS}/packs/{SDF_PACK[shape_id]}.json", *mesh_of(shape_id)]


def signal_path(shape_id):
    return f"{SIGNALS}/{shape_id}.npz"


def signals(shape_ids):
    """What has to be there before these signals can be read: themselves, or their packs."""
    if KIND == "shapes":
        return [signal_path(shape_id) for shape_id in shape_ids]
    return sorted({f"{SIGNALS}/packs/{BY_ID[shape_id].pack}.json" for shape_id in shape_ids})


def image_sources(wildcards):
    """The pack's image files; none of other images, whether many in one file or in place of MNIST.

    A pack that has lost an image runs again although its manifest is there.
    """
    manifest, pack = f"{SIGNALS}/packs/{wildcards.pack}.json", IN_PACK[int(wildcards.pack)]
    there = (Path(signal_path(shape_id)).exists() for shape_id in pack)
    if Path(manifest).exists() and not all(there):
        workflow.dag.forcefiles.add(manifest)
    return sorted(pack.values()) if CHANNELS else []


def pack_members(pack):
    return FITTED[int(pack) * PER_JOB : (int(pack) + 1) * PER_JOB]


def fitted_fields(wildcards):
    if PER_JOB == 1:
        return [f"{RESULTS}/fields/{shape_id}.safetensors" for shape_id in FITTED]
    n_packs = -(-len(FITTED) // PER_JOB)
    return [f"{RESULTS}/fields/packs/{pack}.json" for pack in range(n_packs)]


def of_split(split):
    return [shape.shape_id for shape in SHAPES if shape.split == split]


def fields_of(wildcards):
    """The fields of a row, in a list; none of real signals."""
    if wildcards.model == REAL:
        return []
    return [f"{RESULTS}/samples/{wildcards.model}/{wildcards.setting}/fields.parquet"]
