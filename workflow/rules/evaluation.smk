# str(): `ancient` marks the very object that it is given, for all rules that use it.
rule clouds:
    input:
        shapes=rules.list_shapes.output,
        checked=ancient(str(rules.shapes.output.shapes)),
        signals=lambda wildcards: signals(of_split(wildcards.split)),
    output:
        clouds=f"{RESULTS}/clouds/{{split}}.npy",
        table=f"{RESULTS}/clouds/{{split}}.csv",
    log:
        f"{RESULTS}/logs/clouds/{{split}}.log",
    wildcard_constraints:
        split="train|val|test",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        options=options(signal_dir=SIGNALS, kind=KIND, normalisation=NORMALISATION),
        version=version("evaluate"),
    shell:
        "python -m nefgpt clouds --out {output.clouds} --table {output.table} split --shapes {input.shapes}"
        " --split {wildcards.split} {params.options} > {log} 2>&1"


rule choose_real:
    input:
        clouds=f"{RESULTS}/clouds/train.npy",
        table=f"{RESULTS}/clouds/train.csv",
    output:
        clouds=f"{RESULTS}/samples/{REAL}/all/clouds.npy",
        table=f"{RESULTS}/samples/{REAL}/all/samples.csv",
    log:
        f"{RESULTS}/logs/choose_real.log",
    conda:
        "../envs/core.yaml"
    params:
        options=options(
            n_samples=N_SAMPLES, draws=CONFIG["evaluation"]["draws"], seed=CONFIG["seed"]
        ),
        version=version("evaluate"),
    shell:
        "python -m nefgpt clouds --out {output.clouds} --table {output.table} choose --clouds {input.clouds}"
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
        options=options(
            kind=KIND,
            normalisation=NORMALISATION,
            emd_points=CONFIG["evaluation"]["emd_points"],
        ),
        version=version("evaluate"),
    shell:
        "python -m nefgpt metrics reference {params.options} --reference {input.reference}"
        " --train {input.train} --out {output} > {log} 2>&1"


rule classifier:
    input:
        train=f"{RESULTS}/clouds/train.npy",
        labels=f"{RESULTS}/clouds/train.csv",
        test=f"{RESULTS}/clouds/test.npy",
        test_labels=f"{RESULTS}/clouds/test.csv",
    output:
        model=f"{RESULTS}/classifier.safetensors",
        report=f"{RESULTS}/classifier.json",
    log:
        f"{RESULTS}/logs/classifier.log",
    conda:
        "../envs/core.yaml"
    threads: 8
    resources:
        gpu=gpu,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        options=options(settings=CONFIG["classifier"], seed=CONFIG["seed"]),
        version=version("classifier"),
    shell:
        "python -m nefgpt classifier --train {input.train} --test {input.test} {params.options}"
        " --out {output.model} --report {output.report} > {log} 2>&1"


rule score:
    input:
        clouds=f"{RESULTS}/samples/{{model}}/{{setting}}/clouds.npy",
        reference=f"{RESULTS}/clouds/test.npy",
        train=f"{RESULTS}/clouds/train.npy",
        distances=rules.reference_distances.output,
        ids=f"{RESULTS}/clouds/train.csv",
        samples=f"{RESULTS}/samples/{{model}}/{{setting}}/samples.csv",
        classifier=rules.classifier.output.model if LABELLED else [],
        # Real signals are no fields.
        fields=fields_of,
        weights=lambda wildcards: rules.weights.output if fields_of(wildcards) else [],
        network=FPD["checkpoint"] if FPD else [],
    output:
        **({"classes": f"{RESULTS}/samples/{{model}}/{{setting}}/classes.csv"} if LABELLED else {}),
        metrics=f"{RESULTS}/samples/{{model}}/{{setting}}/metrics.csv",
        nearest=f"{RESULTS}/samples/{{model}}/{{setting}}/nearest.csv",
        halves=f"{RESULTS}/samples/{{model}}/{{setting}}/halves.npz",
    log:
        f"{RESULTS}/logs/score/{{model}}/{{setting}}.log",
    wildcard_constraints:
        model=f"(?!({HALVES}|{TEST_FIELDS})/).+",
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
            draws=CONFIG["evaluation"]["draws"],
            kind=KIND,
            normalisation=NORMALISATION,
            fpd=FPD,
            fields=next(iter(fields_of(wildcards)), None),
            weights=f"{RESULTS}/weights.parquet" if fields_of(wildcards) else None,
            classifier=f"{RESULTS}/classifier.safetensors" if LABELLED else None,
            classes=(
                f"{RESULTS}/samples/{wildcards.model}/{wildcards.setting}/classes.csv"
                if LABELLED
                else None
            ),
        ),
        version=version("evaluate"),
    shell:
        "python -m nefgpt metrics score --clouds {input.clouds} --reference {input.reference}"
        " --train {input.train} --distances {input.distances} {params.options}"
        " --samples {input.samples} --out {output.metrics} --nearest {output.nearest}"
        " --halves {output.halves} > {log} 2>&1"


