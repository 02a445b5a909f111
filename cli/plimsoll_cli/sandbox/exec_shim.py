"""Run a program that the kernel kills when its parent dies: `exec_shim.py PARENT_PID PROGRAM [ARGUMENT ...]`.

Started between fork and exec of the real program because Python code between the two is unsafe in a process with
threads. The setting survives exec. Uses the standard library only and is run with `python -I -S` to start quickly.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Set the parent-death signal, check that the parent still lives, become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the sandbox ended while this component was starting")
    try:
        os.execv(program[0], program)  # noqa: S606 (an argument list, no shell)
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


main()
