rule clouds:
    input:
        shapes=rules.list_shapes.output,
        checked=ancient(rules.shapes.output.shapes),
        sdf=lambda wildcards: [
            f"{RESULTS}/sdf/{shape.shape_id}.npz"
            for shape in SHAPES
            if shape.split == wildcards.split
        ],
    output:
        clouds=f"{RESULTS}/clouds/{{split}}.npy",
        ids=f"{RESULTS}/clouds/{{split}}.json",
    log:
        f"{RESULTS}/logs/clouds/{{split}}.log",
    wildcard_constraints:
        split="train|test",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        options=options(sdf_dir=f"{RESULTS}/sdf"),
        version=version("evaluate"),
    shell:
        "python -m nefgpt.clouds --out {output.clouds} split --shapes {input.shapes}"
        " --split {wildcards.split} {params.options} > {log} 2>&1"


rule choose_train_meshes:
    input:
        clouds=f"{RESULTS}/clouds/train.npy",
        ids=f"{RESULTS}/clouds/train.json",
    output:
        clouds=f"{RESULTS}/samples/train-meshes/all/clouds.npy",
        ids=f"{RESULTS}/samples/train-meshes/all/clouds.json",
    log:
        f"{RESULTS}/logs/choose_train_meshes.log",
    conda:
        "../envs/core.yaml"
    params:
        options=options(n_samples=N_SAMPLES, seed=CONFIG["seed"]),
        version=version("evaluate"),
    shell:
        "python -m nefgpt.clouds --out {output.clouds} choose --clouds {input.clouds}"
        " {params.options} > {log} 2>&1"


rule reference_distances:
    input:
        reference=f"{RESULTS}/clouds/test.npy",
        train=f"{RESULTS}/clouds/train.npy",
    output:
        f"{RESULTS}/clouds/distances.npz",
    log:
        f"{RESULTS}/logs/reference_distances.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        version=version("evaluate"),
    shell:
        "python -m nefgpt.metrics reference --reference {input.reference}"
        " --train {input.train} --out {output} > {log} 2>&1"


rule score:
    input:
        clouds=f"{RESULTS}/samples/{{model}}/{{setting}}/clouds.npy",
        reference=f"{RESULTS}/clouds/test.npy",
        train=f"{RESULTS}/clouds/train.npy",
        distances=rules.reference_distances.output,
        ids=f"{RESULTS}/clouds/train.json",
        surfaces=surfaces_of,
    output:
        metrics=f"{RESULTS}/samples/{{model}}/{{setting}}/metrics.csv",
        nearest=f"{RESULTS}/samples/{{model}}/{{setting}}/nearest.csv",
    log:
        f"{RESULTS}/logs/score/{{model}}/{{setting}}.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        options=lambda wildcards: options(
            method=wildcards.model,
            setting=wildcards.setting,
            seed=CONFIG["seed"],
            surfaces=surfaces_of(wildcards) or None,
        ),
        version=version("evaluate"),
    shell:
        "python -m nefgpt.metrics score --clouds {input.clouds} --reference {input.reference}"
        " --train {input.train} --distances {input.distances} {params.options}"
        " --out {output.metrics} --nearest {output.nearest} > {log} 2>&1"


rule tables:
    input:
        [f"{RESULTS}/samples/{model}/{setting}/metrics.csv" for model, setting in ROWS],
    output:
        metrics=f"{RESULTS}/tables/metrics.csv",
        csv=f"{RESULTS}/tables/table2.csv",
        md=f"{RESULTS}/tables/table2.md",
        tex=f"{RESULTS}/tables/table2.tex",
    log:
        f"{RESULTS}/logs/tables.log",
    conda:
        "../envs/core.yaml"
    params:
        options=options(out_dir=f"{RESULTS}/tables"),
        version=version("evaluate"),
    shell:
        "python -m nefgpt.tables --metrics {input} {params.options} > {log} 2>&1"


rule figures:
    input:
        rules.tables.output,
        rules.config.output,
        rules.shapes.output.shapes,
        rules.tokens.output,
        rules.weights.output,
        [f"{RESULTS}/gpt/{model}/losses.csv" for model in CONFIG["gpt"]],
        [
            f"{RESULTS}/samples/{m}/{s}/{f}"
            for m, s in FIELD_SETS
            for f in ("surfaces.csv", "nearest.csv")
        ],
    output:
        directory(f"{RESULTS}/figures"),
    log:
        f"{RESULTS}/logs/figures.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        options=options(results=RESULTS),
        version=version("present"),
    shell:
        "python -m nefgpt.present figures {params.options} > {log} 2>&1"


rule report:
    input:
        rules.figures.output,
        rules.shapes.output,
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        options=options(results=RESULTS),
        version=version("present"),
    shell:
        "python -m nefgpt.present report {params.options} --out {output} > {log} 2>&1"
