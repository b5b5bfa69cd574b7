"""Convert raw data to canonical records, splits and a ledger.

Requires: the raw files and images of `datasets.<dataset>`, except for a hub dataset, whose commit is in the settings;
the file of corrections if it has some of the dataset; <results>/runs/{run}/merged/manifest.json of the classifier if personal data is to be replaced.
Makes: <results>/datasets/{dataset}/records.parquet, {split}.jsonl, quarantine.jsonl, images/, redaction.json,
ledger.json, ledger.html
"""


rule ingest_records:
    """Read raw data into canonical records, each with its origin file:line; quarantine bad records or stop."""
    input:
        raw=of("dataset", input_files.raw_files),
        images=of("dataset", input_files.image_files),
        corrections=ancient(of("dataset", input_files.corrections)),  # its own lines are among the settings
    output:
        records="<results>/datasets/{dataset}/ingested.parquet",
        quarantine="<results>/datasets/{dataset}/quarantine.jsonl",
        counts="<results>/datasets/{dataset}/ingest.json",
        images="<results>/datasets/{dataset}/images/manifest.json",
    log:
        "<logs>/dataset/ingest_records/{dataset}.log",
    benchmark:
        "<benchmarks>/dataset/ingest_records/{dataset}.tsv"
    conda:
        conda_file("dataset")
    container:
        image("dataset")
    threads: dataset_threads
    resources:
        mem_mb=megabytes(2000),
        runtime=60,
    params:
        code=code("dataset/ingest_records.py"),
        settings=settings_of(
            of("dataset", settings.images),
            of("dataset", settings.corrections),
            dataset="hub format fields columns system label label_map span_label_map group_by strip_span_label_numbers "
            "min_characters max_characters checks on_bad_record max_records",
        ),
        corrections=options("corrections"),
    shell:
        r"""
        python {params.code:q} {input.raw:q} --name {wildcards.dataset:q} --settings {params.settings:q} --threads {threads} \
            --log {log:q} {params.corrections:q} --records {output.records:q} --quarantine {output.quarantine:q} \
            --counts {output.counts:q}
        """


rule redact_records:
    """Replace personal data, found by a run's classifier, with typed placeholders."""
    input:
        ingested="<results>/datasets/{dataset}/ingested.parquet",
        model=merged_manifest,
    output:
        records="<results>/datasets/{dataset}/redacted.parquet",
        facts="<results>/datasets/{dataset}/redaction.json",
    log:
        "<logs>/dataset/redact_records/{dataset}.log",
    benchmark:
        "<benchmarks>/dataset/redact_records/{dataset}.tsv"
    wildcard_constraints:
        dataset=one_of(name for name, dataset in CONFIG.datasets.items() if dataset.redact),
    conda:
        conda_file("train")
    container:
        image("train")
    threads: prediction_threads
    resources:
        gpu=gpus_of_run,
        mem_mb=megabytes(48000),
        runtime=480,
    params:
        code=code("predict/redact_records.py"),
        settings=settings_of(
            run="tokens training.precision generation.batch_size generation.load_in_4bit", dataset="redact"
        ),
    shell:
        r"""
        python {params.code:q} {input.ingested:q} --model {input.model:q} --output {output.records:q} \
            --facts {output.facts:q} --threads {threads} --gpus {resources.gpu} --settings {params.settings:q} \
            --log {log:q}
        """


rule split_records:
    """Remove duplicates, or check that no two splits have near duplicates; split by hash; augment the training split."""
    input:
        ingested=branch(
            is_redacted,
            then="<results>/datasets/{dataset}/redacted.parquet",
            otherwise="<results>/datasets/{dataset}/ingested.parquet",
        ),
        counts="<results>/datasets/{dataset}/ingest.json",
    output:
        records="<results>/datasets/{dataset}/records.parquet",
        train="<results>/datasets/{dataset}/train.jsonl",
        validation="<results>/datasets/{dataset}/validation.jsonl",
        test="<results>/datasets/{dataset}/test.jsonl",
        duplicates="<results>/datasets/{dataset}/duplicates.jsonl",
        facts="<results>/datasets/{dataset}/split.json",
    log:
        "<logs>/dataset/split_records/{dataset}.log",
    benchmark:
        "<benchmarks>/dataset/split_records/{dataset}.tsv"
    conda:
        conda_file("dataset")
    container:
        image("dataset")
    threads: dataset_threads
    resources:
        mem_mb=megabytes(4000),
        runtime=120,
    params:
        code=code("dataset/split_records.py"),
        settings=settings_of(of("dataset", settings.whole_files), dataset="deduplicate splits stratify augment"),
    shell:
        r"""
        python {params.code:q} {input.ingested:q} --settings {params.settings:q} --threads {threads} --log {log:q} \
            --counts {input.counts:q} --records {output.records:q} --train {output.train:q} --validation {output.validation:q} \
            --test {output.test:q} --duplicates {output.duplicates:q} --facts {output.facts:q}
        """


rule write_dataset_ledger:
    """Report read and dropped records with reasons, labels, lengths and splits, as JSON and as a page."""
    input:
        records="<results>/datasets/{dataset}/records.parquet",
        quarantine="<results>/datasets/{dataset}/quarantine.jsonl",
        counts="<results>/datasets/{dataset}/ingest.json",
        duplicates="<results>/datasets/{dataset}/duplicates.jsonl",
        facts="<results>/datasets/{dataset}/split.json",
        redaction=branch(is_redacted, then="<results>/datasets/{dataset}/redaction.json"),
        images="<results>/datasets/{dataset}/images/manifest.json",
    output:
        json="<results>/datasets/{dataset}/ledger.json",
        html=reported(
            "<results>/datasets/{dataset}/ledger.html", "dataset", "Datasets", dataset="{dataset}", what="ledger"
        ),
    log:
        "<logs>/dataset/write_dataset_ledger/{dataset}.log",
    benchmark:
        "<benchmarks>/dataset/write_dataset_ledger/{dataset}.tsv"
    conda:
        conda_file("dataset")
    container:
        image("dataset")
    threads: dataset_threads
    resources:
        mem_mb=megabytes(1000),
        runtime=30,
    params:
        code=code("dataset/write_dataset_ledger.py"),
        settings=settings_of(dataset="checks group_by"),
        redaction=options("redaction"),
    shell:
        r"""
        python {params.code:q} --name {wildcards.dataset:q} --settings {params.settings:q} --threads {threads} \
            --log {log:q} --records {input.records:q} --quarantine {input.quarantine:q} --counts {input.counts:q} \
            --duplicates {input.duplicates:q} --facts {input.facts:q} --images {input.images:q} {params.redaction:q} \
            --json {output.json:q} --html {output.html:q}
        """
