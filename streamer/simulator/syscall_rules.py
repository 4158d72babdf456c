"""Rules on system calls: stock ones under their real names, and a few of a site's own.

No stock rule is an Emergency or an Alert, so the site's own are.
"""

from __future__ import annotations

from streamer.simulator.rules import Act, Rule

PROCESS_FIELDS = (
    "evt.type",
    "user.name",
    "user.uid",
    "user.loginuid",
    "proc.name",
    "proc.exepath",
    "proc.pname",
    "proc.cmdline",
    "proc.tty",
)
FILE = ("fd.name", *PROCESS_FIELDS)
CONNECTION = ("fd.name", "fd.lport", "fd.rport", "fd.type", "fd.l4proto", *PROCESS_FIELDS)
EXEC = (*PROCESS_FIELDS, "evt.arg.flags")
ANCESTORS = ("proc.aname[2]", "proc.aname[3]", "proc.aname[4]")
BINARY = (
    "proc.exe",
    "proc.sname",
    "proc.aname[2]",
    "proc.exe_ino.ctime",
    "proc.exe_ino.mtime",
    "proc.exe_ino.ctime_duration_proc_start",
    "proc.cwd",
    "container.start_ts",
)


def _tags(*tags: str, maturity: str = "stable") -> tuple[str, ...]:
    """The tags in the order in which Falco prints them: sorted."""
    return tuple(sorted({*tags, "container", f"maturity_{maturity}"}))


_SERVICE = "10.42.3.17:{port}->10.96.0.1:443"
_PYTHON = "/usr/local/bin/python3.12"
_JAVA = "/opt/java/openjdk/bin/java"
_LONG_JAVA = (
    "java -Xms512m -Xmx2048m -XX:+UseG1GC -Dlog4j2.formatMsgNoLookups=true -Dfile.encoding=UTF-8 -cp "
    + ":".join(f"/app/lib/spring-module-{n}-6.2.1.jar" for n in range(24))
    + " com.example.Application --spring.profiles.active=prod"
)


def _environment(settings: int) -> str:
    """About a hundred bytes a setting; Falco prints it twice."""
    return " ".join(
        f"APP_SETTING_{n}=postgresql://svc-{n}:***@db-{n}.prod.svc.cluster.local/{'x' * 40}"
        for n in range(settings)
    )


