"""Convert the merged model to GGUF files, and check that the served model matches the trained one.

Requires: <results>/runs/{run}/merged/manifest.json, <results>/datasets/{dataset}/test.jsonl.
Makes: <results>/tools/llama.cpp/, <results>/runs/{run}/gguf/{quant}.gguf, gguf/{quant}.types.json, gguf/mmproj.gguf
(vision), parity.json
"""


rule fetch_converter:
    """Download the pinned archive of llama-cpp-python, check its hash, and unpack llama.cpp's converter."""
    output:
        manifest="<results>/tools/llama.cpp/manifest.json",
    log:
        "<logs>/gguf/fetch_converter.log",
    benchmark:
        "<benchmarks>/gguf/fetch_converter.tsv"
    retries: DOWNLOAD_RETRIES
    localrule: True
    conda:
        conda_file("gguf")
    container:
        image("gguf")
    resources:
        mem_mb=megabytes(1000),
        runtime=30,
    params:
        code=code("gguf/fetch_converter.py"),
        requirements=PREPARED.own_file("envs/converter.txt"),
        folder=subpath(output.manifest, parent=True),
    shell:
        r"""
        python {params.code:q} {params.requirements:q} --folder {params.folder:q} --log {log:q}
        """


rule convert_to_gguf:
    """Convert the merged model to a bf16 GGUF file with metadata and chat template."""
    input:
        merged="<results>/runs/{run}/merged/manifest.json",
        tools="<results>/tools/llama.cpp/manifest.json",
        base=base_manifest,
    output:
        gguf="<results>/runs/{run}/gguf/bf16.gguf",
    log:
        "<logs>/gguf/convert_to_gguf/{run}.log",
    benchmark:
        "<benchmarks>/gguf/convert_to_gguf/{run}.tsv"
    # From the base over the training to the shipped quant's answers is the longest way: its rules have priority, in
    # all files.
    priority: 1
    conda:
        conda_file("gguf")
    container:
        image("gguf")
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        code=code("gguf/convert_to_gguf.py"),
        merged=subpath(input.merged, parent=True),
        tools=subpath(input.tools, parent=True),
        settings=settings_of(of("run", settings.gguf)),
    shell:
        r"""
        python {params.code:q} {params.merged:q} --tools {params.tools:q} --base {input.base:q} \
            --output {output.gguf:q} --settings {params.settings:q} --log {log:q}
        """


use rule convert_to_gguf as convert_mmproj with:
    """Convert the merged model's vision tower and projector to a separate GGUF file, as llama.cpp requires."""
    output:
        gguf="<results>/runs/{run}/gguf/mmproj.gguf",
    log:
        "<logs>/gguf/convert_mmproj/{run}.log",
    benchmark:
        "<benchmarks>/gguf/convert_mmproj/{run}.tsv"
    wildcard_constraints:
        run=one_of(runs_where("reads_images")),
    params:
        code=code("gguf/convert_mmproj.py"),


rule quantize_gguf:
    """Quantize the bf16 GGUF file."""
    input:
        source="<results>/runs/{run}/gguf/bf16.gguf",
    output:
        gguf="<results>/runs/{run}/gguf/{quant}.gguf",
        types="<results>/runs/{run}/gguf/{quant}.types.json",
    log:
        "<logs>/gguf/quantize_gguf/{run}.{quant}.log",
    benchmark:
        "<benchmarks>/gguf/quantize_gguf/{run}.{quant}.tsv"
    wildcard_constraints:
        quant=one_of(quant for quant in QUANTS if quant != "bf16"),
    priority: 1
    conda:
        conda_file("gguf")
    container:
        image("gguf")
    threads: quantization_threads
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        code=code("gguf/quantize_gguf.py"),
    shell:
        r"""
        python {params.code:q} {input.source:q} --quant {wildcards.quant:q} --threads {threads} \
            --output {output.gguf:q} --types {output.types:q} --log {log:q}
        """


rule check_parity:
    """Check that llama.cpp gets the same tokens as training and answers like the merged model."""
    input:
        merged=merged_manifest,
        gguf=path_of("<results>/runs/{trained_by}/gguf/bf16.gguf"),
        mmproj=mmproj_of_run,
        images=images_of_run,
        test=path_of("<results>/datasets/{dataset}/test.jsonl"),
        shown=shown_examples,
        prompt_sets=of("run", input_files.prompt_set_files),
    output:
        report="<results>/runs/{run}/parity.json",
    log:
        "<logs>/gguf/check_parity/{run}.log",
    benchmark:
        "<benchmarks>/gguf/check_parity/{run}.tsv"
    conda:
        conda_file("gguf")
    container:
        image("gguf")
    threads: branch(gpus_of_run, then=2, otherwise=1)
    resources:
        gpu=gpus_of_run,
        mem_mb=training_mb,
        runtime=120,
    params:
        code=code("gguf/check_parity.py"),
        merged=subpath(input.merged, parent=True),
        prompt_sets=of("run", input_files.prompt_set_options),
        options=options("mmproj", shown="train"),
        images=images_option,
        settings=settings_of(run="task vision.longest_edge parity generation.system strategies strategy"),
    shell:
        r"""
        python {params.code:q} {params.merged:q} {input.gguf:q} --test {input.test:q} {params.prompt_sets:q} \
            {params.options:q} {params.images:q} --threads {threads} --gpus {resources.gpu} \
            --output {output.report:q} --settings {params.settings:q} --log {log:q}
        """
