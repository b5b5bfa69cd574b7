"""Tokenize conversations, train an adapter, and merge the adapter into the base.

Requires: <results>/datasets/{dataset}/{split}.jsonl and <results>/models/{model}/manifest.json.
Makes: <results>/runs/{run}/tokens/, adapter/ (a classifier's head; not for the method `full`), merged/, curve.jsonl,
curve.svg, training.json
"""


rule tokenize_conversations:
    """Write the exact token ids for training, and a ledger of lengths, masks and truncated rows."""
    input:
        train=path_of("<results>/datasets/{dataset}/train.jsonl"),
        validation=path_of("<results>/datasets/{dataset}/validation.jsonl"),
        test=path_of("<results>/datasets/{dataset}/test.jsonl"),
        base=base_manifest,
        images=images_of_run,
    output:
        train="<results>/runs/{run}/tokens/train.arrow",
        validation="<results>/runs/{run}/tokens/validation.arrow",
        test="<results>/runs/{run}/tokens/test.arrow",
        ledger="<results>/runs/{run}/tokens/ledger.json",
        page=reported("<results>/runs/{run}/tokens/ledger.html", "tokens", "Training", run="{run}", what="tokens"),
    log:
        "<logs>/train/tokenize_conversations/{run}.log",
    benchmark:
        "<benchmarks>/train/tokenize_conversations/{run}.tsv"
    wildcard_constraints:
        run=one_of(generating_runs("lora", "qlora", "full")),
    priority: 1
    conda:
        conda_file("train")
    container:
        image("train")
    threads: dataset_threads
    resources:
        mem_mb=megabytes(4000),
        runtime=120,
    params:
        code=code("train/tokenize_conversations.py"),
        dataset=subpath(input.train, parent=True),
        folder=subpath(output.train, parent=True),
        images=images_option,
        settings=settings_of(
            run="task vision.longest_edge tokens.max_length tokens.truncation tokens.max_truncated tokens.max_untrained "
            "tokens.train_on"
        ),
    shell:
        r"""
        python {params.code:q} {params.dataset:q} --base {input.base:q} {params.images:q} \
            --folder {params.folder:q} --threads {threads} --settings {params.settings:q} --log {log:q}
        """


use rule tokenize_conversations as tokenize_spans with:
    """Write token ids and a label for each token, split long texts into windows, and write a ledger."""
    output:
        train="<results>/runs/{run}/tokens/train.arrow",
        validation="<results>/runs/{run}/tokens/validation.arrow",
        test="<results>/runs/{run}/tokens/test.arrow",
        labels="<results>/runs/{run}/tokens/labels.json",
        ledger="<results>/runs/{run}/tokens/ledger.json",
        page=reported("<results>/runs/{run}/tokens/ledger.html", "tokens", "Training", run="{run}", what="tokens"),
    log:
        "<logs>/train/tokenize_spans/{run}.log",
    benchmark:
        "<benchmarks>/train/tokenize_spans/{run}.tsv"
    wildcard_constraints:
        run=one_of(runs_where("classifies")),
    threads: 1
    params:
        code=code("train/tokenize_spans.py"),
        settings=settings_of(run="tokens.max_length tokens.window_overlap"),


rule train_adapter:
    """Train an adapter; continue from the last checkpoint of the same run."""
    input:
        train="<results>/runs/{run}/tokens/train.arrow",
        validation="<results>/runs/{run}/tokens/validation.arrow",
        base=base_manifest,
        images=images_of_run,
    output:
        trained="<results>/runs/{run}/adapter/manifest.json",
        curve="<results>/runs/{run}/curve.jsonl",
        facts="<results>/runs/{run}/training.json",
    log:
        "<logs>/train/train_adapter/{run}.log",
    benchmark:
        "<benchmarks>/train/train_adapter/{run}.tsv"
    wildcard_constraints:
        run=one_of(generating_runs("lora", "qlora")),
    priority: 1
    conda:
        conda_file("train")
    container:
        image("train")
    threads: training_threads
    resources:
        gpu=gpus_of_training,
        mem_mb=training_mb,
        runtime=1440,
        nodes=on_several_nodes(),
        tasks=on_several_nodes(),
        tasks_per_gpu=on_several_nodes(0),
        mpi=on_several_nodes("srun"),
        gres=gres_of_training,
    params:
        code=code("train/train_model.py"),
        tokens=subpath(input.train, parent=True),
        output=subpath(output.trained, parent=True),
        folder=subpath(output.curve, parent=True),
        images=images_option,
        settings=without_trackers(
            settings_of(run="task method seed vision lora qlora training tokens.packing tokens.max_length")
        ),
    shell:
        r"""
        python {params.code:q} {params.tokens:q} --base {input.base:q} {params.images:q} --output {params.output:q} \
            --checkpoints {params.folder:q}/checkpoints --curve {output.curve:q} --facts {output.facts:q} \
            --threads {threads} --gpus {resources.gpu} --settings {params.settings:q} \
            --log {log:q}
        """


