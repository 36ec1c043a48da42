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


rule train_gpt:
    input:
        tokens=rules.tokens.output.tokens,
    output:
        model=f"{RESULTS}/gpt/{{model}}/model.safetensors",
        config=f"{RESULTS}/gpt/{{model}}/config.json",
        losses=f"{RESULTS}/gpt/{{model}}/losses.csv",
    log:
        f"{RESULTS}/logs/train_gpt/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_gpt/{{model}}.tsv"
    priority: 5
    conda:
        "../envs/core.yaml"
    threads: lambda wildcards: threads_for(CONFIG["gpt"][wildcards.model])
    resources:
        gpu=gpu,
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        options=lambda wildcards: options(
            settings=CONFIG["gpt"][wildcards.model],
            seed=CONFIG["seed"],
            out_dir=f"{RESULTS}/gpt/{wildcards.model}",
            # Not an output: Snakemake deletes those before a job starts, and a killed job resumes.
            resume_dir=f"{RESULTS}/gpt/{wildcards.model}.resume",
        ),
        version=version("gpt"),
    shell:
        "python -m nefgpt train gpt --tokens {input.tokens} {params.options}" " > {log} 2>&1"
