"""Compute metrics of the answers, choose among the runs of a sweep, a verdict for each run, a comparison of all runs.

Requires: <results>/runs/{run}/answers/{variant}.jsonl, likelihood/{variant}.jsonl and curve.jsonl, and test.jsonl and
train.jsonl of <results>/datasets/{dataset}.
Makes: <results>/runs/{run}/scores/{variant}.json, errors/{variant}.jsonl, confusion/{variant}.svg (entities),
verdict.json, report.html, tracked.json (of trackers), scores and errors in validation/,
<results>/sweeps/{sweep}/choice.json, and <results>/leaderboard.csv and leaderboard.html
"""


rule score_answers:
    """Compute the metrics of one variant's answers, with 95 % intervals, and list the worst answers."""
    input:
        answers="<results>/runs/{run}/answers/{variant}.jsonl",
        likelihood="<results>/runs/{run}/likelihood/{variant}.jsonl",
        test=path_of("<results>/datasets/{dataset}/test.jsonl"),
        reference=path_of("<results>/datasets/{dataset}/train.jsonl"),
        votes=of("run", input_files.votes),
        rival=of("run", input_files.rival_answers),
    output:
        scores="<results>/runs/{run}/scores/{variant}.json",
        errors="<results>/runs/{run}/errors/{variant}.jsonl",
    log:
        "<logs>/score/score_answers/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/score/score_answers/{run}.{variant}.tsv"
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(2000),
        runtime=60,
    params:
        code=code("score/score_answers.py"),
        options=options("votes", "rival"),
        settings=settings_of(of("run", settings.score), run="task", dataset="language"),
    shell:
        r"""
        python {params.code:q} {input.answers:q} {input.likelihood:q} --test {input.test:q} \
            --reference {input.reference:q} {params.options:q} \
            --run {wildcards.run:q} --variant {wildcards.variant:q} \
            --scores {output.scores:q} --errors {output.errors:q} --settings {params.settings:q} --log {log:q}
        """


use rule score_answers as score_validation with:
    """Compute the metrics of the answers to the validation split."""
    input:
        answers="<results>/runs/{run}/validation/answers/{variant}.jsonl",
        likelihood="<results>/runs/{run}/validation/likelihood/{variant}.jsonl",
        test=path_of("<results>/datasets/{dataset}/validation.jsonl"),
        reference=path_of("<results>/datasets/{dataset}/train.jsonl"),
    output:
        scores="<results>/runs/{run}/validation/scores/{variant}.json",
        errors="<results>/runs/{run}/validation/errors/{variant}.jsonl",
    log:
        "<logs>/score/score_validation/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/score/score_validation/{run}.{variant}.tsv"


rule choose_run:
    """Choose the run of a sweep that may be promoted: the best one on the validation split."""
    input:
        scores=of("sweep", input_files.sweep_scores),
        trainings=of("sweep", input_files.sweep_trainings),
    output:
        choice="<results>/sweeps/{sweep}/choice.json",
    log:
        "<logs>/score/choose_run/{sweep}.log",
    benchmark:
        "<benchmarks>/score/choose_run/{sweep}.tsv"
    localrule: True
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(1000),
        runtime=30,
    params:
        code=code("score/choose_run.py"),
        results=subpath(output.choice, ancestor=3),
        settings=settings_of(of("sweep", settings.sweep)),
    shell:
        # The settings of a large sweep may exceed the longest argument, so they come through a pipe.
        r"""
        printf %s {params.settings:q} | python {params.code:q} {params.results:q} --sweep {wildcards.sweep:q} \
            --choice {output.choice:q} --settings @/dev/stdin --log {log:q}
        """


rule draw_confusion:
    """Write the confusion matrix of the labels, as a picture and as a table."""
    input:
        scores="<results>/runs/{run}/scores/{variant}.json",
    output:
        table="<results>/runs/{run}/confusion/{variant}.csv",
        picture=reported(
            "<results>/runs/{run}/confusion/{variant}.svg",
            "confusion",
            "Scores",
            run="{run}",
            what="confusion, {variant}",
        ),
    log:
        "<logs>/score/draw_confusion/{run}.{variant}.log",
    benchmark:
        "<benchmarks>/score/draw_confusion/{run}.{variant}.tsv"
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(1000),
        runtime=10,
    params:
        code=code("score/draw_confusion.py"),
    shell:
        r"""
        python {params.code:q} {input.scores:q} --table {output.table:q} --picture {output.picture:q} --log {log:q}
        """


rule decide_verdict:
    """Decide whether to promote, hold or roll back a run, from its gates, its scores' intervals and its training."""
    input:
        scores=scored_files("<results>/runs/{run}/scores/{variant}.json"),
        base=base_manifest,
        training=branch(is_trained, then=path_of("<results>/runs/{trained_by}/training.json")),
        choice=of("run", input_files.choice),
    output:
        verdict=reported("<results>/runs/{run}/verdict.json", "verdict", "Scores", run="{run}", what="verdict"),
    log:
        "<logs>/score/decide_verdict/{run}.log",
    benchmark:
        "<benchmarks>/score/decide_verdict/{run}.tsv"
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(1000),
        runtime=30,
    params:
        code=code("score/decide_verdict.py"),
        options=options("training", "choice"),
        settings=settings_of(of("run", settings.verdict)),
    shell:
        r"""
        python {params.code:q} {input.scores:q} --run {wildcards.run:q} --base {input.base:q} \
            {params.options:q} --verdict {output.verdict:q} --settings {params.settings:q} --log {log:q}
        """


