from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamer.config import ConfigError, Settings, load

Write = Callable[[str], Path]
GIVEN = {"FALCO_STREAMER__CLUSTER": "prod", "FALCO_STREAMER__KAFKA__BOOTSTRAP_SERVERS": "kafka:9092"}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "streamer.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def told(error: pytest.ExceptionInfo[ConfigError]) -> list[str]:
    return [problem.message for problem in error.value.problems]


def test_nothing_is_needed_but_what_is_required() -> None:
    assert load(None, environ=GIVEN) == Settings(cluster="prod", kafka={"bootstrap_servers": ["kafka:9092"]})  # type: ignore[arg-type]
    assert load(None, environ={}, require=()) == Settings()
    with pytest.raises(ConfigError) as caught:
        load(None, environ={})
    assert told(caught) == ["missing key `cluster`", "missing key `kafka.bootstrap_servers`"]


def test_required_keys_are_chosen_by_the_caller() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, ["kafka.bootstrap_servers=[]"], {}, require=("kafka.bootstrap_servers",))
    assert told(caught) == ["missing key `kafka.bootstrap_servers`"]


def test_flags_win_over_variables_over_the_file_over_defaults(write: Write) -> None:
    path = write(
        "cluster: file\nkafka: {bootstrap_servers: [f:1], shards: 2, client_id: file}\nlog: {level: error}\n"
    )
    environ = {"FALCO_STREAMER__KAFKA__SHARDS": "3", "FALCO_STREAMER__CLUSTER": "variable"}
    settings = load(path, ["kafka.shards=4", "kafka.shards=5"], environ)
    assert settings.kafka.shards == 5
    assert settings.cluster == "variable"
    assert settings.kafka.client_id == "file"
    assert settings.kafka.delivery == "exactly_once"


def test_a_section_given_as_a_whole_is_merged_and_a_list_is_replaced(write: Write) -> None:
    path = write("kafka: {shards: 2, commit: {max_lines: 7}}\nkubernetes: {namespaces: [a, b]}\n")
    flags = ["kafka={commit: {interval_seconds: 1}}", "kubernetes.namespaces=[c]"]
    settings = load(path, flags, {}, require=())
    assert settings.kafka.shards == 2
    assert settings.kafka.commit.max_lines == 7
    assert settings.kafka.commit.interval_seconds == 1
    assert settings.kubernetes.namespaces == ("c",)


def test_the_variable_of_a_section_comes_before_those_of_its_keys() -> None:
    environ = {"FALCO_STREAMER__LOG__LEVEL": "debug", "FALCO_STREAMER__LOG": "{level: error, format: json}"}
    log = load(None, environ=environ, require=()).log
    assert (log.level, log.format) == ("debug", "json")


def test_what_kubernetes_injects_for_a_service_disturbs_nothing() -> None:
    injected = {
        "FALCO_STREAMER_PORT": "tcp://10.0.0.1:8080",
        "FALCO_STREAMER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "FALCO_STREAMER_PORT_8080_TCP_ADDR": "10.0.0.1",
        "FALCO_STREAMER_SERVICE_HOST": "10.0.0.1",
        "FALCO_STREAMER_SERVICE_PORT_HTTP": "8080",
    }
    assert load(None, environ=injected, require=()) == Settings()


