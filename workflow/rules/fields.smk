rule template:
    input:
        [f"{RESULTS}/sdf/{shape_id}.npz" for shape_id in TEMPLATE_IDS],
    output:
        f"{RESULTS}/fields/template.safetensors",
    params:
        options=options(
            field=CONFIG["field"],
            settings=without(CONFIG["template"], "shape_id"),
            seed=CONFIG["seed"],
            shapes={shape_id: f"{RESULTS}/sdf/{shape_id}.npz" for shape_id in TEMPLATE_IDS},
        ),
        version=version("template"),
    log:
        f"{RESULTS}/logs/template.log",
    benchmark:
        f"{RESULTS}/benchmarks/template.tsv"
    conda:
        "../envs/core.yaml"
    threads: 8
    resources:
        gpu=GPU,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    shell:
        "python -m nefgpt.template {params.options} --out {output} > {log} 2>&1"


rule fit:
    input:
        sdf=f"{RESULTS}/sdf/{{shape_id}}.npz",
        template=rules.template.output,
    output:
        f"{RESULTS}/fields/{{shape_id}}.safetensors",
    params:
        options=options(
            field=CONFIG["field"],
            settings=without(CONFIG["fit"], "fields_per_job"),
            seed=CONFIG["seed"],
        ),
        version=version("fit"),
    log:
        f"{RESULTS}/logs/fit/{{shape_id}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit/{{shape_id}}.tsv"
    conda:
        "../envs/core.yaml"
    resources:
        gpu=GPU,
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    shell:
        "python -m nefgpt.fit --sdf {input.sdf} --template {input.template}"
        " {params.options} --out {output} > {log} 2>&1"


def pack_members(pack):
    return FITTED[int(pack) * PER_JOB : (int(pack) + 1) * PER_JOB]


rule fit_pack:
    input:
        sdf=lambda wildcards: [f"{RESULTS}/sdf/{i}.npz" for i in pack_members(wildcards.pack)],
        template=rules.template.output,
    output:
        f"{RESULTS}/fields/packs/{{pack}}.json",
    params:
        options=lambda wildcards: options(
            field=CONFIG["field"],
            settings=without(CONFIG["fit"], "fields_per_job"),
            seed=CONFIG["seed"],
            out_dir=f"{RESULTS}/fields",
            shapes={i: f"{RESULTS}/sdf/{i}.npz" for i in pack_members(wildcards.pack)},
        ),
        version=version("fit"),
    log:
        f"{RESULTS}/logs/fit_pack/{{pack}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_pack/{{pack}}.tsv"
    conda:
        "../envs/core.yaml"
    resources:
        gpu=GPU,
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    shell:
        "python -m nefgpt.fit {params.options} --template {input.template}"
        " --manifest {output} > {log} 2>&1"


def fitted_fields(wildcards):
    if PER_JOB == 1:
        return [f"{RESULTS}/fields/{shape_id}.safetensors" for shape_id in FITTED]
    n_packs = -(-len(FITTED) // PER_JOB)
    return [f"{RESULTS}/fields/packs/{pack}.json" for pack in range(n_packs)]


rule weights:
    input:
        fields=fitted_fields,
        shapes=rules.list_shapes.output,
        checked=rules.shapes.output.shapes,
        template=rules.template.output,
    output:
        f"{RESULTS}/weights.parquet",
    params:
        fields=f"{RESULTS}/fields",
        version=version("weights"),
    log:
        f"{RESULTS}/logs/weights.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    shell:
        "python -m nefgpt.weights --shapes {input.shapes} --fields-dir {params.fields}"
        " --template {input.template} --out {output} > {log} 2>&1"
