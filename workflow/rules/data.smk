rule config:
    output:
        f"{RESULTS}/config.json",
    log:
        f"{RESULTS}/logs/config.log",
    conda:
        "../envs/core.yaml"
    params:
        values=json.dumps(CONFIG, sort_keys=True),
    shell:
        "python -m nefgpt.dataset config --config {params.values:q} --out {output} > {log} 2>&1"


rule list_shapes:
    output:
        f"{RESULTS}/shapes.json",
    log:
        f"{RESULTS}/logs/list_shapes.log",
    conda:
        "../envs/core.yaml"
    params:
        options=options(
            dataset=without(CONFIG["dataset"], "max_rejected_fraction"),
            results=RESULTS,
            seed=CONFIG["seed"],
        ),
        shapes=SHAPE_LIST_HASH,
    shell:
        "python -m nefgpt.dataset list {params.options} --out {output} > {log} 2>&1"


rule procedural:
    output:
        f"{RESULTS}/dataset/packs/{{pack}}.json",
    log:
        f"{RESULTS}/logs/procedural/{{pack}}.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        options=lambda wildcards: options(
            root=f"{RESULTS}/dataset",
            seed=CONFIG["seed"],
            start=int(wildcards.pack) * MESHES_PER_PACK,
            n_shapes=(int(wildcards.pack) + 1) * MESHES_PER_PACK,
        ),
        version=version("procedural"),
    shell:
        "python -m nefgpt.procedural {params.options} --manifest {output} > {log} 2>&1"


rule sdf:
    input:
        mesh_of,
    output:
        f"{RESULTS}/sdf/{{shape_id}}.npz",
    log:
        f"{RESULTS}/logs/sdf/{{shape_id}}.log",
    priority: 10
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        options=lambda wildcards: options(
            mesh=BY_ID[wildcards.shape_id].path, settings=SDF, seed=CONFIG["seed"]
        ),
        version=version("sdf"),
    shell:
        "python -m nefgpt.sdf {params.options} --shape-id {wildcards.shape_id:q}"
        " --out {output} > {log} 2>&1"


rule images:
    output:
        f"{RESULTS}/images/packs/{{pack}}.json",
    log:
        f"{RESULTS}/logs/images/{{pack}}.log",
    priority: 10
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        options=lambda wildcards: options(
            sources=IN_PACK[int(wildcards.pack)],
            out_dir=SIGNALS,
        ),
        version=version("images"),
    shell:
        "python -m nefgpt.images {params.options} --manifest {output} > {log} 2>&1"


# Comes before any fit, so that a run with too many unusable inputs stops early.
rule shapes:
    input:
        shapes=rules.list_shapes.output,
        # A function: of a plain list Snakemake hashes all paths once for every path.
        signals=lambda wildcards: signals(BY_ID),
    output:
        shapes=f"{RESULTS}/shapes.parquet",
    log:
        f"{RESULTS}/logs/shapes.log",
    priority: 20
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        options=options(
            max_rejected_fraction=CONFIG["dataset"]["max_rejected_fraction"],
            signal_dir=SIGNALS,
            # Not an output: Snakemake would delete it when the job stops the run for its sake.
            rejected_out=f"{RESULTS}/rejected.tsv",
        ),
        version=version("inputs"),
    shell:
        "python -m nefgpt.inputs --shapes {input.shapes} --shapes-out {output.shapes}"
        " {params.options} > {log} 2>&1"
