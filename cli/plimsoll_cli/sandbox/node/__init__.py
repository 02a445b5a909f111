"""The sandbox's kubelet: runs the containers of every pod bound to its nodes as local processes.

`python -m plimsoll_cli.sandbox.node --kubeconfig F --config FILE.json` runs it; `config.AgentConfig` is the file. What
a process cannot have (a mount or network namespace, a cgroup) is refused with an event when a pod depends on it
(`refusal.py`), and resource limits are scheduled by but not enforced.
"""