rule write_run_report:
    """Write a page on a run: verdict, telling answers, metrics, curve, and all answers."""
    input:
        scores=scored_files("<results>/runs/{run}/scores/{variant}.json"),
        answers=scored_files("<results>/runs/{run}/answers/{variant}.jsonl"),
        errors=scored_files("<results>/runs/{run}/errors/{variant}.jsonl"),
        verdict="<results>/runs/{run}/verdict.json",
        curve=branch(is_trained, then=path_of("<results>/runs/{trained_by}/curve.jsonl")),
        training=branch(is_trained, then=path_of("<results>/runs/{trained_by}/training.json")),
        images=images_of_run,
        types=types_of_quants,
        gguf=scored_gguf_files,
        strategy_scores=of("run", input_files.strategy_scores),
        strategy_answers=of("run", input_files.strategy_answers),
        base=base_manifest,
    output:
        page=reported("<results>/runs/{run}/report.html", "run", "Scores", run="{run}", what="report"),
    log:
        "<logs>/score/write_run_report/{run}.log",
    benchmark:
        "<benchmarks>/score/write_run_report/{run}.tsv"
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(1000),
        runtime=30,
    params:
        code=code("score/write_run_report.py"),
        options=options("curve", "training", strategy_scores="strategy-scores", strategy_answers="strategy-answers"),
        images=images_option,
        settings=settings_of(of("run", settings.report)),
    shell:
        r"""
        python {params.code:q} --scores {input.scores:q} --answers {input.answers:q} --errors {input.errors:q} \
            --verdict {input.verdict:q} {params.options:q} {params.images:q} \
            --types {input.types:q} --gguf {input.gguf:q} --manifest {input.base:q} --page {output.page:q} \
            --settings {params.settings:q} --log {log:q}
        """


rule report_to_trackers:
    """Write settings, curve, scores and verdict of a run to its trackers (`training.report_to`)."""
    input:
        scores=scored_files("<results>/runs/{run}/scores/{variant}.json"),
        verdict="<results>/runs/{run}/verdict.json",
        curve=branch(is_trained, then=path_of("<results>/runs/{trained_by}/curve.jsonl")),
        training=branch(is_trained, then=path_of("<results>/runs/{trained_by}/training.json")),
        train=path_of("<results>/datasets/{dataset}/train.jsonl"),
        validation=path_of("<results>/datasets/{dataset}/validation.jsonl"),
        test=path_of("<results>/datasets/{dataset}/test.jsonl"),
        base=base_manifest,
    output:
        tracked="<results>/runs/{run}/tracked.json",
    log:
        "<logs>/score/report_to_trackers/{run}.log",
    benchmark:
        "<benchmarks>/score/report_to_trackers/{run}.tsv"
    localrule: True
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(1000),
        runtime=10,
    params:
        code=code("score/report_to_trackers.py"),
        options=options("curve", "training"),
        settings=settings_of(of("run", settings.tracked)),
    shell:
        r"""
        python {params.code:q} --scores {input.scores:q} --verdict {input.verdict:q} {params.options:q} \
            --splits {input.train:q} {input.validation:q} {input.test:q} --base {input.base:q} \
            --tracked {output.tracked:q} --settings {params.settings:q} --log {log:q}
        """


rule write_leaderboard:
    """Rank all runs and variants, and mark differences that are within noise."""
    input:
        scores=[
            f"<results>/runs/{name}/scores/{variant}.json"
            for name, run in CONFIG.runs.items()
            for variant in answer_variants(run)
        ],
        verdicts=collect("<results>/runs/{run}/verdict.json", run=CONFIG.runs),
        choices=collect("<results>/sweeps/{sweep}/choice.json", sweep=CONFIG.sweeps),
        bases=collect(
            "<results>/models/{model}/manifest.json", model=sorted({run.model for run in CONFIG.runs.values()})
        ),
        monitors=input_files.monitor_logs(PREPARED),
    output:
        table=reported("<results>/leaderboard.csv", "leaderboard", "Leaderboard", run="all", what="table"),
        page=reported("<results>/leaderboard.html", "leaderboard", "Leaderboard", run="all", what="page"),
    log:
        "<logs>/score/write_leaderboard/all.log",
    benchmark:
        "<benchmarks>/score/write_leaderboard/all.tsv"
    conda:
        conda_file("score")
    container:
        image("score")
    resources:
        mem_mb=megabytes(2000),
        runtime=30,
    params:
        code=code("score/write_leaderboard.py"),
        results=subpath(output.table, parent=True),
        settings=settings_of(leaderboard),
    shell:
        # The settings of a large sweep may exceed the longest argument, so they come through a pipe.
        r"""
        printf %s {params.settings:q} | python {params.code:q} {params.results:q} --csv {output.table:q} \
            --page {output.page:q} --settings @/dev/stdin --log {log:q}
        """
