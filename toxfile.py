"""Where disk is short, an environment goes once it has run."""

import os
import shutil

from tox.plugin import impl
from tox.tox_env.api import ToxEnv


@impl
def tox_env_teardown(tox_env: ToxEnv) -> None:
    """Remove the folder of `tox_env` if TOX_ONE_AT_A_TIME is set."""
    if os.environ.get("TOX_ONE_AT_A_TIME"):
        shutil.rmtree(tox_env.env_dir, ignore_errors=True)
