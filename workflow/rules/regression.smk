# The experiment with a transformer on continuous weights; runs when the configuration has it.
REGRESSION = CONFIG["regression"] or {}
REGRESSION_IDS = of_split("train")[: REGRESSION.get("n_shapes", 0)]


rule fit_starts:
    input:
        signals=signals(REGRESSION_IDS),
        template=rules.template.output,
    output:
        conditioned=f"{RESULTS}/regression/conditioned.parquet",
        unconditioned=f"{RESULTS}/regression/unconditioned.parquet",
    log:
        f"{RESULTS}/logs/fit_starts.log",
    conda:
        "../envs/core.yaml"
    resources:
        gpu=lambda wildcards: gpu_to_fit(wildcards, CHECKED.regression.fit, len(REGRESSION_IDS)),
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        options=lambda wildcards: options(
            field=CONFIG["field"],
            settings=REGRESSION["fit"],
            seed=CONFIG["seed"],
            shapes={i: [signal_path(i), BY_ID[i].label] for i in REGRESSION_IDS},
        ),
        version=version("fit"),
    shell:
        "python -m nefgpt starts {params.options} --template {input.template}"
        " --conditioned {output.conditioned} --unconditioned {output.unconditioned} > {log} 2>&1"


rule regression:
    input:
        conditioned=rules.fit_starts.output.conditioned,
        unconditioned=rules.fit_starts.output.unconditioned,
    output:
        table=f"{RESULTS}/regression/regression.csv",
        rollouts=f"{RESULTS}/regression/rollouts.npz",
    log:
        f"{RESULTS}/logs/regression.log",
    conda:
        "../envs/core.yaml"
    threads: lambda wildcards: threads_for(REGRESSION)
    resources:
        gpu=gpu,
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        options=lambda wildcards: options(
            settings=without(REGRESSION, "n_shapes", "fit"),
            seed=CONFIG["seed"],
            out_dir=f"{RESULTS}/regression",
        ),
        version=version("regression"),
    shell:
        "python -m nefgpt regression --conditioned {input.conditioned}"
        " --unconditioned {input.unconditioned} {params.options} > {log} 2>&1"