SYSCALL_RULES = (
    Rule(
        "Contact K8S API Server From Container",
        "Notice",
        "A container that is not known for it has connected to the Kubernetes API",
        CONNECTION,
        _tags("network", "k8s", "mitre_discovery", "T1565"),
        (
            Act(
                "kube-state-metrics --port=8080 --telemetry-port=8081",
                "/kube-state-metrics",
                "systemd",
                _SERVICE,
                workload="kube-state-metrics",
            ),
            Act(
                "argocd-application-controller --status-processors 20",
                "/usr/local/bin/argocd",
                "tini",
                _SERVICE,
                workload="argocd-application-controller",
            ),
            Act("python3 -m kopf run /srv/operator.py --all-namespaces", _PYTHON, "sh", _SERVICE),
            Act(
                "fluent-bit -c /fluent-bit/etc/conf/fluent-bit.conf",
                "/fluent-bit/bin/fluent-bit",
                "systemd",
                _SERVICE,
                workload="fluent-bit",
            ),
            Act(_LONG_JAVA, _JAVA, "sh", _SERVICE, workload="ledger-api"),
        ),
        event="connect",
        weight=6,
    ),
    Rule(
        "Run shell untrusted",
        "Notice",
        "A shell was started by a program that does not usually start one",
        ("proc.pexe", "proc.pexepath", "proc.pcmdline", *ANCESTORS, "proc.aname[5]", "proc.aname[6]", *EXEC),
        _tags("host", "process", "shell", "mitre_execution", "T1059.004"),
        (
            Act('sh -c "redis-cli ping | grep -q PONG"', "/bin/sh", "redis-server", workload="cart-redis"),
            Act(
                "sh -c curl -sf http://127.0.0.1:8080/health?probe={number}",
                "/bin/dash",
                "java",
                workload="checkout",
            ),
            Act(
                'bash -c \'set -o pipefail; pg_isready -h "$PGHOST" | awk "{print $3}"\'',
                "/bin/bash",
                "postgres",
                workload="catalogue-postgres",
            ),
            Act(
                'sh -c printf "%s\\t%s\\n" "größe" "Übersicht" >> /tmp/bericht-{temp}.txt', "/bin/sh", "httpd"
            ),
        ),
        weight=4,
    ),
    Rule(
        "Terminal shell in container",
        "Notice",
        "A shell with a terminal was started in a container",
        EXEC,
        _tags("shell", "mitre_execution", "T1059"),
        (
            Act("bash", "/bin/bash", "runc", tty=34816),
            Act("sh -il", "/bin/busybox", "runc", tty=34817),
            Act('bash -c "clear; (bash || ash || sh)"', "/bin/bash", "runc", tty=34816),
        ),
        weight=2,
    ),
    Rule(
        "Read sensitive file untrusted",
        "Warning",
        "A program without trust opened a sensitive file for reading",
        (*ANCESTORS, *FILE),
        _tags("host", "filesystem", "mitre_credential_access", "T1555"),
        (
            Act("cat /etc/shadow", "/bin/cat", "bash", "/etc/shadow", 34816),
            Act("python3 /opt/scan/inventory.py --deep", _PYTHON, "cron", "/etc/pam.d/common-auth"),
            Act("node_exporter --path.rootfs=/host", "/bin/node_exporter", "systemd", "/etc/sudoers"),
        ),
        event="openat",
        weight=3,
    ),
    Rule(
        "Drop and execute new binary in container",
        "Critical",
        "An executable that is not part of the image was run",
        (*BINARY, *EXEC),
        _tags("process", "mitre_persistence", "TA0003", "PCI_DSS_11.5.1"),
        (
            Act("x {temp}", "/var/spool/.x/{temp}", "bash"),
            Act("pip-build-env-{temp} setup.py egg_info", "/root/.cache/pip-build-env/bin/python3.12", "pip"),
            Act("kdevtmpfsi", "/dev/shm/kdevtmpfsi", "sh"),  # noqa: S108  # what miners really use
        ),
        weight=2,
    ),
    Rule(
        "Launch Package Management Process in Container",
        "Error",
        "A package manager was run in a container",
        EXEC,
        _tags("process", "software_mgmt", "mitre_persistence", "T1505", maturity="incubating"),
        (
            Act("apt-get install -y --no-install-recommends curl ca-certificates", "/usr/bin/apt-get", "sh"),
            Act("apk add --no-cache jq", "/sbin/apk", "ash"),
            Act("dpkg --configure -a --status-fd 17", "/usr/bin/dpkg", "apt-get"),
        ),
        weight=2,
    ),
    Rule(
        "Write below etc",
        "Error",
        "A file below /etc was opened for writing",
        (*ANCESTORS, "proc.pcmdline", *FILE),
        _tags("host", "filesystem", "mitre_persistence", "T1098", maturity="sandbox"),
        (
            Act(
                "consul-template -config /etc/ct.hcl",
                "/bin/consul-template",
                "sh",
                "/etc/nginx/conf.d/upstream-{temp}.conf",
            ),
            Act("useradd -m -s /bin/bash dépanneur", "/usr/sbin/useradd", "bash", "/etc/passwd+", 34816),
        ),
        event="openat",
        weight=2,
    ),
    Rule(
        "Redirect STDOUT/STDIN to Network Connection in Container",
        "Notice",
        "Standard input or output was redirected to a network connection",
        ("fd.sip", *ANCESTORS, *CONNECTION),
        _tags("network", "process", "mitre_execution", "T1059"),
        (
            Act("sh -i", "/bin/busybox", "nc", "10.42.7.9:{port}->203.0.113.66:4444"),
            Act(
                "redis-server *:6379",
                "/usr/local/bin/redis-server",
                "tini",
                "10.42.7.9:6379->10.42.1.4:{port}",
                workload="cart-redis",
            ),
        ),
        event="dup2",
        weight=2,
    ),
    Rule(
        "Packet socket created in container",
        "Notice",
        "A packet socket was made in a container",
        ("evt.args", *CONNECTION),
        _tags("network", "mitre_credential_access", "T1557.002"),
        (
            Act("dhcpcd -B -q eth0", "/sbin/dhcpcd", "init"),
            Act("speaker --port=7472 --log-level=info", "/speaker", "systemd", workload="speaker"),
        ),
        event="socket",
    ),
    Rule(
        "Search Private Keys or Passwords",
        "Warning",
        "A search for private keys or passwords was run",
        EXEC,
        _tags("host", "process", "filesystem", "mitre_credential_access", "T1552.001"),
        (
            Act('find / -name "id_rsa*" -not -path "/proc/*"', "/usr/bin/find", "bash", tty=34816),
            Act("grep -rn 'BEGIN RSA PRIVATE' /home /root\t/srv", "/bin/grep", "sh"),
        ),
    ),
    Rule(
        "Clear Log Activities",
        "Warning",
        "A log file was emptied",
        FILE,
        _tags("host", "filesystem", "mitre_defense_evasion", "T1070", "NIST_800-53_AU-10"),
        (
            Act(
                "fluentd -c /fluentd/etc/fluent.conf",
                "/usr/bin/ruby",
                "tini",
                "/var/log/containers/app-{temp}.log",
            ),
            Act("truncate -s 0 /var/log/wtmp", "/usr/bin/truncate", "bash", "/var/log/wtmp", 34816),
        ),
        event="openat",
    ),
    Rule(
        "System user interactive",
        "Informational",
        "A system user ran a command at a terminal",
        EXEC,
        _tags("host", "users", "mitre_execution", "T1059", "NIST_800-53_AC-2"),
        (Act("sh -c id", "/bin/sh", "login", tty=1025), Act("whoami", "/usr/bin/whoami", "su", tty=34818)),
    ),
    Rule(
        "Fileless execution via memfd_create",
        "Critical",
        "A program was run out of memory",
        ("container.start_ts", "proc.cwd", "evt.res", "proc.sname", "proc.aname[2]", *EXEC),
        _tags("host", "process", "mitre_defense_evasion", "T1620"),
        (Act("[kworker/0:{number}]", "memfd:runc_cloned:/proc/self/exe", "sh"),),
    ),
    Rule(
        "Program run with disallowed http proxy env",
        "Notice",
        "A program was run with a proxy that is not allowed",
        ("proc.env", *EXEC),
        _tags("host", "users", "mitre_execution", "T1204", maturity="incubating"),
        (
            *(
                Act(
                    "curl -fsSL https://mirror.example.com/größe/ファイル.tar.gz -o /srv/{temp}",
                    "/usr/bin/curl",
                    "bash",
                    extra={"proc.env": _environment(settings)},
                )
                for settings in (8, 16, 20, 24, 96)
            ),
        ),
        weight=0.9,
    ),
    Rule(
        "Decoding Payload in Container",
        "Informational",
        "An encoded payload was decoded in a container",
        EXEC,
        _tags("process", "mitre_command_and_control", "T1132", maturity="sandbox"),
        (Act(f"base64 -d {'TVqQAAMAAAAEAAAA' * 60}{{temp}}", "/usr/bin/base64", "bash"),),
    ),
    Rule(
        "File integrity: boot or kernel file changed",
        "Emergency",
        "File integrity: a boot or kernel file was written",
        (*FILE, "proc.is_exe_upper_layer"),
        ("file_integrity", "site"),
        (Act("dd if=/dev/zero of=/boot/vmlinuz bs=1M", "/usr/bin/dd", "bash", "/boot/vmlinuz", 34816),),
        event="openat",
        weight=0.3,
    ),
    Rule(
        "File integrity: identity database changed",
        "Alert",
        "File integrity: an identity database was written",
        (*FILE, "proc.is_exe_upper_layer", "proc.fdusage"),
        ("file_integrity", "site"),
        (
            Act("usermod -aG sudo svc-backup", "/usr/sbin/usermod", "bash", "/etc/group", 34816),
            Act("vi /etc/shadow", "/usr/bin/vi", "sudo", "/etc/.shadow.sw{temp}", 34816),
        ),
        event="openat",
        weight=0.5,
    ),
)
