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
        "python -m nefgpt dataset config --config {params.values:q} --out {output} > {log} 2>&1"


rule list_shapes:
    output:
        f"{RESULTS}/shapes.json",
    log:
        f"{RESULTS}/logs/list_shapes.log",
    conda:
        "../envs/core.yaml"
    params:
        options=options(
            dataset=without(CONFIG["dataset"], "max_rejected_fraction", "background", "frame"),
            results=RESULTS,
            seed=CONFIG["seed"],
        ),
        shapes=SHAPE_LIST_HASH,
    shell:
        "python -m nefgpt dataset list {params.options} --out {output} > {log} 2>&1"


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
            n_shapes=MESHES_PER_PACK,
        ),
        version=version("procedural"),
    shell:
        "python -m nefgpt procedural {params.options} --manifest {output} > {log} 2>&1"


# Its clouds are no outputs, which Snakemake would delete first: a killed job's stay. The manifest
# is temporary, so that whatever cloud is unfinished next asks for the job again.
rule sdf:
    input:
        lambda wildcards: sorted({m for i in sdf_members(wildcards.pack) for m in mesh_of(i)}),
    output:
        temp(f"{RESULTS}/sdf/packs/{{pack}}.json"),
    log:
        f"{RESULTS}/logs/sdf/{{pack}}.log",
    priority: 10
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        options=lambda wildcards: options(
            meshes={i: BY_ID[i].path for i in sdf_members(wildcards.pack)},
            settings=SDF,
            frame=CHECKED.dataset.frame.given,
            seed=CONFIG["seed"],
            versions=SDF_VERSIONS,
            out_dir=SIGNALS,
        ),
    shell:
        "python -m nefgpt sdf {params.options} --manifest {output} > {log} 2>&1"


# Runs nothing, the pack's job has written the file; with it every cloud is stale by itself. As it
# takes no thread, one selection takes all of a pack.
rule signal:
    input:
        signal_sources,
    output:
        f"{RESULTS}/sdf/{{shape_id}}.npz",
    priority: 20
    threads: 0
    params:
        made_from=lambda wildcards: options(
            **cloud_of(wildcards.shape_id), changed=mesh_time(wildcards.shape_id)
        ),


rule images:
    input:
        image_sources,
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
            channels=CHANNELS,
            background=BACKGROUND,
            out_dir=SIGNALS,
        ),
        version=version("images"),
    shell:
        "python -m nefgpt images {params.options} --manifest {output} > {log} 2>&1"


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
            mirror=CONFIG["field"].get("mirror") if KIND == "shapes" else None,
            signal_dir=SIGNALS,
            # Not an output: Snakemake would delete it when the job stops the run for its sake.
            rejected_out=f"{RESULTS}/rejected.tsv",
        ),
        version=version("inputs"),
    shell:
        "python -m nefgpt shapes --shapes {input.shapes} --shapes-out {output.shapes}"
        " {params.options} > {log} 2>&1"
