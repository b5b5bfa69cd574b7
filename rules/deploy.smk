"""Build the bundle: GGUF files and Modelfile or a classifier's folder, model card, examples, checksums, provenance.

`snakemake deliver` takes bundles to their targets, and `snakemake soak` plays a match with each that serves itself; the
default target needs neither.

Requires: <results>/runs/{run}/gguf/ and parity.json, or merged/; verdict.json, scores/, training.json.
Makes: <results>/runs/{run}/bundle/; SHA256SUMS is written last. delivered.json and soak.json beside it.
"""

DELIVERED = [name for name, run in CONFIG.runs.items() if run.deploy.target]
SERVED = [name for name in generating_runs("lora", "qlora", "full") if name not in runs_where("reads_images")]


rule deliver:
    """Deliver the bundle of each run that has a target."""
    input:
        result_of_runs(
            "<results>/runs/{run}/delivered.json", DELIVERED, "no run has a deploy.target: name a folder there"
        ),


rule soak:
    """Play a match with the bundle of each run that generates text."""
    input:
        result_of_runs("<results>/runs/{run}/soak.json", SERVED, "no run makes a GGUF that generates text"),


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


rule deliver_bundle:
    """Copy a bundle with the verdict promote to its target, and make it current there."""
    input:
        sums="<results>/runs/{run}/bundle/SHA256SUMS",
    output:
        delivered="<results>/runs/{run}/delivered.json",
    log:
        "<logs>/deploy/deliver_bundle/{run}.log",
    benchmark:
        "<benchmarks>/deploy/deliver_bundle/{run}.tsv"
    wildcard_constraints:
        run=one_of(DELIVERED),
    localrule: True
    conda:
        conda_file("dataset")  # it has the client of the hub
    container:
        image("dataset")
    resources:
        mem_mb=megabytes(500),
        runtime=60,
    params:
        code=code("deploy/release.py"),
        bundle=subpath(input.sums, parent=True),
        target=of("run", settings.target),
    shell:
        r"""
        python {params.code:q} --log {log:q} deliver {params.bundle:q} {params.target:q} \
            --delivered {output.delivered:q}
        """


rule soak_bundle:
    """Serve a bundle and play a match with it; the findings say whether its gates passed."""
    input:
        sums="<results>/runs/{run}/bundle/SHA256SUMS",
        answers=of("run", input_files.shipped_answers),
    output:
        soak="<results>/runs/{run}/soak.json",
    log:
        "<logs>/deploy/soak_bundle/{run}.log",
    benchmark:
        "<benchmarks>/deploy/soak_bundle/{run}.tsv"
    wildcard_constraints:
        run=one_of(SERVED),
    conda:
        conda_file("score")
    container:
        image("score")
    threads: workflow.resource_settings.cores or 8  # all, so that no other job of this machine disturbs the seconds
    resources:
        gpu=gpus_of_run,
        mem_mb=megabytes(16000),
        runtime=240,
    params:
        code=code("deploy/soak.py"),
        bundle=subpath(input.sums, parent=True),
        options=of("run", settings.soak),
    shell:
        r"""
        python {params.code:q} {params.bundle:q} --prompts {input.answers:q} {params.options:q} \
            --output {output.soak:q} --gpus {resources.gpu} --log {log:q}
        """
