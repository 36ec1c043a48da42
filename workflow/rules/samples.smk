# The tables that generators learn, and what else those that are sampled read.
TABLES = {
    "weights": rules.weights.output[0],
    "tokens": rules.tokens.output.tokens,
    "codebook": rules.tokens.output.codebook,
}


rule train:
    input:
        lambda wildcards: TABLES[KINDS[wildcards.kind].learns],
    output:
        model=f"{RESULTS}/{{kind}}/{{model}}/model.safetensors",
        config=f"{RESULTS}/{{kind}}/{{model}}/config.json",
        losses=f"{RESULTS}/{{kind}}/{{model}}/losses.csv",
    log:
        f"{RESULTS}/logs/train/{{kind}}/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{kind}}/{{model}}.tsv"
    priority: 5
    conda:
        "../envs/core.yaml"
    threads: lambda wildcards: threads_for(CONFIG[wildcards.kind][wildcards.model])
    resources:
        gpu=lambda wildcards: gpu(wildcards) * KINDS[wildcards.kind].gpu,
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        options=lambda wildcards: options(
            settings=CONFIG[wildcards.kind][wildcards.model],
            seed=CONFIG["seed"],
            out_dir=f"{RESULTS}/{wildcards.kind}/{wildcards.model}",
            # Not an output: Snakemake deletes those before a job starts, and a killed job resumes.
            resume_dir=f"{RESULTS}/{wildcards.kind}/{wildcards.model}.resume",
        ),
        version=lambda wildcards: version(wildcards.kind),
    shell:
        "python -m nefgpt train {wildcards.kind} --table {input} {params.options} > {log} 2>&1"


# Writes tokens.parquet as well where there are tokens.
rule sample:
    input:
        weights=rules.weights.output,
        more=lambda wildcards: [TABLES[name] for name in made_by(wildcards).reads],
        model=lambda wildcards: (
            f"{trained(wildcards)}/model.safetensors" if trained(wildcards) else []
        ),
    output:
        fields=f"{RESULTS}/samples/{{model}}/{{setting}}/fields.parquet",
    log:
        f"{RESULTS}/logs/sample/{{model}}/{{setting}}.log",
    wildcard_constraints:
        model="|".join(map(re.escape, MODELS)),
    priority: 5
    conda:
        "../envs/core.yaml"
    resources:
        gpu=lambda wildcards: gpu(wildcards) * made_by(wildcards).gpu,
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        kind=lambda wildcards: MADE_BY[wildcards.model, wildcards.setting].kind,
        options=lambda wildcards: options(
            settings=sampling_of(wildcards),
            batch_size=CONFIG["sampling"]["batch_size"] if trained(wildcards) else None,
            n_samples=N_SAMPLES,
            draws=CONFIG["evaluation"]["draws"],
            seed=CONFIG["seed"],
            model=trained(wildcards),
            out_dir=f"{RESULTS}/samples/{wildcards.model}/{wildcards.setting}",
            **{name: TABLES[name] for name in made_by(wildcards).reads},
        ),
        version=version("sample"),
    shell:
        "python -m nefgpt sample {params.kind} --weights {input.weights}"
        " {params.options} > {log} 2>&1"


# The ladder of bounds and what needs no training: on a cluster they wait for no GPU.
use rule sample as sample_untrained with:
    wildcard_constraints:
        model=f"(?!({REAL}|{TEST_FIELDS}|{'|'.join(map(re.escape, MODELS))})/).+",
    priority: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,


rule extract:
    input:
        fields=f"{RESULTS}/samples/{{model}}/{{setting}}/fields.parquet",
        # Only the images' size matters: another test image changes nothing.
        reference=[] if ABOUT.extracted else ancient(f"{RESULTS}/clouds/test.npy"),
    output:
        decoded=directory(f"{RESULTS}/samples/{{model}}/{{setting}}/{DECODED}"),
        clouds=f"{RESULTS}/samples/{{model}}/{{setting}}/clouds.npy",
        table=f"{RESULTS}/samples/{{model}}/{{setting}}/samples.csv",
    log:
        f"{RESULTS}/logs/extract/{{model}}/{{setting}}.log",
    wildcard_constraints:
        model=f"(?!{REAL}/).+",
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
            reference=None if ABOUT.extracted else f"{RESULTS}/clouds/test.npy",
            # Fields of real shapes go back to their mesh's own units.
            signal_dir=SIGNALS if wildcards.model in (*BOUNDS, TEST_FIELDS) else None,
            normalisation=NORMALISATION,
        ),
        version=version("extract"),
    shell:
        "python -m nefgpt decode --fields {input.fields} {params.options} > {log} 2>&1"
