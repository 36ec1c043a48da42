# Priorities: the way to the samples runs before what only the tables need, which fills the cores
# that its serial stages leave free. `template` finds all cores free: until `shapes` is done nothing
# that would take one is ready.
rule template:
    input:
        signals(TEMPLATE_IDS),
    output:
        f"{RESULTS}/fields/template.safetensors",
    log:
        f"{RESULTS}/logs/template.log",
    benchmark:
        f"{RESULTS}/benchmarks/template.tsv"
    priority: 15
    conda:
        "../envs/core.yaml"
    threads: 8
    resources:
        gpu=gpu,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        options=options(
            field=CONFIG["field"],
            settings=TEMPLATE,
            seed=CONFIG["seed"],
            shapes={shape_id: signal_path(shape_id) for shape_id in TEMPLATE_IDS},
        ),
        version=version("template"),
    shell:
        "python -m nefgpt template {params.options} --out {output} > {log} 2>&1"


rule fit:
    input:
        signal=lambda wildcards: signals([wildcards.shape_id]),
        template=rules.template.output,
    output:
        f"{RESULTS}/fields/{{shape_id}}.safetensors",
    log:
        f"{RESULTS}/logs/fit/{{shape_id}}.log",
    wildcard_constraints:
        shape_id=r"(?!template\.safetensors$)[A-Za-z0-9._-]+",
    priority: 5
    conda:
        "../envs/core.yaml"
    resources:
        gpu=lambda wildcards: gpu_to_fit(wildcards, CHECKED.fit, 1),
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        options=lambda wildcards: options(
            field=CONFIG["field"],
            settings=without(CONFIG["fit"], "fields_per_job"),
            seed=CONFIG["seed"],
            signal=signal_path(wildcards.shape_id),
        ),
        version=version("fit"),
    shell:
        "python -m nefgpt fit --template {input.template}"
        " {params.options} --out {output} > {log} 2>&1"


rule fit_pack:
    input:
        signals=lambda wildcards: signals(pack_members(wildcards.pack)),
        template=rules.template.output,
    output:
        f"{RESULTS}/fields/packs/{{pack}}.json",
    log:
        f"{RESULTS}/logs/fit_pack/{{pack}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_pack/{{pack}}.tsv"
    priority: 5
    conda:
        "../envs/core.yaml"
    resources:
        gpu=lambda wildcards: gpu_to_fit(wildcards, CHECKED.fit, len(pack_members(wildcards.pack))),
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        options=lambda wildcards: options(
            field=CONFIG["field"],
            settings=without(CONFIG["fit"], "fields_per_job"),
            seed=CONFIG["seed"],
            out_dir=f"{RESULTS}/fields",
            shapes={i: signal_path(i) for i in pack_members(wildcards.pack)},
        ),
        version=version("fit"),
    shell:
        "python -m nefgpt fit {params.options} --template {input.template}"
        " --manifest {output} > {log} 2>&1"


rule weights:
    input:
        fields=fitted_fields,
        shapes=rules.list_shapes.output,
        checked=ancient(str(rules.shapes.output.shapes)),
        template=rules.template.output,
    output:
        f"{RESULTS}/weights.parquet",
    log:
        f"{RESULTS}/logs/weights.log",
    priority: 5
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        options=options(fields_dir=f"{RESULTS}/fields"),
        version=version("weights"),
    shell:
        "python -m nefgpt weights --shapes {input.shapes} {params.options}"
        " --template {input.template} --out {output} > {log} 2>&1"
