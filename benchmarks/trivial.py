"""Snakemake as it is, with jobs whose commands end at once and leave empty outputs.

Takes Snakemake's own options. Scheduler, executor, records and the bash of every job are real; only
`python` does nothing in it (or sleeps, for NEFGPT_JOB_SECONDS). The last line on stderr is what
Snakemake's own process has used, without the jobs.
"""

import json
import os
import resource
import sys
from pathlib import Path

from snakemake import cli
from snakemake.executors.local import Executor
from snakemake.io import is_flagged
from snakemake.shell import shell

SECONDS = os.environ.get("NEFGPT_JOB_SECONDS", "0")
COMMAND = f"sleep {SECONDS}" if float(SECONDS) else ":"
prepare = Executor.job_args_and_prepare
prefix = shell.prefix


def prepare_and_write(self: Executor, job) -> tuple:
    """Prepare a job as ever, which removes its old outputs, and leave the same or empty ones."""
    old = {name: Path(name).read_bytes() for name in job.output if Path(name).is_file()}
    arguments = prepare(self, job)
    for output in job.output:
        if is_flagged(output, "directory"):
            Path(output).mkdir()
        else:
            Path(output).write_bytes(old.get(output, b""))
    return arguments


if __name__ == "__main__":
    Executor.job_args_and_prepare = prepare_and_write
    shell.prefix = lambda text: prefix(text + "python() {{ " + COMMAND + "; }}; ")
    try:
        cli.main(sys.argv[1:])
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = round(used.ru_utime + used.ru_stime, 1)
        sys.stderr.write(json.dumps({"cpu": cpu, "mb": used.ru_maxrss // 1024}))
