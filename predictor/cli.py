"""The ``predictor`` command: arguments in, exit code out; no logic of its own.

Exit codes: 0 done, 2 bad input (one line on stderr says what to change), 1 anything else. With
``--json``, stdout holds JSON alone. Each command imports what it needs when it runs.
"""

from __future__ import annotations

import errno
import os
import sys

import click

from predictor.commands.ask import compare_command, explain_command, what_if_command
from predictor.commands.bring import case_command
from predictor.commands.common import FAILED, Group, say
from predictor.commands.curves import fit_command, operators_command, plot_command
from predictor.commands.estimating import (
    estimate_command,
    place_command,
    report_command,
    trace_command,
)
from predictor.commands.importing import import_command
from predictor.commands.listing import gpus_command, implementations_command, models_command
from predictor.commands.running import run_command, study_command
from predictor.commands.search import search_command
from predictor.commands.validate import validate_command
from predictor.errors import PredictorError, nearest

DONE, BAD_INPUT = 0, 2
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAX_ERROR_CHARACTERS = 2000

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(package_name="llm-iteration-predictor")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def predictor(*, debug: bool) -> None:
    """Predict the time, memory and money of one LLM training iteration."""
    del debug  # read by run(), which is outside of the commands


_COMMANDS = (
    case_command,
    compare_command,
    estimate_command,
    explain_command,
    fit_command,
    gpus_command,
    implementations_command,
    import_command,
    models_command,
    operators_command,
    place_command,
    plot_command,
    report_command,
    run_command,
    search_command,
    study_command,
    trace_command,
    validate_command,
    what_if_command,
)
for _command in _COMMANDS:
    predictor.add_command(_command)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; nothing is raised for what a user did."""
    try:
        code = predictor.main(arguments, prog_name="predictor", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
    except click.NoSuchOption as error:
        _fail(_no_such_option(error), BAD_INPUT)
    except (click.ClickException, PredictorError) as error:
        words = error.format_message() if isinstance(error, click.ClickException) else str(error)
        _fail(words, BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", FAILED)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - at exit
        return FAILED
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _fail(_unforeseen(error), FAILED)
    return BAD_INPUT


def _no_such_option(error: click.NoSuchOption) -> str:
    """Name the option that was meant, in the words of every other error."""
    known = [name for each in error.ctx.command.params for name in each.opts] if error.ctx else []
    return f"no option is called {error.option_name}{nearest(error.option_name, known)}"


def _unforeseen(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return f"the output cannot be written: {error.strerror}"
    return f"internal error: {type(error).__name__}: {error}; please report it"


def _fail(words: str, code: int) -> int:
    """Print one line on stderr, of a length that people read, and return the exit code."""
    line, half = " ".join(words.split()), MAX_ERROR_CHARACTERS // 2
    cut = f"{line[:half]} … {line[-half:]}" if len(line) > MAX_ERROR_CHARACTERS else line
    say(f"predictor: {cut}", err=True)
    return code
