"""What is deployed: GGUF files and Modelfile or a classifier's folder, model card, examples, checksums, provenance.

Requires: <results>/runs/{run}/gguf/ and parity.json, or merged/; verdict.json, scores/, training.json.
Makes: <results>/runs/{run}/bundle/, SHA256SUMS last
"""


rule build_bundle:
    """Put together what is deployed, from the model to its provenance."""
    input:
        model=shipped_model,
        mmproj=mmproj_of_run,
        images=images_of_run,
        parity=parity_of_run,
        verdict="<results>/runs/{run}/verdict.json",
        scores=scored_files("scores/{variant}.json"),
        base=base_manifest,
        training=of_maker("training.json"),
        test=dataset_file("test.jsonl"),
        shown=shown_examples,
        redaction=redaction_of_run,
        raw=raw_files_of_run,
        read=files_read,
        card=workflow_file("scripts/deploy/card.md.jinja"),
        examples=map(workflow_file, sorted(Path(workflow.basedir).glob("scripts/deploy/examples/*.py"))),
    output:
        sums="<results>/runs/{run}/bundle/SHA256SUMS",
    log:
        "<logs>/deploy/build_bundle/{run}.log",
    benchmark:
        "<benchmarks>/deploy/build_bundle/{run}.tsv"
    wildcard_constraints:
        run=one_of([*generating_runs("lora", "qlora", "full"), *CLASSIFYING]),
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(1000),
        runtime=60,
    params:
        code=code("deploy/build_bundle.py"),
        folder=subpath(output.sums, parent=True),
        mmproj=option("--mmproj", "mmproj"),
        images=option("--images", "images"),
        parity=option("--parity", "parity"),
        shown=option("--train", "shown"),
        redaction=option("--redaction", "redaction"),
        benchmarks=benchmarks_folder,
        configfiles=config_files,
        settings=bundle_settings,
    shell:
        r"""
        python {params.code[0]:q} {input.model:q} {params.mmproj:q} {params.images:q} {params.parity:q} \
            {params.shown:q} {params.redaction:q} --verdict {input.verdict:q} --scores {input.scores:q} \
            --base {input.base:q} --training {input.training:q} --test {input.test:q} --raw {input.raw:q} \
            --benchmarks {params.benchmarks:q} --folder {params.folder:q} \
            --configfile {params.configfiles:q} --settings {params.settings:q} --log {log:q}
        """
