"""The options `--site`, `--configfile` and `--settings` of the programs that collect: one site's section."""

import argparse
from pathlib import Path

from pydantic import ValidationError

from scripts.common.errors import UserError
from scripts.config.faults import closest, dotted, explanation, plain_place
from scripts.config.sites import Site


def add_site_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a site and where its section is read from; `--settings` is in every step's parser."""
    parser.add_argument("--site", required=True, help="name of the site in the section 'sites'")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="configuration files, as of Snakemake")


def site_of(arguments: argparse.Namespace, fetches: bool = False) -> Site:
    """Return the section of the site: from the configuration files, or from `--settings`, as rules give it.

    Raises UserError for an undefined site, for a configuration with faults (one line for each, with file and line),
    and if the program `fetches` although the configuration has `offline: true`.
    """
    if not arguments.configfile:
        try:
            return Site.model_validate(dict(arguments.settings))
        except ValidationError as error:
            fault = error.errors()[0]
            place = dotted(("sites", arguments.site, *plain_place(fault["loc"])))
            remedy = "give the configuration with --configfile"
            raise UserError(f"--settings: {place}: {explanation(fault, Site)}", remedy=remedy) from None
    import yaml

    from scripts.config.expand import merged
    from scripts.config.files import first_fault
    from scripts.config.load import load_config

    if fault := first_fault(arguments.configfile):
        raise UserError(fault)
    raw: dict = {}
    for path in arguments.configfile:
        raw = merged(raw, yaml.safe_load(path.read_text(encoding="utf-8")))
    config = load_config(raw, arguments.configfile)
    if arguments.site not in config.sites:
        near = closest(arguments.site, config.sites)
        raise UserError(f"--site: '{arguments.site}' is not defined under 'sites'{near}")
    if fetches and config.offline:
        raise UserError("nothing is collected with 'offline: true'")
    return config.sites[arguments.site]