use rule train_adapter as train_full with:
    """Train all weights; continue from the last checkpoint of the same run."""
    output:
        trained="<results>/runs/{run}/merged/manifest.json",
        curve="<results>/runs/{run}/curve.jsonl",
        facts="<results>/runs/{run}/training.json",
    log:
        "<logs>/train/train_full/{run}.log",
    benchmark:
        "<benchmarks>/train/train_full/{run}.tsv"
    wildcard_constraints:
        run=one_of(generating_runs("full")),


use rule train_adapter as train_head with:
    """Train a linear classifier over the base, alone or with an adapter; continue from the last checkpoint."""
    input:
        train="<results>/runs/{run}/tokens/train.arrow",
        validation="<results>/runs/{run}/tokens/validation.arrow",
        labels="<results>/runs/{run}/tokens/labels.json",
        base=base_manifest,
    log:
        "<logs>/train/train_head/{run}.log",
    benchmark:
        "<benchmarks>/train/train_head/{run}.tsv"
    wildcard_constraints:
        run=one_of(runs_where("classifies")),
    priority: 0
    threads: branch(gpus_of_run, then=2, otherwise=1)
    params:
        code=code("train/train_head.py"),
        settings=without_trackers(settings_of(run="method seed head lora qlora training")),


rule merge_adapter:
    """Merge the adapter into the full-precision base, and write a plain Hugging Face model folder."""
    input:
        adapter="<results>/runs/{run}/adapter/manifest.json",
        base=base_manifest,
    output:
        model="<results>/runs/{run}/merged/manifest.json",
    log:
        "<logs>/train/merge_adapter/{run}.log",
    benchmark:
        "<benchmarks>/train/merge_adapter/{run}.tsv"
    wildcard_constraints:
        run=one_of(generating_runs("lora", "qlora")),
    priority: 1
    conda:
        conda_file("train")
    container:
        image("train")
    threads: branch(gpus_of_run, then=2, otherwise=1)  # two would wait until two cores are free
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        code=code("train/merge_adapter.py"),
        output=subpath(output.model, parent=True),
    shell:
        r"""
        python {params.code:q} {input.adapter:q} --base {input.base:q} --output {params.output:q} \
            --threads {threads} --log {log:q}
        """


use rule merge_adapter as merge_head with:
    """Merge a classifier's head and its adapter, if it has one, into the base."""
    log:
        "<logs>/train/merge_head/{run}.log",
    benchmark:
        "<benchmarks>/train/merge_head/{run}.tsv"
    wildcard_constraints:
        run=one_of(runs_where("classifies")),
    priority: 0
    params:
        code=code("train/merge_head.py"),


rule plot_curve:
    """Draw loss, learning rate and speed by optimizer step."""
    input:
        curve="<results>/runs/{run}/curve.jsonl",
    output:
        plot=reported("<results>/runs/{run}/curve.svg", "curve", "Training", run="{run}", what="curve"),
    log:
        "<logs>/train/plot_curve/{run}.log",
    benchmark:
        "<benchmarks>/train/plot_curve/{run}.tsv"
    localrule: True
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(1000),
        runtime=10,
    params:
        code=code("train/plot_curve.py"),
    shell:
        r"""
        python {params.code:q} {input.curve:q} --plot {output.plot:q} --log {log:q}
        """
