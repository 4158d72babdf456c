"""How a real node is set up: its containerd and its kubelet, for a machine without systemd, CNI and some rights."""

from pathlib import Path

import yaml

from tests.testbed.certs import Authority, KeyPair

PAUSE_IMAGE = "localhost/pause:1"
PRINTER_IMAGE = "localhost/printer:1"

# What the kubelet does with logs: quick, so that a test sees several rotations. The defaults are 10Mi, 5 and 10s.
LOG_BYTES = 1 << 20
LOG_FILES = 3
LOG_SECONDS = 3


def containerd_config(folder: Path) -> str:
    """Return containerd's config.toml (version 3) for a node that keeps everything in one folder."""
    # A container's files are copies (native): an overlay cannot lie on an overlay, which a CI job's disk may be.
    # Without CAP_SYS_RESOURCE nobody may lower an oom_score_adj: runc would fail.
    return f"""
version = 3
root = "{folder}/containerd"
state = "{folder}/containerd-state"

[grpc]
address = "{folder}/containerd.sock"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
conf_dir = "{folder}/no-cni"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{folder}/runc"
"""


def kubelet_config(
    folder: Path, address: str, port: int, cgroup: str, authority: Authority, serving: KeyPair
) -> str:
    """Return a KubeletConfiguration: quick log rotation, short back-off, no guard that needs more of the machine."""
    never = {
        f"{signal}.{what}": "0%" for signal in ("nodefs", "imagefs") for what in ("available", "inodesFree")
    }
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "port": port,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "tlsCertFile": str(serving.public),
        "tlsPrivateKeyFile": str(serving.key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(authority.certificate)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "podLogsDir": str(folder / "pods"),
        "volumePluginDir": str(folder / "volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "evictionHard": {"memory.available": "0%", **never},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "resolvConf": "",
        "oomScoreAdj": 0,
        "containerLogMaxSize": f"{LOG_BYTES >> 20}Mi",
        "containerLogMaxFiles": LOG_FILES,
        "containerLogMonitorInterval": f"{LOG_SECONDS}s",
        # The ceiling is 5 min by default: a crash loop in a test has several instances within seconds.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
    }
    return yaml.safe_dump(config, sort_keys=False)
