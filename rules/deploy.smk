"""What is deployed: GGUF files and Modelfile or a classifier's folder, model card, examples, checksums, provenance.

Requires: <results>/runs/{run}/gguf/, parity.json, verdict.json, scores/, training.json.
Makes: <results>/runs/{run}/bundle/, SHA256SUMS last
"""


rule build_bundle:
    """Put together what is deployed, from the shipped quant to its provenance."""
    input:
        gguf=shipped_gguf,
        mmproj=mmproj_of_run,
        images=images_of_run,
        parity="<results>/runs/{run}/parity.json",
        verdict="<results>/runs/{run}/verdict.json",
        scores=scored_files("scores/{variant}.json"),
        base=base_manifest,
        training=of_maker("training.json"),
        test=dataset_file("test.jsonl"),
        shown=shown_examples,
        redaction=redaction_of_run,
        raw=raw_files_of_run,
        read=files_read,
        code=code("deploy/build_bundle.py"),
        examples=[
            workflow_file("scripts/deploy/examples/example_llama_cpp.py"),
            workflow_file("scripts/deploy/examples/example_llama_cpp_image.py"),
            workflow_file("scripts/deploy/examples/example_transformers.py"),
            workflow_file("scripts/deploy/examples/example_transformers_image.py"),
        ],
    output:
        sums="<results>/runs/{run}/bundle/SHA256SUMS",
    log:
        "<logs>/deploy/build_bundle/{run}.log",
    benchmark:
        "<benchmarks>/deploy/build_bundle/{run}.tsv"
    wildcard_constraints:
        run=one_of(generating_runs("lora", "qlora", "full")),
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(1000),
        runtime=30,
    params:
        quant=subpath(input.gguf, basename=True, strip_suffix=".gguf"),
        folder=subpath(output.sums, parent=True),
        mmproj=option("--mmproj", "mmproj"),
        images=option("--images", "images"),
        shown=option("--train", "shown"),
        redaction=option("--redaction", "redaction"),
        benchmarks=benchmarks_folder,
        read=read_options,
        settings=bundle_settings,
    shell:
        r"""
        python {input.code[0]:q} {input.gguf:q} --quant {params.quant:q} {params.mmproj:q} {params.images:q} \
            {params.shown:q} --parity {input.parity:q} --verdict {input.verdict:q} \
            --scores {input.scores:q} --base {input.base:q} \
            --training {input.training:q} --test {input.test:q} --raw {input.raw:q} \
            {params.read:q} --benchmarks {params.benchmarks:q} --folder {params.folder:q} \
            --settings {params.settings:q} --log {log:q}
        """


rule build_classifier_bundle:
    """Put together a token classifier as it is deployed: the model's folder, its card, an example, its provenance."""
    input:
        model=of_maker("merged/manifest.json"),
        verdict="<results>/runs/{run}/verdict.json",
        scores=scored_files("scores/{variant}.json"),
        base=base_manifest,
        training=of_maker("training.json"),
        test=dataset_file("test.jsonl"),
        raw=raw_files_of_run,
        read=files_read,
        code=code("deploy/build_classifier_bundle.py"),
        examples=[workflow_file("scripts/deploy/examples/example_classify.py")],
    output:
        sums="<results>/runs/{run}/bundle/SHA256SUMS",
    log:
        "<logs>/deploy/build_classifier_bundle/{run}.log",
    benchmark:
        "<benchmarks>/deploy/build_classifier_bundle/{run}.tsv"
    wildcard_constraints:
        run=one_of(CLASSIFYING),
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(1000),
        runtime=60,
    params:
        folder=subpath(output.sums, parent=True),
        benchmarks=benchmarks_folder,
        read=read_options,
        settings=bundle_settings,
    shell:
        r"""
        python {input.code[0]:q} {input.model:q} --verdict {input.verdict:q} --scores {input.scores:q} \
            --base {input.base:q} --training {input.training:q} --test {input.test:q} --raw {input.raw:q} \
            {params.read:q} --benchmarks {params.benchmarks:q} --folder {params.folder:q} \
            --settings {params.settings:q} --log {log:q}
        """
