# From raw data to a fine-tuned, merged, quantized, scored and deployable language model.
# `snakemake --cores all` runs the demo; with `--configfile config/recipes/football.yaml`, it runs another project.
from snakemake.utils import min_version

min_version("9.27")

if "datasets" not in config:

    configfile: "config/config.yaml"


pathvars:
    logs="<results>/logs",
    benchmarks="<results>/benchmarks",


include: "rules/folder.smk"
include: "rules/common.smk"
include: "rules/collect.smk"
include: "rules/dataset.smk"
include: "rules/model.smk"
include: "rules/train.smk"
include: "rules/gguf.smk"
include: "rules/predict.smk"
include: "rules/score.smk"
include: "rules/deploy.smk"


onstart:
    stop_jobs_on_signals()


onsuccess:
    show_summary(workflow, PREPARED)


rule all:
    default_target: True
    input:
        every_result,
