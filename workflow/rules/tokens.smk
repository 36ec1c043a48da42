rule tokens:
    input:
        weights=rules.weights.output,
        template=rules.template.output,
    output:
        codebook=f"{RESULTS}/codebook.safetensors",
        tokens=f"{RESULTS}/tokens.parquet",
        usage=f"{RESULTS}/tokens.json",
    log:
        f"{RESULTS}/logs/tokens.log",
    priority: 5
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        options=options(
            settings=CONFIG["tokens"],
            signal_dir=SIGNALS,
            quality_resolution=CONFIG["fit"]["quality_resolution"],
            out_dir=RESULTS,
        ),
        version=version("tokens"),
    shell:
        "python -m nefgpt tokens --weights {input.weights} --template {input.template}"
        " {params.options} > {log} 2>&1"