def test_dotted_names_of_topic_settings_can_be_given_everywhere(write: Write) -> None:
    environ = {"FALCO_STREAMER__TOPICS__CONFIG__ALERTS__RETENTION_MS": "1"}
    flags = ["topics.config.state.min.insync.replicas=2"]
    path = write("topics: {config: {health: {retention.ms: null, segment.ms: 3}, overflow: }}\n")
    config = load(path, flags, environ, require=()).topics.config
    assert config.alerts == {"cleanup.policy": "delete", "retention.ms": "1"}
    assert config.health == {"cleanup.policy": "delete", "segment.ms": "3"}
    assert config.overflow == {"cleanup.policy": "delete", "retention.ms": "604800000"}
    assert config.state["min.insync.replicas"] == "2"
    assert config.state["cleanup.policy"] == "compact"


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("kafka:9092", ("kafka:9092",)),
        ("a:1, b:2", ("a:1", "b:2")),
        ("[a:1, '[::1]:2']", ("a:1", "[::1]:2")),
        ("[::1]:9092", ("[::1]:9092",)),
        ("[::1]:1, [fe80::2]:2", ("[::1]:1", "[fe80::2]:2")),
        ("kafka:9092,[2001:db8::1]:9092", ("kafka:9092", "[2001:db8::1]:9092")),
        ("[[::1]:9092]", ("[::1]:9092",)),
        ("[ [::1]:1 , [::ffff:10.0.0.1]:2,a:3 ]", ("[::1]:1", "[::ffff:10.0.0.1]:2", "a:3")),
        ("- [::1]:1\n- b:2\n- [::]:3", ("[::1]:1", "b:2", "[::]:3")),
    ],
)
@pytest.mark.parametrize("way", ["flag", "variable", "file", "variable in a file"])
def test_servers_are_a_list_or_text_with_commas(
    text: str, servers: tuple[str, ...], way: str, write: Write
) -> None:
    flags, environ, path = ["cluster=x"], {}, None
    if way == "flag":
        flags.append(f"kafka.bootstrap_servers={text}")
    elif way == "variable":
        environ["FALCO_STREAMER__KAFKA__BOOTSTRAP_SERVERS"] = text
    elif way == "file":
        shown = text.replace("\n", "\n    ")
        path = write(f"kafka:\n  bootstrap_servers:\n    {shown}  # of the other cluster\n  client_id: x\n")
    else:
        # A variable's text never becomes a list: it has commas.
        text = ",".join(servers)
        environ["BROKERS"] = text
        path = write("kafka: {bootstrap_servers: '${BROKERS}'}\n")
    assert load(path, flags, environ).kafka.bootstrap_servers == servers


@pytest.mark.parametrize(
    "text",
    [
        "[::1]",
        "[::1]:",
        "[::1]:a",
        "[::1]9092",
        "[::1]:9092x",
        "[a, b]:9092",
        f"{'a' * 64}:1",
        f"b.{'a' * 64}.c:1",
    ],
)
def test_what_is_no_address_is_an_error_as_before(text: str) -> None:
    with pytest.raises(ConfigError):
        load(None, ["cluster=x", f"kafka.bootstrap_servers={text}"], {})


def test_the_place_of_an_address_is_that_of_its_bracket(write: Write) -> None:
    path = write("cluster: x\nkafka: {bootstrap_servers: [a:1, [::1]:99999]}\n")
    with pytest.raises(ConfigError, match=r"streamer\.yaml:2:34(.|\n)*\^{11} expected a broker's address"):
        load(path, [], {})


def test_a_selector_keeps_its_commas() -> None:
    settings = load(None, ["kubernetes.selectors=app=falco,tier in (a, b)"], {}, require=())
    assert settings.kubernetes.selectors == ("app=falco,tier in (a, b)",)


@pytest.mark.parametrize("text", ["123", "0123", "1_000", "1.50", "no", "true", "2024-01-01", "1e3", "0x1f"])
def test_text_stays_as_it_is_written(text: str, write: Write) -> None:
    assert load(write(f"kafka: {{client_id: {text}}}"), environ={}, require=()).kafka.client_id == text


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "kafka:\nlog:\n", "{}"])
def test_empty_files_and_sections_are_defaults(text: str, write: Write) -> None:
    assert load(write(text), environ={}, require=()) == Settings()


def test_a_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "streamer.yaml"
    path.write_bytes("\ufeffcluster: x\r\nhttp:\r\n  port: many\r\n".encode())
    with pytest.raises(ConfigError) as caught:
        load(path, environ={}, require=())
    assert f"{path}:3:9" in str(caught.value)
    assert "3 |   port: many\n" in str(caught.value)


