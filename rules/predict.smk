"""Answer the same prompts with base, adapter, merged model and each quant; classify texts with a token classifier.

To choose a strategy, or a run of a sweep, the shipped variant also answers the validation split.

Requires: <results>/datasets/{dataset}/test.jsonl and validation.jsonl, the models of the run, and the files of its prompt
sets.
Makes: <results>/runs/{run}/answers/{variant}.jsonl and likelihood/{variant}.jsonl, and both in validation/
"""

# The settings of answers apart from strategies: the test split is asked in the chosen one, the validation split in all.
WITH_TRANSFORMERS = "task method qlora vision.longest_edge generation training.precision"
WITH_LLAMA = "task vision.longest_edge generation"


rule predict_with_transformers:
    """Answer the prompts with base, adapter or merged model, and compute the likelihood of the expected answers."""
    input:
        model=branch(evaluate("{variant} == 'merged'"), then=merged_manifest, otherwise=base_manifest),
        adapter=branch(
            evaluate("{variant} == 'adapter'"), then=path_of("<results>/runs/{trained_by}/adapter/manifest.json")
        ),
        test=path_of("<results>/datasets/{dataset}/test.jsonl"),
        shown=of("run", input_files.shown_examples_of_test),
        images=images_of_run,
        prompt_sets=of("run", input_files.prompt_set_files),
    output:
        answers="<results>/runs/{run}/answers/{variant}.jsonl",
        likelihood="<results>/runs/{run}/likelihood/{variant}.jsonl",
    log:
        "<logs>/predict/predict_with_transformers/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/predict/predict_with_transformers/{run}.{variant}.tsv"
    wildcard_constraints:
        run=one_of(generating_runs("lora", "qlora", "full", "prompt")),
        variant="base|adapter|merged",
    conda:
        conda_file("train")
    container:
        image("train")
    threads: prediction_threads
    resources:
        gpu=gpus_of_run,
        mem_mb=training_mb,
        runtime=480,
    params:
        code=code("predict/predict_with_transformers.py"),
        model_option=options("adapter"),
        prompt_sets=of("run", input_files.prompt_set_options),
        shown=options(shown="train"),
        images=images_option,
        settings=settings_of(of("run", settings.chosen_strategy), run=WITH_TRANSFORMERS),
    shell:
        r"""
        python {params.code:q} {input.model:q} {params.model_option:q} --test {input.test:q} {params.prompt_sets:q} \
            {params.shown:q} {params.images:q} --answers {output.answers:q} --likelihood {output.likelihood:q} \
            --threads {threads} --gpus {resources.gpu} --settings {params.settings:q} --log {log:q}
        """


use rule predict_with_transformers as predict_with_llama with:
    """Answer the prompts with a GGUF file in llama.cpp, and compute the likelihood of the expected answers."""
    input:
        model=path_of("<results>/runs/{trained_by}/gguf/{variant}.gguf"),
        mmproj=mmproj_of_run,
        test=path_of("<results>/datasets/{dataset}/test.jsonl"),
        shown=of("run", input_files.shown_examples_of_test),
        images=images_of_run,
        prompt_sets=of("run", input_files.prompt_set_files),
    log:
        "<logs>/predict/predict_with_llama/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/predict/predict_with_llama/{run}.{variant}.tsv"
    wildcard_constraints:
        variant=one_of(QUANTS),
    priority: 1
    conda:
        conda_file("gguf")
    container:
        image("gguf")
    resources:
        gpu=gpus_of_run,
        mem_mb=llama_mb,
        runtime=480,
    params:
        code=code("predict/predict_with_llama.py"),
        model_option=options("mmproj"),
        settings=settings_of(of("run", settings.chosen_strategy), run=WITH_LLAMA),


use rule predict_with_transformers as predict_spans with:
    """Find the entities of the test texts with the merged classifier."""
    log:
        "<logs>/predict/predict_spans/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/predict/predict_spans/{run}.{variant}.tsv"
    wildcard_constraints:
        run=one_of(runs_where("classifies")),
        variant="merged",
    params:
        code=code("predict/predict_spans.py"),
        settings=settings_of(
            run="tokens.max_length tokens.window_overlap generation.batch_size generation.load_in_4bit training.precision"
        ),


use rule predict_with_transformers as predict_validation_with_transformers with:
    """Answer the validation split with the base of a run without training, under each of its strategies."""
    input:
        model=base_manifest,
        test=path_of("<results>/datasets/{dataset}/validation.jsonl"),
        shown=shown_examples,
        images=images_of_run,
    output:
        answers="<results>/runs/{run}/validation/answers/{variant}.jsonl",
        likelihood="<results>/runs/{run}/validation/likelihood/{variant}.jsonl",
    log:
        "<logs>/predict/predict_validation_with_transformers/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/predict/predict_validation_with_transformers/{run}.{variant}.tsv"
    wildcard_constraints:
        run=one_of(generating_runs("prompt")),
        variant="base",
    params:
        prompt_sets=[],
        settings=settings_of(run=f"{WITH_TRANSFORMERS} strategies strategy"),


use rule predict_with_llama as predict_validation_with_llama with:
    """Answer the validation split with the GGUF file that a run ships, under each of its strategies."""
    input:
        model=path_of("<results>/runs/{trained_by}/gguf/{variant}.gguf"),
        mmproj=mmproj_of_run,
        test=path_of("<results>/datasets/{dataset}/validation.jsonl"),
        shown=shown_examples,
        images=images_of_run,
    output:
        answers="<results>/runs/{run}/validation/answers/{variant}.jsonl",
        likelihood="<results>/runs/{run}/validation/likelihood/{variant}.jsonl",
    log:
        "<logs>/predict/predict_validation_with_llama/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/predict/predict_validation_with_llama/{run}.{variant}.tsv"
    params:
        prompt_sets=[],
        settings=settings_of(run=f"{WITH_LLAMA} strategies strategy"),


use rule predict_spans as predict_validation_spans with:
    """Find the entities of the validation texts with the merged classifier."""
    input:
        model=merged_manifest,
        test=path_of("<results>/datasets/{dataset}/validation.jsonl"),
    output:
        answers="<results>/runs/{run}/validation/answers/{variant}.jsonl",
        likelihood="<results>/runs/{run}/validation/likelihood/{variant}.jsonl",
    log:
        "<logs>/predict/predict_validation_spans/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/predict/predict_validation_spans/{run}.{variant}.tsv"
