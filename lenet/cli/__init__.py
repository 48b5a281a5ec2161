"""The command line: one file per command, which parses, calls the library and sets the exit code.

A command is a module of this folder: its docstring is the command's help, and its ``command`` the
click command. The module is imported only when the command runs, and its numerical imports are
inside its functions, so ``lenet --help`` loads neither NumPy nor SciPy. Results go to stdout,
everything else to stderr. An error is one line:
``lenet: error: <file>: <key>: <problem>; <what to do>``.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from pkgutil import get_data, iter_modules
from types import FrameType
from typing import NoReturn, TextIO

import click

from lenet.errors import LenetError
from lenet.parallel.launch import abort_job, prints, use_mpi
from lenet.system.machine import limit_blas_threads
from lenet.system.text import escape_unencodable, printable
from lenet.version import __version__

# The order in which a new user needs the commands; any others follow.
ORDER = (
    *("train", "sweep", "eval", "predict", "summary", "config", "inspect", "export", "import"),
    *("play", "gradcheck", "bench", "report", "regress", "data"),
)


def _help_lines() -> dict[str, str]:
    """Return the commands and the first line of each one's docstring, without importing them."""
    lines = {}
    names = {module.name for module in iter_modules(__path__)} - {"options"}
    for name in sorted(names, key=lambda name: (*ORDER, name).index(name)):
        source = (get_data(__name__, f"{name}.py") or b"").decode()
        lines[name] = source.split('"""')[1].partition("\n")[0]
    return lines


COMMANDS = _help_lines()


class Commands(click.Group):
    """A group that imports a command's module only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"lenet.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # for which click would print an empty line
            raise click.Abort(*error.args) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="lenet", message="%(prog)s %(version)s")
def cli(debug: bool) -> None:
    """Train, evaluate and inspect LeNet-5 in plain NumPy.

    \b
    lenet train                              built-in digits, no download
    lenet train --config mnist
    lenet eval runs/mnist/best.npz
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the matching exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _interrupt)
    escape_unencodable()
    warnings.showwarning = _show_warning
    use_mpi(any(re.search("(^|=)mpi$", word) for word in arguments))
    limit_blas_threads(1)  # before NumPy is imported: the products are small, a worker is a core
    try:
        cli.main(arguments, prog_name="lenet", standalone_mode=False)
        with suppress(AttributeError):  # stdout may be None
            sys.stdout.flush()
        code, failed = 0, False
    except BaseException as error:
        failed = not isinstance(error, SystemExit | click.exceptions.Exit)
        if failed and "--debug" in arguments:
            import traceback

            traceback.print_exc()
        code = _explain(error)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # too late to stop: the result is already printed
    if failed:
        abort_job(code)
    sys.exit(code)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a Python warning as one line, like the warnings of this package."""
    if issubclass(category, UserWarning):
        text = f"lenet: warning: {printable(message)}"
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line).rstrip()
    click.echo(text, file=file, err=True)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """Treat SIGTERM as Ctrl-C, so that temporary files, processes and shared memory are removed."""
    raise KeyboardInterrupt(number)


def _explain(error: BaseException) -> int:
    """Print the error as one line and return its exit code."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case BrokenPipeError() | SystemExit(code=1):  # the second is what click makes of it
            # The reader is gone; stop the interpreter from flushing to the closed pipe at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 141
        case SystemExit():
            return error.code if isinstance(error.code, int) else 1
        case LenetError():
            return _fail(str(error), error.exit_code)
        case click.UsageError() if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2
            click.echo(error.format_message(), err=True)
            return 2
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "lenet"
            problem = error.format_message().rstrip(".").replace("\n", " ")
            return _fail(f"{problem}; see {command} --help", 2)
        case click.ClickException():
            return _fail(f"{error.format_message()}; see lenet --help", 2)
        case KeyboardInterrupt() | click.Abort():
            number = error.args[0] if error.args else signal.SIGINT
            return _fail("interrupted; the last checkpoint is complete", 128 + number)
        case UnicodeEncodeError():  # output is escaped, so this is the name of a file
            return _fail(
                f"{error.object}: is not a valid file name in this system's encoding, "
                f"{error.encoding}; choose another name, or set PYTHONUTF8=1",
                4,
            )
        case MemoryError():
            return _fail("out of memory; use a smaller train.batch_size or fewer train.workers", 4)
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return _fail(f"{where}{error.strerror or error}; check disk, path and permissions", 4)
    return _fail(
        f"internal error: {type(error).__name__}: {error}; please report it, with the output of "
        "the same command with lenet --debug",
        1,
    )


def _fail(line: str, code: int) -> int:
    with suppress(AttributeError, OSError):  # stderr may be None or closed
        if prints():
            click.echo(f"lenet: error: {printable(line)}", err=True)
    return code
