"""Collect raw records from web pages, on request only: no other rule needs these results, so no ordinary run makes a
request.

`snakemake collect` finds and fetches new pages of all sites, and `snakemake extract` reads the saved pages again. The
steps run where Snakemake runs, without a container, because Chromium is the one of the machine.

Requires: `sites.<site>`.
Makes: the site's folder (collected/<site>/): pages/, pages.jsonl, records.json, matches.jsonl; and in
<results>/collect/{site}/ the addresses of the pages and what was done.
"""

from datetime import UTC, datetime

NO_SITE = "no site to collect from: describe one under 'sites' in the configuration (docs/how-to/collect.md)"


rule collect:
    """Fetch new pages of each site, and extract the records of all pages."""
    input:
        result_of_each("<results>/collect/{site}/collected.json", "site", CONFIG.sites, NO_SITE),


rule extract:
    """Extract the records of each site again, from its saved pages."""
    input:
        result_of_each("<results>/collect/{site}/extracted.json", "site", CONFIG.sites, NO_SITE),


rule find_pages:
    """Find pages worth collecting on the listing pages of a site; a run on another day looks again."""
    input:
        of("site", input_files.ready_to_fetch),
    output:
        found="<results>/collect/{site}/found.txt",
    log:
        "<logs>/collect/find_pages/{site}.log",
    benchmark:
        "<benchmarks>/collect/find_pages/{site}.tsv"
    localrule: True
    conda:
        conda_file("collect")
    resources:
        mem_mb=megabytes(2000),
        runtime=480,
    params:
        python=PREPARED.python,
        code=code("collect/find_pages.py"),
        settings=of("site", settings.site),
        day=datetime.now(UTC).date().isoformat(),
    shell:
        r"""
        {params.python:q} {params.code:q} --site {wildcards.site:q} --output {output.found:q} \
            --settings {params.settings:q} --log {log:q}
        """


rule collect_pages:
    """Fetch the pages of a site that are not saved yet, and extract the records of all pages."""
    input:
        of("site", input_files.ready_to_fetch),
        found="<results>/collect/{site}/found.txt",
    output:
        done="<results>/collect/{site}/collected.json",
    log:
        "<logs>/collect/collect_pages/{site}.log",
    benchmark:
        "<benchmarks>/collect/collect_pages/{site}.tsv"
    localrule: True
    conda:
        conda_file("collect")
    resources:
        mem_mb=megabytes(4000),
        runtime=2880,
    params:
        python=PREPARED.python,
        code=code("collect/collect_pages.py"),
        settings=of("site", settings.site),
    shell:
        r"""
        {params.python:q} {params.code:q} {input.found:q} --site {wildcards.site:q} --output {output.done:q} \
            --settings {params.settings:q} --log {log:q}
        """


rule extract_records:
    """Extract records and matches from the saved pages of a site."""
    input:
        pages=of("site", input_files.saved_pages),
    output:
        done="<results>/collect/{site}/extracted.json",
    log:
        "<logs>/collect/extract_records/{site}.log",
    benchmark:
        "<benchmarks>/collect/extract_records/{site}.tsv"
    localrule: True
    conda:
        conda_file("collect")
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        python=PREPARED.python,
        code=code("collect/extract_page.py"),
        settings=of("site", settings.site),
    shell:
        r"""
        {params.python:q} {params.code:q} --site {wildcards.site:q} --done {output.done:q} \
            --settings {params.settings:q} --log {log:q}
        """
