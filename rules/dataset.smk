"""Raw data to canonical records, splits and a ledger.

Requires: the raw files of `datasets.<dataset>`.
Makes: <results>/datasets/{dataset}/records.parquet, {split}.jsonl, quarantine.jsonl, ledger.json, ledger.html
"""


rule ingest_records:
    """Read raw files into canonical records, each traceable to file:line; set bad ones aside or stop at them."""
    input:
        raw=raw_files,
        code=code("dataset/ingest_records.py"),
    output:
        records="<results>/datasets/{dataset}/ingested.parquet",
        quarantine="<results>/datasets/{dataset}/quarantine.jsonl",
        counts="<results>/datasets/{dataset}/ingest.json",
    params:
        settings=dataset_settings(
            "hub", "format", "fields", "columns", "system", "label", "label_map", "group_by",
            "min_characters", "max_characters", "checks", "on_bad_record",
        ),
    log:
        "<logs>/dataset/ingest_records/{dataset}.log",
    benchmark:
        "<benchmarks>/dataset/ingest_records/{dataset}.tsv"
    resources:
        mem_mb=2000,
        runtime=60,
    conda:
        "../envs/dataset.yaml"
    shell:
        r"""
        python {input.code[0]:q} {input.raw:q} --settings {params.settings:q} --log {log:q} \
            --records {output.records:q} --quarantine {output.quarantine:q} --counts {output.counts:q}
        """
