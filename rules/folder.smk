"""Find the workflow's folder, with the programs that rules call.

Requires: nothing. Makes: .snakemake/snaketune/COMMIT, if a Snakefile uses this one as a module from a Git host, as
snakedeploy writes it: Snakemake then fetches the rules only, so the whole workflow is checked out.
"""

import os
import subprocess
import sys
from pathlib import Path


def workflow_folder(rules_folder):
    """Return the absolute path of the workflow's folder from `rules_folder`, Snakemake's source of the folder rules."""
    if rules_folder.is_local:
        return Path(rules_folder.get_path_or_uri(secret_free=True)).parent
    clone = rules_folder.hosted_repo.repo
    folder = Path(".snakemake/snaketune", clone.commit(rules_folder.ref).hexsha).resolve()
    if not folder.is_dir():
        new = folder.with_name(f"{folder.name}.{os.getpid()}")
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", clone.git_dir, new], check=True)
        subprocess.run(["git", "-C", new, "checkout", "--quiet", folder.name], check=True)
        new.rename(folder)
    # The profile may have imported modules of another version.
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    return folder


FOLDER = workflow_folder(workflow.current_basedir)
