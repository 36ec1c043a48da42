rule sample_gpt:
    input:
        weights=rules.weights.output,
        codebook=rules.tokens.output.codebook,
        model=rules.train_gpt.output,
    output:
        fields=f"{RESULTS}/samples/{{model}}/{{setting}}/fields.parquet",
        tokens=f"{RESULTS}/samples/{{model}}/{{setting}}/tokens.parquet",
    log:
        f"{RESULTS}/logs/sample_gpt/{{model}}/{{setting}}.log",
    wildcard_constraints:
        model="|".join(map(re.escape, CONFIG["gpt"])),
    priority: 5
    conda:
        "../envs/core.yaml"
    resources:
        gpu=gpu,
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        options=lambda wildcards: options(
            settings=CONFIG["sampling"]["settings"][wildcards.setting],
            batch_size=CONFIG["sampling"]["batch_size"],
            n_samples=N_SAMPLES,
            draws=CONFIG["evaluation"]["draws"],
            seed=CONFIG["seed"],
            gpt=f"{RESULTS}/gpt/{wildcards.model}",
            out_dir=f"{RESULTS}/samples/{wildcards.model}/{wildcards.setting}",
        ),
        version=version("sample"),
    shell:
        "python -m nefgpt sample gpt --weights {input.weights} --codebook {input.codebook}"
        " {params.options} > {log} 2>&1"


rule sample_gaussian:
    input:
        weights=rules.weights.output,
    output:
        fields=f"{RESULTS}/samples/gaussian/pca/fields.parquet",
    log:
        f"{RESULTS}/logs/sample_gaussian.log",
    priority: 1
    conda:
        "../envs/core.yaml"
    params:
        options=options(
            settings=CONFIG["gaussian"],
            n_samples=N_SAMPLES,
            draws=CONFIG["evaluation"]["draws"],
            seed=CONFIG["seed"],
            out_dir=f"{RESULTS}/samples/gaussian/pca",
        ),
        version=version("sample"),
    shell:
        "python -m nefgpt sample gaussian --weights {input.weights} {params.options} > {log} 2>&1"


rule sample_train:
    input:
        weights=rules.weights.output,
        codebook=lambda wildcards: (
            rules.tokens.output.codebook if wildcards.row.startswith("quantised") else []
        ),
        tokens=lambda wildcards: (
            rules.tokens.output.tokens if wildcards.row.startswith("quantised") else []
        ),
    output:
        fields=f"{RESULTS}/samples/{{row}}/all/fields.parquet",
    log:
        f"{RESULTS}/logs/sample_train/{{row}}.log",
    wildcard_constraints:
        row="(quantised-)?train-fields",
    priority: 1
    conda:
        "../envs/core.yaml"
    params:
        options=lambda wildcards: options(
            n_samples=N_SAMPLES,
            draws=CONFIG["evaluation"]["draws"],
            seed=CONFIG["seed"],
            out_dir=f"{RESULTS}/samples/{wildcards.row}/all",
            codebook=f"{RESULTS}/codebook.safetensors" if wildcards.row == QUANTISED else None,
            tokens=f"{RESULTS}/tokens.parquet" if wildcards.row == QUANTISED else None,
        ),
        version=version("sample"),
    shell:
        "python -m nefgpt sample {wildcards.row} --weights {input.weights}"
        " {params.options} > {log} 2>&1"


rule extract:
    input:
        fields=f"{RESULTS}/samples/{{model}}/{{setting}}/fields.parquet",
        # Only the images' size matters: another test image changes nothing.
        reference=ancient(f"{RESULTS}/clouds/test.npy") if KIND == "images" else [],
    output:
        decoded=directory(f"{RESULTS}/samples/{{model}}/{{setting}}/{DECODED}"),
        clouds=f"{RESULTS}/samples/{{model}}/{{setting}}/clouds.npy",
        table=f"{RESULTS}/samples/{{model}}/{{setting}}/samples.csv",
    log:
        f"{RESULTS}/logs/extract/{{model}}/{{setting}}.log",
    wildcard_constraints:
        model=f"(?!{REAL}).+",
    priority: 2
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        options=lambda wildcards: options(
            settings=EXTRACT,
            seed=CONFIG["seed"],
            out_dir=f"{RESULTS}/samples/{wildcards.model}/{wildcards.setting}",
            reference=f"{RESULTS}/clouds/test.npy" if KIND == "images" else None,
            # Fields of real shapes go back to their mesh's own units.
            signal_dir=SIGNALS if wildcards.model in (FIELDS, QUANTISED) else None,
        ),
        version=version("extract"),
    shell:
        "python -m nefgpt decode --fields {input.fields} {params.options} > {log} 2>&1"