# Half of the test split as samples against the other half: what the choice of test signals alone
# gives; and the fields of that half, what fitting costs signals that nothing has seen.
rule score_halves:
    input:
        reference=f"{RESULTS}/clouds/test.npy",
        table=f"{RESULTS}/clouds/test.csv",
        train=f"{RESULTS}/clouds/train.npy",
        distances=rules.reference_distances.output,
        classifier=rules.classifier.output.model if LABELLED else [],
        network=FPD["checkpoint"] if FPD else [],
        clouds=lambda wildcards: (
            f"{RESULTS}/samples/{TEST_FIELDS}/all/clouds.npy"
            if wildcards.model == TEST_FIELDS
            else []
        ),
    output:
        metrics=f"{RESULTS}/samples/{{model}}/all/metrics.csv",
        halves=f"{RESULTS}/samples/{{model}}/all/halves.npz",
    log:
        f"{RESULTS}/logs/score/{{model}}.log",
    wildcard_constraints:
        model=f"{HALVES}|{TEST_FIELDS}",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        options=lambda wildcards: options(
            method=wildcards.model,
            setting="all",
            seed=CONFIG["seed"],
            draws=CONFIG["evaluation"]["draws"],
            kind=KIND,
            normalisation=NORMALISATION,
            fpd=FPD,
            classifier=f"{RESULTS}/classifier.safetensors" if LABELLED else None,
            clouds=(
                f"{RESULTS}/samples/{TEST_FIELDS}/all/clouds.npy"
                if wildcards.model == TEST_FIELDS
                else None
            ),
        ),
        version=version("evaluate"),
    shell:
        "python -m nefgpt metrics halves --reference {input.reference} --train {input.train}"
        " --distances {input.distances} {params.options} --out {output.metrics}"
        " --halves {output.halves} > {log} 2>&1"


rule likelihood:
    input:
        models=[f"{RESULTS}/gpt/{model}/model.safetensors" for model in CONFIG["gpt"]],
        weights=rules.weights.output,
        codebook=rules.tokens.output.codebook,
        tokens=rules.tokens.output.tokens,
    output:
        f"{RESULTS}/tables/likelihood.csv",
    log:
        f"{RESULTS}/logs/likelihood.log",
    conda:
        "../envs/core.yaml"
    resources:
        gpu=gpu,
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        options=options(
            gpt={model: f"{RESULTS}/gpt/{model}" for model in CONFIG["gpt"]},
            seed=CONFIG["seed"],
        ),
        version=version("likelihood"),
    shell:
        "python -m nefgpt likelihood --weights {input.weights} --codebook {input.codebook}"
        " --tokens {input.tokens} {params.options} --out {output} > {log} 2>&1"


