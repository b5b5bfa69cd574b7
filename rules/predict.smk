"""The same prompts through base, adapter, merged model and each quant.

Requires: <results>/datasets/{dataset}/test.jsonl, the models of the run, and the files of its prompt sets.
Makes: <results>/runs/{run}/answers/{variant}.jsonl and likelihood/{variant}.jsonl
"""


rule predict_with_transformers:
    """Answer the prompts with base, adapter or merged model, and measure the expected answers' likelihood."""
    input:
        model=variant_model,
        adapter=variant_adapter,
        test=dataset_file("test.jsonl"),
        prompt_sets=prompt_set_files,
        code=code("predict/predict_with_transformers.py"),
    output:
        answers="<results>/runs/{run}/answers/{variant}.jsonl",
        likelihood="<results>/runs/{run}/likelihood/{variant}.jsonl",
    log:
        "<logs>/predict/predict_with_transformers/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/predict/predict_with_transformers/{run}.{variant}.tsv"
    wildcard_constraints:
        variant="base|adapter|merged",
    conda:
        "../envs/train.yaml"
    threads: prediction_threads
    resources:
        gpu=gpus_of_run,
        mem_mb=training_mb,
        runtime=480,
    params:
        adapter=adapter_option,
        prompt_sets=prompt_set_options,
        settings=run_settings("method", "qlora", "generation", "training.precision"),
    shell:
        r"""
        python {input.code[0]:q} {input.model:q} {params.adapter:q} --test {input.test:q} {params.prompt_sets:q} \
            --answers {output.answers:q} --likelihood {output.likelihood:q} --threads {threads} \
            --settings {params.settings:q} --log {log:q}
        """


rule predict_with_llama:
    """Answer the prompts with a GGUF in llama.cpp, and measure the expected answers' likelihood."""
    input:
        model="<results>/runs/{run}/gguf/{variant}.gguf",
        test=dataset_file("test.jsonl"),
        prompt_sets=prompt_set_files,
        code=code("predict/predict_with_llama.py"),
    output:
        answers="<results>/runs/{run}/answers/{variant}.jsonl",
        likelihood="<results>/runs/{run}/likelihood/{variant}.jsonl",
    log:
        "<logs>/predict/predict_with_llama/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/predict/predict_with_llama/{run}.{variant}.tsv"
    wildcard_constraints:
        variant=one_of(QUANTS),
    conda:
        "../envs/gguf.yaml"
    threads: prediction_threads
    resources:
        gpu=gpus_of_run,
        mem_mb=training_mb,
        runtime=480,
    params:
        prompt_sets=prompt_set_options,
        settings=run_settings("generation"),
    shell:
        r"""
        python {input.code[0]:q} {input.model:q} --test {input.test:q} {params.prompt_sets:q} \
            --answers {output.answers:q} --likelihood {output.likelihood:q} --threads {threads} \
            --settings {params.settings:q} --log {log:q}
        """
