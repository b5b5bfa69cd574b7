"""Build the bundle: GGUF files and Modelfile or a classifier's folder, model card, examples, checksums, provenance.

Requires: <results>/runs/{run}/gguf/ and parity.json, or merged/; verdict.json, scores/, training.json.
Makes: <results>/runs/{run}/bundle/; SHA256SUMS is written last.
"""


rule build_bundle:
    """Collect the files to deploy, from the model to its provenance, in one folder."""
    input:
        model=of("run", input_files.shipped_model),
        mmproj=mmproj_of_run,
        images=images_of_run,
        parity=branch(task_where("classifies"), then=[], otherwise="<results>/runs/{run}/parity.json"),
        verdict="<results>/runs/{run}/verdict.json",
        scores=scored_files("<results>/runs/{run}/scores/{variant}.json"),
        base=base_manifest,
        training=path_of("<results>/runs/{trained_by}/training.json"),
        test=path_of("<results>/datasets/{dataset}/test.jsonl"),
        shown=shown_examples,
        redaction=branch(is_redacted, then=path_of("<results>/datasets/{dataset}/redaction.json")),
        raw=of("dataset", input_files.raw_files),
        read=of("run", input_files.files_read),
    output:
        sums="<results>/runs/{run}/bundle/SHA256SUMS",
    log:
        "<logs>/deploy/build_bundle/{run}.log",
    benchmark:
        "<benchmarks>/deploy/build_bundle/{run}.tsv"
    wildcard_constraints:
        run=one_of(name for name, run in CONFIG.runs.items() if run.method != "prompt"),
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(1000),
        runtime=60,
    params:
        code=code("deploy/build_bundle.py"),
        card=PREPARED.own_file("scripts/deploy/card.md.jinja"),
        examples=[PREPARED.own_file(path) for path in sorted(PREPARED.root.glob("scripts/deploy/examples/*.py"))],
        monitor=PREPARED.own_file("scripts/deploy/quality_monitor.py"),
        serving=[PREPARED.own_file(path) for path in sorted(PREPARED.root.glob("scripts/deploy/serving/*"))],
        folder=subpath(output.sums, parent=True),
        options=options("mmproj", "images", "parity", "redaction", shown="train"),
        benchmarks=workflow.pathvars.apply("<benchmarks>"),
        configfiles=PREPARED.config_files,
        settings=settings_of(of("run", settings.bundle)),
    shell:
        r"""
        python {params.code:q} {input.model:q} {params.options:q} --verdict {input.verdict:q} --scores {input.scores:q} \
            --base {input.base:q} --training {input.training:q} --test {input.test:q} --raw {input.raw:q} \
            --benchmarks {params.benchmarks:q} --folder {params.folder:q} \
            --configfile {params.configfiles:q} --settings {params.settings:q} --log {log:q}
        """