rule fits:
    input:
        shapes=rules.list_shapes.output,
        checked=ancient(str(rules.shapes.output.shapes)),
        signals=signals([*FITTED, *of_split("test")]),
        template=rules.template.output,
        weights=rules.weights.output,
        codebook=rules.tokens.output.codebook,
    output:
        fields=f"{RESULTS}/samples/{TEST_FIELDS}/all/fields.parquet",
        table=f"{RESULTS}/tables/fits.csv",
        text=f"{RESULTS}/tables/fits.md",
    log:
        f"{RESULTS}/logs/fits.log",
    conda:
        "../envs/core.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        options=options(
            settings=without(CONFIG["fit"], "fields_per_job"),
            seed=CONFIG["seed"],
            signal_dir=SIGNALS,
            work_dir=f"{RESULTS}/fields/test",
        ),
        version=f"{version('fit')}, {version('evaluate')}",
    shell:
        "python -m nefgpt fits --shapes {input.shapes} --template {input.template}"
        " --weights {input.weights} --codebook {input.codebook} {params.options}"
        " --fields {output.fields} --out {output.table} > {log} 2>&1"


rule tune:
    input:
        model=lambda wildcards: f"{RESULTS}/gpt/{CONFIG['tuning']['model']}/model.safetensors",
        weights=rules.weights.output,
        codebook=rules.tokens.output.codebook,
        reference=f"{RESULTS}/clouds/val.npy",
        classifier=rules.classifier.output.model if LABELLED else [],
    output:
        f"{RESULTS}/tables/tuning.csv",
    log:
        f"{RESULTS}/logs/tune.log",
    conda:
        "../envs/core.yaml"
    threads: 8
    resources:
        gpu=gpu,
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        options=lambda wildcards: options(
            settings=CONFIG["tuning"],
            extract=EXTRACT,
            seed=CONFIG["seed"],
            batch_size=CONFIG["sampling"]["batch_size"],
            gpt=f"{RESULTS}/gpt/{CONFIG['tuning']['model']}",
            classifier=f"{RESULTS}/classifier.safetensors" if LABELLED else None,
            normalisation=NORMALISATION,
        ),
        version=", ".join(map(version, ("sample", "extract", "evaluate"))),
    shell:
        "python -m nefgpt tune --weights {input.weights} --codebook {input.codebook}"
        " --reference {input.reference} {params.options} --out {output} > {log} 2>&1"


rule tables:
    input:
        metrics=[f"{RESULTS}/samples/{m}/{s}/metrics.csv" for m, s in SCORED],
        halves=[f"{RESULTS}/samples/{m}/{s}/halves.npz" for m, s in SCORED],
        fits=rules.fits.output.table if FITS else [],
    output:
        metrics=f"{RESULTS}/tables/metrics.csv",
        csv=f"{RESULTS}/tables/table2.csv",
        md=f"{RESULTS}/tables/table2.md",
        tex=f"{RESULTS}/tables/table2.tex",
        intervals=f"{RESULTS}/tables/intervals.csv",
        intervals_md=f"{RESULTS}/tables/intervals.md",
    log:
        f"{RESULTS}/logs/tables.log",
    conda:
        "../envs/core.yaml"
    params:
        options=options(out_dir=f"{RESULTS}/tables", kind=KIND),
        version=version("evaluate"),
    shell:
        "python -m nefgpt tables --metrics {input.metrics} --halves {input.halves}"
        " {params.options} > {log} 2>&1"


rule figures:
    input:
        rules.tables.output,
        rules.likelihood.output,
        rules.config.output,
        rules.shapes.output.shapes,
        rules.tokens.output,
        rules.weights.output,
        [f"{RESULTS}/{kind}/{m}/losses.csv" for kind in TRAINED for m in CONFIG[kind]],
        [
            f"{RESULTS}/samples/{m}/{s}/{f}"
            for m, s in FIELD_SETS
            for f in ("samples.csv", "nearest.csv")
        ],
        rules.tune.output if CONFIG["tuning"] else [],
        [rules.regression.output, rules.fit_starts.output] if CONFIG["regression"] else [],
        rules.classifier.output if LABELLED else [],
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
        "python -m nefgpt present figures {params.options} > {log} 2>&1"


rule report:
    input:
        rules.figures.output,
        rules.shapes.output,
        rules.reference_distances.output,
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
        "python -m nefgpt present report {params.options} --out {output} > {log} 2>&1"
