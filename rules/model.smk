"""Base models: from the hub, from a folder, or made here.

Requires: `models.<model>`.
Makes: <results>/models/{model}/, a Hugging Face model folder whose manifest.json is written last.
"""


rule generate_corpus:
    """Write the text that an embedded model is trained on; it holds none of the example data."""
    input:
        code=code("model/generate_corpus.py"),
    output:
        corpus="<results>/models/{model}.corpus.jsonl",
    log:
        "<logs>/model/generate_corpus/{model}.log",
    benchmark:
        "<benchmarks>/model/generate_corpus/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_from("embedded")),
    conda:
        conda_file("dataset")
    container:
        image("dataset")
    resources:
        mem_mb=megabytes(1000),
        runtime=10,
    params:
        documents=embedded_setting("documents"),
        languages=embedded_setting("languages"),
        seed=embedded_setting("seed"),
    shell:
        r"""
        python {input.code[0]:q} --documents {params.documents} --languages {params.languages:q} \
            --seed {params.seed} --output {output.corpus:q} --log {log:q}
        """


rule build_embedded_model:
    """Train a small model of a real architecture on the generated corpus; for seeing and testing only."""
    input:
        corpus="<results>/models/{model}.corpus.jsonl",
        code=code("model/build_embedded_model.py"),
        chat_template=chat_template_file,
    output:
        manifest="<results>/models/{model}/manifest.json",
    log:
        "<logs>/model/build_embedded_model/{model}.log",
    benchmark:
        "<benchmarks>/model/build_embedded_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_from("embedded")),
    conda:
        conda_file("train")
    container:
        image("train")
    threads: 2
    resources:
        mem_mb=megabytes(4000),
        runtime=30,
    params:
        folder=subpath(output.manifest, parent=True),
        settings=model_settings("architecture", "embedded", "license", "template_date"),
    shell:
        r"""
        python {input.code[0]:q} {input.corpus:q} --chat-template {input.chat_template:q} --threads {threads} \
            --name {wildcards.model:q} --folder {params.folder:q} --settings {params.settings:q} --log {log:q}
        """


rule fetch_hub_model:
    """Download a model pinned by its commit, and keep the checksums."""
    input:
        code=code("model/fetch_hub_model.py"),
        chat_template=chat_template_file,
    output:
        manifest="<results>/models/{model}/manifest.json",
    log:
        "<logs>/model/fetch_hub_model/{model}.log",
    benchmark:
        "<benchmarks>/model/fetch_hub_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_from("hub")),
    retries: DOWNLOAD_RETRIES
    localrule: True
    conda:
        conda_file("train")
    container:
        image("train")
    resources:
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        folder=subpath(output.manifest, parent=True),
        chat_template=chat_template_option,
        settings=model_settings("architecture", "hub", "license", "trust_remote_code", "template_date"),
    shell:
        r"""
        python {input.code[0]:q} {params.chat_template:q} --name {wildcards.model:q} --folder {params.folder:q} \
            --settings {params.settings:q} --log {log:q}
        """


rule link_local_model:
    """Take a model from a local folder, its weights as links, and keep the checksums."""
    input:
        source=local_model_files,
        code=code("model/link_local_model.py"),
        chat_template=chat_template_file,
    output:
        manifest="<results>/models/{model}/manifest.json",
    log:
        "<logs>/model/link_local_model/{model}.log",
    benchmark:
        "<benchmarks>/model/link_local_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_from("path")),
    conda:
        conda_file("train")
    container:
        image("train")
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        source=local_model_folder,
        chat_template=chat_template_option,
        folder=subpath(output.manifest, parent=True),
        settings=model_settings("architecture", "path", "license", "trust_remote_code", "template_date"),
    shell:
        r"""
        python {input.code[0]:q} {params.source:q} {params.chat_template:q} --name {wildcards.model:q} \
            --folder {params.folder:q} --settings {params.settings:q} --log {log:q}
        """