def test_files_that_cannot_be_read_are_told_in_one_line(tmp_path: Path) -> None:
    def told_of(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load(path, environ={})
        return str(caught.value)

    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"cluster: \xe9\n")
    absent = tmp_path / "absent.yaml"
    prefix = "error: cannot read the configuration"
    assert told_of(absent) == f"{prefix} {absent}\n   = no such file or directory"
    assert told_of(tmp_path) == f"{prefix} {tmp_path}\n   = is a directory"
    assert told_of(latin) == f"{prefix} {latin}\n   = it is not UTF-8 text (byte 10)"
    assert told_of(Path("a\0b")).startswith(f"{prefix} a\\x00b\n")


def test_a_file_nested_without_end_is_an_error(write: Write) -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        load(write("[" * 100_000), environ={})


def test_variables_are_filled_in(write: Write) -> None:
    path = write(
        "cluster: ${CLUSTER}-${REGION:-eu}\nkubernetes:\n  context: ${CONTEXT:-}\n  namespaces: ['${NS:-a}', b]\n"
        "kafka:\n  shards: ${SHARDS}\n  client_id: ${EMPTY:-x}\nroutes:\n"
        "- {match: ['rule = \"$${A} costs $5 ${R:-}\"'], topic: '<prefix>.${T:-t}'}\n"
    )
    settings = load(path, environ={"CLUSTER": "c", "SHARDS": "3", "EMPTY": ""}, require=())
    assert settings.cluster == "c-eu"
    assert settings.kubernetes.context is None
    assert settings.kubernetes.namespaces == ("a", "b")
    assert settings.kafka.shards == 3
    assert settings.kafka.client_id == "x"
    assert settings.routes[0].match == ('rule = "${A} costs $5 "',)
    assert settings.topic_names.routes == ("falco.t",)


@pytest.mark.parametrize(
    "value", ["x, start: now}", "a\nkafka: {shards: 1}", "[a, b]", "{a: b}", "${HOME}", "null", "*a", '"']
)
def test_a_variable_cannot_bring_structure(value: str, write: Write) -> None:
    path = write("kubernetes:\n  context: ${V}\nrecords: {annotate: true}\n")
    settings = load(path, environ={"V": value, "HOME": "/"}, require=())
    expected: dict[str, Any] = {"kubernetes": {"context": value}, "records": {"annotate": True}}
    assert settings == Settings.model_validate(expected)


def test_a_password_is_taken_as_it_is_from_variables_and_flags() -> None:
    awkward = "[{*#: ${x} 'a"
    name = "FALCO_STREAMER__KAFKA__SECURITY__SASL__PASSWORD"
    flags = ["kafka.security.protocol=sasl_ssl", "kafka.security.sasl.username=me"]
    for more, environ in (([], {name: awkward}), ([f"kafka.security.sasl.password={awkward}"], {})):
        settings = load(None, [*flags, *more], environ, require=())
        assert settings.kafka.security.sasl.secret.read() == awkward


def test_faults_of_file_variables_and_flags_are_told_together(write: Write) -> None:
    path = write("kafka: {shards: x}\nlog: {level: loud}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, ["http.port=x"], {"FALCO_STREAMER__SHUTDOWN__GRACE_SECONDS": "x"})
    assert len(caught.value.problems) == 6


def test_a_tilde_is_the_home_of_whoever_runs_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    path = write("kubernetes: {kubeconfig: ~/.kube/config}\n")
    flags = ["kafka.security.protocol=ssl", "kafka.security.ca_file=~/ca.pem"]
    settings = load(path, flags, {}, require=())
    assert settings.kubernetes.kubeconfig == Path("/home/me/.kube/config")
    assert settings.kafka.security.ca_file == Path("/home/me/ca.pem")
