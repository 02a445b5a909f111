"""Pods run as processes with all that a kubelet owes them, on a real control plane."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from typing import Any

import pytest

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("node_agent")]


def shell(script: str, **fields: Any) -> dict[str, Any]:
    """A container that runs a shell script."""
    return {"command": ["/bin/sh", "-c", script], **fields}


def condition(pod: dict[str, Any], kind: str) -> str | None:
    """Status of a pod's condition."""
    return next((c["status"] for c in pod["status"].get("conditions", ()) if c["type"] == kind), None)


def ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is Ready."""
    return condition(pod, "Ready") == "True"


def main_status(pod: dict[str, Any]) -> dict[str, Any]:
    """Status of the first container."""
    status: dict[str, Any] = (pod["status"].get("containerStatuses") or [{}])[0]
    return status


def test_nodes_are_ready_and_labelled(space: Any) -> None:
    """The node lifecycle controller takes the not-ready taint away; GPUs are capacity and labels."""
    space.kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=60s", timeout=90)
    node = space.kubectl.json("get", "node", "gpu-0")
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "4"
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert node["metadata"]["labels"]["nvidia.com/gpu.count"] == "4"
    lease = space.kubectl.json("get", "lease", "gpu-0", "-n", "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == "gpu-0"


def test_a_pod_runs_gets_an_address_and_its_logs_are_read(space: Any) -> None:
    """Scheduled by the real scheduler, Running, with its own loopback address; kubectl logs works through the API."""
    space.run("p", shell("for i in 1 2 3; do echo line $i; done; exec sleep 600"))
    pod = space.until("p", ready)
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"].startswith("127.")
    assert pod["status"]["hostIP"] != pod["status"]["podIP"]
    assert pod["status"]["qosClass"] == "BestEffort"
    assert space.logs("p", lines=3) == "line 1\nline 2\nline 3\n"
    assert space.logs("p", "--tail=1") == "line 3\n"
    answer = space.kubectl.attempt("exec", "p", "-n", space.name, "--", "true")
    assert answer.returncode != 0


def test_environment(space: Any) -> None:
    """value, $(VAR), fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef, envFrom."""
    space.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"key": "from-map", "ALL": "all"}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s"},
            "data": {"token": base64.b64encode(b"hush").decode()},
        },
    )
    env = [
        {"name": "PLAIN", "value": "v"},
        {"name": "NESTED", "value": "$(PLAIN)-$$(PLAIN)-$(UNKNOWN)"},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "key"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": True}}},
    ]
    script = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))"
    container = {
        "command": ["python3", "-c", script],
        "args": ["$(MAP)", "$$(MAP)"],
        "env": env,
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}],
        "resources": {"limits": {"cpu": "1500m"}},
    }
    space.run("p", container, restartPolicy="Never", labels={"app": "chat"})
    pod = space.until("p", lambda p: p["status"]["phase"] == "Succeeded")
    seen, arguments = json.loads(space.logs("p"))
    expected = {
        "PLAIN": "v", "NESTED": "v-$(PLAIN)-$(UNKNOWN)", "POD_IP": pod["status"]["podIP"], "APP": "chat",
        "NODE": pod["spec"]["nodeName"], "CPU": "1500", "MAP": "from-map", "SECRET": "hush", "P_ALL": "all",
        "FROM_SANDBOX": "yes", "PLIMSOLL_BIND_ADDRESS": pod["status"]["podIP"], "NVIDIA_VISIBLE_DEVICES": "void",
    }  # fmt: skip
    assert {name: seen.get(name) for name in expected} == expected
    assert "ABSENT" not in seen
    assert arguments == ["from-map", "$(MAP)"]
    assert main_status(pod)["state"]["terminated"]["reason"] == "Completed"


def test_a_missing_reference_is_waited_for(space: Any) -> None:
    """CreateContainerConfigError until the ConfigMap is there."""
    space.run("p", shell("exec sleep 600", envFrom=[{"configMapRef": {"name": "late"}}]))
    waiting = space.until("p", lambda p: main_status(p).get("state", {}).get("waiting", {}).get("message"))
    assert main_status(waiting)["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    assert 'configMap "late" not found' in main_status(waiting)["state"]["waiting"]["message"]
    space.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}})
    space.until("p", ready)


def test_init_containers_run_in_order_before_the_others(space: Any) -> None:
    """The second init container sees what the first wrote into a shared emptyDir, then the main one runs."""
    mount = [{"name": "d", "mountPath": "/scratch"}]
    space.run(
        "p",
        shell("cat /scratch/log; exec sleep 600", volumeMounts=mount),
        initContainers=[
            shell("echo first > /scratch/log", name="one", volumeMounts=mount),
            shell("echo second >> /scratch/log", name="two", volumeMounts=mount),
        ],
        volumes=[{"name": "d", "emptyDir": {}}],
    )
    pod = space.until("p", ready)
    assert space.logs("p", "-c", "main", lines=2) == "first\nsecond\n"
    assert condition(pod, "Initialized") == "True"
    reasons = [s["state"]["terminated"]["reason"] for s in pod["status"]["initContainerStatuses"]]
    assert reasons == ["Completed", "Completed"]


def test_a_failing_init_container_fails_a_pod_that_never_restarts(space: Any) -> None:
    """Nothing after it is started."""
    space.run("p", shell("echo no"), restartPolicy="Never", initContainers=[shell("echo why >&2; exit 3", name="init")])
    pod = space.until("p", lambda p: p["status"]["phase"] == "Failed")
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert "terminated" not in main_status(pod)["state"]


def test_restart_back_off(space: Any) -> None:
    """A crashing container is restarted with CrashLoopBackOff, its last state and its last words kept."""
    script = "echo dying words; exit 7"
    space.run("p", shell(script, terminationMessagePolicy="FallbackToLogsOnError"))
    pod = space.until("p", lambda p: main_status(p).get("restartCount", 0) >= 2)
    assert pod["status"]["phase"] == "Running"
    last = main_status(pod)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (7, "Error", "dying words\n")
    waiting = space.until("p", lambda p: main_status(p)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
    assert not ready(waiting)
    assert space.logs("p", "--previous") == "dying words\n"
    space.until_events("p", {"BackOff"})


def test_restart_policies(space: Any) -> None:
    """Never: Failed at once. OnFailure: tried again until it succeeds."""
    space.run("never", shell("echo x > /dev/termination-log; exit 2"), restartPolicy="Never")
    mount = [{"name": "d", "mountPath": "/mnt/d"}]
    script = "test -e /mnt/d/seen || { touch /mnt/d/seen; exit 1; }"
    volumes = [{"name": "d", "emptyDir": {}}]
    space.run("failure", shell(script, volumeMounts=mount), restartPolicy="OnFailure", volumes=volumes)
    never = space.until("never", lambda p: p["status"]["phase"] == "Failed")
    assert main_status(never)["state"]["terminated"]["message"] == "x\n"
    failure = space.until("failure", lambda p: p["status"]["phase"] == "Succeeded")
    assert main_status(failure)["restartCount"] == 1


def test_probes(space: Any) -> None:
    """Startup holds the others back, readiness comes and goes, liveness restarts."""
    mount = [{"name": "d", "mountPath": "/mnt/d"}]
    # A command that takes more than the usual second must not count as a failure.
    probe = {"periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": 1}
    space.run(
        "p",
        shell(
            "exec sleep 600",
            volumeMounts=mount,
            startupProbe={**probe, "exec": {"command": ["true"]}},
            readinessProbe={**probe, "exec": {"command": ["sh", "-c", "test ! -e /mnt/d/busy"]}},
            livenessProbe={**probe, "exec": {"command": ["sh", "-c", "test ! -e /mnt/d/dead"]}},
        ),
        terminationGracePeriodSeconds=1,
        volumes=[{"name": "d", "emptyDir": {}}],
    )
    pod = space.until("p", ready)
    folder = space.agent.state / "pods" / pod["metadata"]["uid"] / "volumes" / "d"
    (folder / "busy").touch()
    space.until("p", lambda p: not ready(p))
    (folder / "busy").unlink()
    space.until("p", ready)
    (folder / "dead").touch()
    # Or more: until the file is gone, every run is ended.
    space.until("p", lambda p: main_status(p)["restartCount"] >= 1)
    (folder / "dead").unlink()
    space.until("p", ready)
    space.until_events("p", {"Unhealthy", "Killing"})


def test_http_and_tcp_probes_reach_the_pod_address(space: Any) -> None:
    """A named port and a numeric one; not ready before the server answers."""
    server = (
        "import http.server as h, os; address = (os.environ['PLIMSOLL_BIND_ADDRESS'], 8000); "
        "h.HTTPServer(address, h.SimpleHTTPRequestHandler).serve_forever()"
    )
    space.run(
        "p",
        {
            "command": ["python3", "-c", server],
            "ports": [{"name": "http", "containerPort": 8000}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
            # At startup, because a Ready pod has passed it: the first liveness probe may come after the test.
            "startupProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1, "failureThreshold": 60},
        },
    )
    pod = space.until("p", ready)
    assert main_status(pod)["restartCount"] == 0


def test_deletion_runs_prestop_then_terminates(space: Any) -> None:
    """preStop, SIGTERM, end: observed in this order by the container itself."""
    trap = "trap 'echo term >> /mnt/d/log; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    mount = [{"name": "d", "mountPath": "/mnt/d"}]
    space.run(
        "p",
        shell(
            trap,
            volumeMounts=mount,
            lifecycle={"preStop": {"exec": {"command": ["sh", "-c", "echo prestop >> /mnt/d/log"]}}},
        ),
        volumes=[
            {"name": "d", "hostPath": {"path": str(space.agent.directory / space.name), "type": "DirectoryOrCreate"}}
        ],
        terminationGracePeriodSeconds=600,  # longer than anybody waits here: its own end ends it
    )
    space.until("p", ready)
    space.logs("p", lines=1)  # the trap is set
    space.kubectl("delete", "pod", "p", "-n", space.name, "--wait=false")
    space.until_gone("p")
    assert (space.agent.directory / space.name / "log").read_text() == "prestop\nterm\n"


def test_a_container_that_ignores_sigterm_is_killed_after_its_grace_period(space: Any) -> None:
    """SIGKILL after the grace period, not before; one whose period is longer goes on."""
    for name, seconds in (("long", 600), ("p", 2)):
        script = "trap '' TERM; echo up; while :; do sleep 0.1; done"
        space.run(name, shell(script), terminationGracePeriodSeconds=seconds)
        space.until(name, ready)
        space.logs(name, lines=1)  # the trap is set
    space.kubectl("delete", "pod", "long", "-n", space.name, "--wait=false")
    began = time.monotonic()
    space.kubectl("delete", "pod", "p", "-n", space.name, "--wait=false")
    space.until_gone("p")
    assert time.monotonic() - began >= 2
    long = space.pod("long")
    assert "deletionTimestamp" in long["metadata"]
    assert long["status"]["phase"] == "Running"


def test_the_whole_process_group_is_ended(space: Any) -> None:
    """Children of the container, also one that left its session, go with it."""
    marker = f"6{int(space.name[-6:], 16)}"  # seconds that no other process sleeps
    space.run(
        "p", shell(f"sleep {marker} & setsid sleep {marker} & exec sleep {marker}"), terminationGracePeriodSeconds=1
    )
    space.until("p", ready)

    def sleeping() -> str:
        found = subprocess.run(["pgrep", "-fc", f"^sleep {marker}"], capture_output=True, text=True, check=False)
        return found.stdout.strip()

    deadline = time.monotonic() + 60
    while sleeping() != "3":  # the shell runs, and has yet to start them
        assert time.monotonic() < deadline
        time.sleep(0.05)
    space.kubectl("delete", "pod", "p", "-n", space.name, "--wait=false")
    space.until_gone("p")
    assert sleeping() == "0"


def test_gpus_are_exclusive(space: Any) -> None:
    """Two pods on one node see disjoint indices and the product; the third waits for the scheduler."""
    script = "echo $NVIDIA_VISIBLE_DEVICES $PLIMSOLL_GPU_PRODUCT; exec sleep 600"
    # The third is asked for once the others run, and has been looked at: the scheduler keeps no order of its own.
    for name, settled in (("a", ready), ("b", ready), ("c", lambda p: condition(p, "PodScheduled") == "False")):
        space.run(
            name,
            shell(script, resources={"limits": {"nvidia.com/gpu": "2"}}),
            nodeSelector={"kubernetes.io/hostname": "gpu-0"},
            terminationGracePeriodSeconds=0,
        )
        space.until(name, settled)
    seen = [space.logs(name, lines=1).split() for name in ("a", "b")]
    assert {product for _, product in seen} == {"NVIDIA-H100-80GB-HBM3"}
    assert sorted(index for indices, _ in seen for index in indices.split(",")) == ["0", "1", "2", "3"]
    assert space.pod("c")["status"]["phase"] == "Pending"
    space.kubectl("delete", "pod", "a", "-n", space.name)
    space.until("c", ready)
    assert space.logs("c", lines=1).split()[0] == seen[0][0]


def test_an_unknown_image_is_not_found(space: Any) -> None:
    """ErrImagePull, then ImagePullBackOff, with an event that names what is known."""
    space.run("p", shell("true", image="example.org/unknown:1"))
    pod = space.until(
        "p", lambda p: main_status(p).get("state", {}).get("waiting", {}).get("reason") == "ImagePullBackOff"
    )
    assert "no local program stands in for image" in main_status(pod)["state"]["waiting"]["message"]
    assert pod["status"]["phase"] == "Pending"


def test_what_is_not_supported_is_refused(space: Any) -> None:
    """Failed with every reason named, and nothing of the pod runs."""
    space.run("p", shell("echo ran", livenessProbe={"grpc": {"port": 1}}), hostNetwork=True)
    pod = space.until("p", lambda p: p["status"]["phase"] == "Failed")
    assert pod["status"]["reason"] == "UnsupportedBySandbox"
    assert "spec.hostNetwork" in pod["status"]["message"]
    assert "livenessProbe.grpc" in pod["status"]["message"]


def test_volumes(space: Any) -> None:
    """ConfigMap, Secret, downward API and the service account's token as files; a claim as a folder that stays."""
    space.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a.txt": "A"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "S"}},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "weights"},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        },
    )
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    script = f"cat /c/a.txt /s/k /d/labels {token}/namespace; wc -c < {token}/token; echo kept > /w/file"
    space.run(
        "p",
        shell(
            script,
            volumeMounts=[{"name": n, "mountPath": f"/{n}"} for n in "csdw"],
        ),
        restartPolicy="Never",
        labels={"app": "x"},
        automountServiceAccountToken=True,
        volumes=[
            {"name": "c", "configMap": {"name": "c"}},
            {"name": "s", "secret": {"secretName": "s"}},
            {"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "w", "persistentVolumeClaim": {"claimName": "weights"}},
        ],
    )
    space.until("p", lambda p: p["status"]["phase"] == "Succeeded")
    output = space.logs("p")
    assert output.startswith(f'ASapp="x"{space.name}')
    assert int(output.splitlines()[0].removeprefix(f'ASapp="x"{space.name}')) > 500
    space.run(
        "q",
        shell("cat /w/file", volumeMounts=[{"name": "w", "mountPath": "/w"}]),
        restartPolicy="Never",
        volumes=[{"name": "w", "persistentVolumeClaim": {"claimName": "weights"}}],
    )
    space.until("q", lambda p: p["status"]["phase"] == "Succeeded")
    assert space.logs("q") == "kept\n"
