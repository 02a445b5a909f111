"""Run one container's process and outlive the node agent: `shim.py RUN_FOLDER`.

One small process per container stands between the node agent and the container, as containerd's shim does: the agent
may restart without losing a container or its exit code, and the container still ends when the sandbox ends, however
that ends. In the run folder it reads `spec.json` and writes `started.json` once and `exit.json` once.

- SIGTERM is passed on to the container's process group, SIGUSR1 kills the group.
- When the supervisor's process ends, everything is killed.
- When the container's first process ends, what it left behind is killed: strays are re-parented to this process.
- When this process is killed, the kernel kills the container's first process.

Standard library only, run with `python -I -S`: it starts in tens of milliseconds and keeps 10 MB.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import signal
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_REAP_MILLISECONDS = 5000  # a zombie or two in between cost nothing
_LIBC = ctypes.CDLL(None, use_errno=True)


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid it names a process for good.

    Field 22 of /proc/PID/stat (proc_pid_stat(5)); fields are counted after the parenthesised name.

    Raises:
        OSError: there is no such process.
    """
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def write_json(path: str, content: dict[str, Any]) -> None:
    """Write a file that is never seen half-written."""
    partial = f"{path}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.rename(partial, path)


def supervisor_descriptor(spec: dict[str, Any]) -> int | None:
    """A pidfd of the supervisor, None when there is none to watch; exits when it has ended already."""
    if not spec.get("supervisor_pid"):
        return None
    try:
        descriptor = os.pidfd_open(spec["supervisor_pid"])
        if start_ticks(spec["supervisor_pid"]) == spec["supervisor_start"]:
            return descriptor
    except OSError:
        pass
    sys.exit("the sandbox ended while this container was starting")


def be_nice(niceness: int) -> None:
    """Lower this process's priority, and its session's where the kernel schedules sessions against each other.

    With autogrouping a process's own niceness counts only within its session (sched(7)).
    """
    if not niceness:
        return
    os.nice(niceness)
    try:
        with open("/proc/self/autogroup", "w", encoding="ascii") as file:
            file.write(str(niceness))
    except OSError:  # a kernel without autogrouping
        return


def become_container(spec: dict[str, Any], shim: int, failure: int) -> None:
    """In the child: leave the shim's session, set up descriptors and limits, become the container. Never returns."""
    try:
        os.setsid()
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != shim:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        be_nice(spec.get("nice", 0))
        log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(spec["directory"])
        os.execve(spec["arguments"][0], spec["arguments"], spec["environment"])  # noqa: S606 (an argument list, no shell)
    except OSError as error:
        os.write(failure, f"{spec['arguments'][0]}: {error.strerror}".encode())
    finally:
        os._exit(127)


def start_container(spec: dict[str, Any]) -> tuple[int, str]:
    """Start the container; its pid, and why it could not become the program (empty when it did)."""
    reading, writing = os.pipe()  # closed by a successful exec
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        become_container(spec, shim, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as failure:
        return pid, failure.read().decode(errors="replace")


def signal_group(pid: int, number: int) -> None:
    """Signal the container's process group; it may have ended."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def children() -> list[int]:
    """The children of this process, those that were re-parented to it among them."""
    mine, found = os.getpid(), []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    if int(file.read().rpartition(")")[2].split()[1]) == mine:
                        found.append(int(name))
            except OSError:  # ended meanwhile
                continue
    return found


def end_strays() -> None:
    """Kill and reap every process that is still, or was re-parented to be, a child of this one."""
    while True:
        for child in children():
            os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def reap_strays(container: int) -> None:
    """Reap re-parented processes that have ended; the container itself is left for `wait`."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid == container:
            return
        os.waitpid(ended.si_pid, 0)


def wait(pid: int, supervisor: int | None) -> int:
    """Wait for the container, reaping strays meanwhile; kill it when the supervisor ends. Its wait status."""
    container = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(container, select.POLLIN)
    if supervisor is not None:
        poller.register(supervisor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poller.poll(_REAP_MILLISECONDS)}
        if supervisor is not None and supervisor in ready:
            signal_group(pid, signal.SIGKILL)
            poller.unregister(supervisor)
            supervisor = None
        if container in ready:
            return os.waitpid(pid, 0)[1]
        reap_strays(pid)


def main() -> None:
    """Start the container, tell the agent through standard output, wait for the end, write it down."""
    folder = sys.argv[1]
    with open(f"{folder}/spec.json", encoding="utf-8") as file:
        spec = json.load(file)
    supervisor = supervisor_descriptor(spec)
    _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pid, error = start_container(spec)
    signal.signal(signal.SIGTERM, lambda *_: signal_group(pid, signal.SIGTERM))
    signal.signal(signal.SIGUSR1, lambda *_: signal_group(pid, signal.SIGKILL))
    began = time.time()
    if error:
        os.waitpid(pid, 0)
        write_json(f"{folder}/exit.json", {"error": error, "started_at": began, "finished_at": began})
        tell_agent("error\n")
        return
    write_json(
        f"{folder}/started.json",
        {"shim": os.getpid(), "shim_start": start_ticks(os.getpid()), "pid": pid, "started_at": began},
    )
    tell_agent("started\n")
    status = wait(pid, supervisor)
    finished = time.time()
    signal_group(pid, signal.SIGKILL)
    end_strays()
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    code = 128 + number if number else os.WEXITSTATUS(status)
    write_json(
        f"{folder}/exit.json", {"exit_code": code, "signal": number, "started_at": began, "finished_at": finished}
    )


def tell_agent(line: str) -> None:
    """Answer the agent, which may have ended; then let go of its pipe."""
    try:
        os.write(1, line.encode())
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)


if __name__ == "__main__":
    main()
