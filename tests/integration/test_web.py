"""The web server as real clients meet it: TLS, certificates, passwords, and a real Prometheus that
takes native histograms from it."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import bcrypt
import pytest

from pinchpoint.errors import ConfigError
from pinchpoint.expose import web_file
from pinchpoint.expose.http import DEFAULTS, HttpServer, serve, split_address
from pinchpoint.expose.http_connections import CONNECTIONS_MAX
from pinchpoint.expose.state import PublishedState
from pinchpoint.expose.web_config import WebConfig, read_web_config
from pinchpoint.expose.web_options import WebOptions
from pinchpoint.pipeline.buckets import FINE_SECONDS, Buckets
from pinchpoint.snapshot import AgentFacts
from tests.integration.certificates import Authority, Certificate
from tests.integration.processes import Programs, needed, programs
from tests.integration.prometheus_server import VERSIONS, Prometheus, Series, prometheus_program
from tests.integration.scraping import PAUSE_SECONDS, TIMEOUT_SECONDS
from tests.support.observations import known
from tests.support.scripts import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.integration

HOST = "IP:127.0.0.1"
PASSWORD = "correct horse"
GAP = "pinchpoint_request_message_gap_seconds"
GAPS = [0.001 * 1.01**step for step in range(700)]
TRACE = "0af7651916cd43dd8448eb211c80319c"
GUIDE = ROOT / "docs/guides/securing-the-agent.md"


@dataclass(frozen=True)
class Keys:
    """Who there is: a server, a client, and one that another authority has signed."""

    ca: Authority
    server: Certificate
    client: Certificate
    stranger: Certificate


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    directory = tmp_path_factory.mktemp("keys")
    ca, other = Authority(directory), Authority(directory, "other-ca")
    return Keys(
        ca,
        ca.sign("server", HOST),
        ca.sign("client", "DNS:prometheus.example", "IP:10.0.0.7", "IP:2001:db8::7"),
        other.sign("stranger", "DNS:prometheus.example"),
    )


@dataclass
class Web:
    """A server with a web configuration that may be rewritten."""

    server: HttpServer
    file: Path
    said: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        return split_address(self.server.address)


@contextmanager
def serving(directory: Path, text: str, options: WebOptions = DEFAULTS) -> Iterator[Web]:
    file = directory / "web.yml"
    file.write_text(text)
    said: list[str] = []
    snapshot = known().pipeline.snapshot(AgentFacts())
    state = PublishedState(snapshot, ready=True)
    server = serve("127.0.0.1:0", state, replace(options, config_file=file), say=said.append)
    try:
        yield Web(server, file, said)
    finally:
        server.close()


def tls(certificate: Certificate, *lines: str) -> str:
    inside = (f"cert_file: {certificate.cert}", f"key_file: {certificate.key}", *lines)
    return "tls_server_config:\n" + "".join(f"  {line}\n" for line in inside)


def users(**passwords: str) -> str:
    lines = (f"  {user}: {hashed(password)}\n" for user, password in passwords.items())
    return "basic_auth_users:\n" + "".join(lines)


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def trusting(keys: Keys, shown: Certificate | None = None) -> ssl.SSLContext:
    """A client that knows the authority, and may have a certificate to show."""
    context = ssl.create_default_context(cafile=keys.ca.cert)
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    return context


def ask(
    web: Web, context: ssl.SSLContext, path: str = "/-/healthy", **headers: str
) -> tuple[int, str]:
    """Status and body of one request on a connection of its own.

    Raises:
        OSError: the connection was refused, at the handshake or just after it.
    """
    host, port = web.address
    connection = http.client.HTTPSConnection(host, port, context=context, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def kept(web: Web, context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """A connection for several requests; it does not connect again by itself."""
    host, port = web.address
    connection = (
        http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        if context is None
        else http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)
    )
    connection.connect()
    connection.auto_open = 0
    return connection


def answered(connection: http.client.HTTPConnection) -> tuple[int, bool]:
    """Status of the next request of a connection, and whether it was the last."""
    connection.request("GET", "/-/healthy")
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.will_close


def refused(web: Web, context: ssl.SSLContext) -> bool:
    """Whether a client gets no answer; TLS 1.3 tells it only after its handshake."""
    try:
        ask(web, context)
    except OSError:
        return True
    return False


def serial(web: Web, context: ssl.SSLContext) -> object:
    """Which certificate the server shows."""
    with (
        socket.create_connection(web.address, timeout=TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        certificate = secured.getpeercert()
    assert certificate is not None
    return certificate["serialNumber"]


def test_everything_is_served_over_tls(tmp_path: Path, keys: Keys) -> None:
    """Checked by the client against its authority; the page tells of it."""
    with serving(tmp_path, tls(keys.server)) as web:
        assert web.server.url == f"https://{web.server.address}"
        status, body = ask(web, trusting(keys), "/metrics")
        assert status == 200
        assert "pinchpoint_bottleneck_primary_info" in body
        assert f"{web.server.url}, no authentication" in ask(web, trusting(keys), "/")[1]


def test_several_requests_share_a_connection(tmp_path: Path, keys: Keys) -> None:
    """A handshake is not made for each."""
    with serving(tmp_path, tls(keys.server)) as web:
        host, port = web.address
        connection = http.client.HTTPSConnection(host, port, context=trusting(keys))
        try:
            for _ in range(3):
                connection.request("GET", "/metrics")
                answer = connection.getresponse()
                assert answer.read()
                assert not answer.will_close
        finally:
            connection.close()


def test_clients_that_spoil_the_handshake_bother_nobody(
    tmp_path: Path, keys: Keys, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that says nothing, one that speaks nonsense, one that trusts us not."""
    with (
        serving(tmp_path, tls(keys.server)) as web,
        socket.create_connection(web.address, timeout=TIMEOUT_SECONDS),
        socket.create_connection(web.address, timeout=TIMEOUT_SECONDS) as nonsense,
    ):
        nonsense.sendall(b"\x16" * 100)
        assert refused(web, ssl.create_default_context())
        assert ask(web, trusting(keys))[0] == 200
    assert capfd.readouterr().err == ""
    assert web.said == []


def test_plain_http_is_told_to_speak_tls(tmp_path: Path, keys: Keys) -> None:
    """The usual mistake: a scrape configuration without `scheme: https`."""
    with serving(tmp_path, tls(keys.server)) as web:
        host, port = web.address
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            assert answer.status == 400
            assert answer.read() == b"only HTTPS is spoken here: write https://\n"
        finally:
            connection.close()


def test_too_many_handshakes_end_in_closed_connections(tmp_path: Path, keys: Keys) -> None:
    """A sentence would need a handshake."""
    with serving(tmp_path, tls(keys.server)) as web:
        held = [socket.create_connection(web.address) for _ in range(CONNECTIONS_MAX)]
        try:
            assert until(lambda: len(web.server._server.connections._open) == CONNECTIONS_MAX)
            assert refused(web, trusting(keys))
        finally:
            for connection in held:
                connection.close()
        assert until(lambda: not web.server._server.connections._open)
        assert ask(web, trusting(keys))[0] == 200


@pytest.mark.parametrize(
    ("version", "served"), [(ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)]
)
def test_older_versions_than_the_oldest_are_refused(
    tmp_path: Path, keys: Keys, version: ssl.TLSVersion, served: bool
) -> None:
    """`min_version`."""
    context = trusting(keys)
    context.minimum_version = context.maximum_version = version
    with serving(tmp_path, tls(keys.server, "min_version: TLS13")) as web:
        assert refused(web, context) is not served


def test_only_the_ciphers_that_are_named_are_spoken(tmp_path: Path, keys: Keys) -> None:
    """Up to TLS 1.2, by Go's names."""
    suite = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]"
    context = trusting(keys)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(tmp_path, tls(keys.server, suite)) as web:
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        assert refused(web, context)
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
        assert ask(web, context)[0] == 200


REQUIRED = "client_auth_type: RequireAndVerifyClientCert"


def test_client_certificates_are_required_and_verified(tmp_path: Path, keys: Keys) -> None:
    """None, and one of another authority, are not enough."""
    text = tls(keys.server, REQUIRED, f"client_ca_file: {keys.ca.cert}")
    with serving(tmp_path, text) as web:
        assert refused(web, trusting(keys))
        assert refused(web, trusting(keys, keys.stranger))
        assert ask(web, trusting(keys, keys.client))[0] == 200


def test_a_client_certificate_may_be_left_out_but_not_be_wrong(tmp_path: Path, keys: Keys) -> None:
    """`VerifyClientCertIfGiven`."""
    given = "client_auth_type: VerifyClientCertIfGiven"
    text = tls(keys.server, given, f"client_ca_file: {keys.ca.cert}")
    with serving(tmp_path, text) as web:
        assert ask(web, trusting(keys))[0] == 200
        assert refused(web, trusting(keys, keys.stranger))
        assert ask(web, trusting(keys, keys.client))[0] == 200


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("prometheus.example", True),
        ("10.0.0.7", True),
        ("2001:db8::7", True),
        ("example", False),
        ("client", False),
    ],
)
def test_only_clients_with_an_allowed_name_are_served(
    tmp_path: Path, keys: Keys, name: str, served: bool
) -> None:
    """Any of the certificate's alternative names, exactly; the common name is none of them."""
    sans = f'client_allowed_sans: ["other.example", "{name}"]'
    text = tls(keys.server, REQUIRED, f"client_ca_file: {keys.ca.cert}", sans)
    with serving(tmp_path, text) as web:
        assert refused(web, trusting(keys, keys.client)) is not served


def copied(certificate: Certificate, directory: Path) -> Certificate:
    """Put in place as a rotation does: a new file under the old name."""
    mine = Certificate(directory / "tls.crt", directory / "tls.key")
    for source, target in ((certificate.cert, mine.cert), (certificate.key, mine.key)):
        shutil.copy(source, directory / "new")
        (directory / "new").rename(target)
    return mine


def test_certificates_are_replaced_while_the_agent_runs(tmp_path: Path, keys: Keys) -> None:
    """New connections see the new one; those that are open get one more answer; the halves of one
    and another are said and not used."""
    text = tls(copied(keys.server, tmp_path))
    renewed = keys.ca.sign("renewed", HOST)
    with serving(tmp_path, text) as web:
        before = serial(web, trusting(keys))
        with closing(kept(web, trusting(keys))) as connection:
            assert answered(connection) == (200, False)
            shutil.copy(renewed.cert, tmp_path / "tls.crt")
            assert [serial(web, trusting(keys)) for _ in range(2)] == [before, before]
            assert answered(connection) == (200, False)
            copied(renewed, tmp_path)
            assert serial(web, trusting(keys)) != before
            assert answered(connection) == (200, True)
    (told,) = web.said
    assert "tls.crt" in told
    assert told.endswith("the web configuration stays as it was")


def test_plain_connections_end_when_tls_begins(tmp_path: Path, keys: Keys) -> None:
    """Those that are open too: nothing more is answered in the clear."""
    with serving(tmp_path, "") as web, closing(kept(web)) as connection:
        assert answered(connection) == (200, False)
        web.file.write_text(tls(keys.server))
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert (answer.status, answer.will_close) == (400, True)
        assert answer.read() == b"only HTTPS is spoken here: write https://\n"
        assert ask(web, trusting(keys))[0] == 200


def test_clients_of_an_authority_that_is_no_longer_trusted_lose_their_connection(
    tmp_path: Path, keys: Keys
) -> None:
    """After one more answer; they cannot connect again."""
    authority = tmp_path / "authority.crt"
    shutil.copy(keys.ca.cert, authority)
    client = trusting(keys, keys.client)
    with serving(tmp_path, tls(keys.server, REQUIRED, f"client_ca_file: {authority}")) as web:
        with closing(kept(web, client)) as connection:
            assert answered(connection) == (200, False)
            shutil.copy(keys.stranger.cert, authority)
            assert answered(connection) == (200, True)
        assert refused(web, client)
        assert web.said == []


@pytest.mark.parametrize(
    "gone", ["tls_server_config", "client_auth_type", "client_ca_file", "client_allowed_sans"]
)
def test_a_file_that_is_cut_opens_nothing(tmp_path: Path, keys: Keys, gone: str) -> None:
    """It is said, and clients need the same certificates as before."""
    demands = (REQUIRED, f"client_ca_file: {keys.ca.cert}", "client_allowed_sans: [10.0.0.7]")
    text = users(alice=PASSWORD) + tls(keys.server, *demands)
    nameless = keys.ca.sign("nameless", "IP:10.0.0.8")
    with serving(tmp_path, text) as web:
        web.file.write_text(text[: text.index(gone)])
        for shown in (None, keys.stranger, nameless):
            assert refused(web, trusting(keys, shown))
        client = trusting(keys, keys.client)
        assert ask(web, client, **basic("alice", PASSWORD))[0] == 200
        (told,) = web.said
        assert gone in told
        assert "restart the agent" in told


@pytest.mark.parametrize("key", ["cert_file", "key_file"])
def test_a_certificate_that_would_be_waited_for_holds_up_nobody(
    tmp_path: Path, keys: Keys, key: str
) -> None:
    """It is no file, which is said; what held goes on to hold."""
    os.mkfifo(tmp_path / "fifo")
    files = {"cert_file": keys.server.cert, "key_file": keys.server.key, key: "fifo"}
    with serving(tmp_path, "") as web, closing(kept(web)) as connection:
        lines = (f"  {name}: {file}\n" for name, file in files.items())
        web.file.write_text("tls_server_config:\n" + "".join(lines))
        for _ in range(2):
            assert answered(connection) == (200, False)
        (told,) = web.said
        assert "fifo is not a file" in told


def test_a_file_that_is_slow_holds_up_one_client_and_not_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are answered by what held before, and one too many is told so."""
    reading, read = threading.Event(), threading.Event()

    def slow(path: Path) -> WebConfig:
        reading.set()
        read.wait()
        return read_web_config(path)

    with serving(tmp_path, "") as web, ExitStack() as clients:
        held = [clients.enter_context(closing(kept(web))) for _ in range(CONNECTIONS_MAX)]
        clients.callback(read.set)
        assert {answered(connection) for connection in held} == {(200, False)}
        monkeypatch.setattr(web_file, "read_web_config", slow)
        web.file.write_text(users(alice=PASSWORD))
        held[0].request("GET", "/-/healthy")
        assert reading.wait(TIMEOUT_SECONDS)
        assert answered(held[1]) == (200, False)
        for connection in held[1:]:
            connection.sock.sendall(b"GET")
        table = web.server._server.connections
        assert until(lambda: not any(entry.idle for entry in list(table._open.values())))
        with (
            socket.create_connection(web.address, timeout=TIMEOUT_SECONDS) as client,
            http.client.HTTPResponse(client) as response,
        ):
            response.begin()
            assert response.status == 503
        read.set()
        assert held[0].getresponse().status == 401


def test_passwords_are_asked_for_and_replaced_while_the_agent_runs(
    tmp_path: Path, keys: Keys
) -> None:
    """On every address; the new ones hold from the next request on."""
    with serving(tmp_path, tls(keys.server) + users(alice=PASSWORD)) as web:
        client = trusting(keys)
        for path in ("/metrics", "/", "/-/healthy", "/nothing", "/-/reload"):
            assert ask(web, client, path)[0] == 401
        assert ask(web, client, **basic("alice", "wrong"))[0] == 401
        assert ask(web, client, **basic("alice", PASSWORD))[0] == 200
        web.file.write_text(tls(keys.server) + users(bob="new one"))
        assert ask(web, client, **basic("alice", PASSWORD))[0] == 401
        assert ask(web, client, **basic("bob", "new one"))[0] == 200


@pytest.mark.parametrize("text", ["", "basic_auth_users: {alice: oops}\n", "a: ["])
def test_a_wrong_new_file_opens_nothing(tmp_path: Path, keys: Keys, text: str) -> None:
    """One that is being written may be empty, or half there; what held goes on to hold."""
    good = tls(keys.server) + users(alice=PASSWORD)
    with serving(tmp_path, good) as web:
        client = trusting(keys)
        web.file.write_text(text)
        for _ in range(2):
            assert ask(web, client)[0] == 401
            assert ask(web, client, **basic("alice", PASSWORD))[0] == 200
        assert len(web.said) == 1
        web.file.write_text(good + "http_server_config: {headers: {X-Frame-Options: deny}}\n")
        assert ask(web, client, **basic("alice", PASSWORD))[0] == 200
        assert len(web.said) == 1


def test_the_headers_that_are_named_are_sent(tmp_path: Path) -> None:
    """With every answer, refusals included."""
    text = "http_server_config: {headers: {X-Frame-Options: deny}}\n" + users(alice=PASSWORD)
    with serving(tmp_path, text) as web:
        host, port = web.address
        for headers, status in (({}, 401), (basic("alice", PASSWORD), 200)):
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
            try:
                connection.request("GET", "/metrics", headers=headers)
                answer = connection.getresponse()
                assert (answer.status, answer.headers["X-Frame-Options"]) == (status, "deny")
            finally:
                connection.close()


@pytest.mark.parametrize("what", ["missing", "swapped", "no PEM", "locked", "no CA"])
def test_certificates_that_cannot_be_used_are_told_at_the_start(
    tmp_path: Path, keys: Keys, what: str
) -> None:
    """In one sentence that names the file; a locked key is not asked about at the terminal."""
    nonsense, locked = tmp_path / "nonsense", tmp_path / "locked"
    nonsense.write_text("nonsense")
    lock = ("ec", "-aes256", "-passout", "pass:secret", "-in", keys.server.key, "-out", locked)
    subprocess.run([needed("openssl"), *lock], check=True, capture_output=True, timeout=60)
    text = {
        "missing": tls(Certificate(tmp_path / "nowhere", keys.server.key)),
        "swapped": tls(Certificate(keys.server.cert, keys.client.key)),
        "no PEM": tls(Certificate(nonsense, keys.server.key)),
        "locked": tls(Certificate(keys.server.cert, locked)),
        "no CA": tls(keys.server, REQUIRED, f"client_ca_file: {nonsense}"),
    }[what]
    file = tmp_path / "web.yml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        serve("127.0.0.1:0", PublishedState(), WebOptions(config_file=file))
    told = str(caught.value)
    assert str(tmp_path) in told or str(keys.server.cert) in told
    assert "\n" not in told


def blocks(path: Path) -> Sequence[str]:
    """The YAML of a page."""
    return [part.split("```")[0] for part in path.read_text().split("```yaml\n")[1:]]


def guide(directory: Path, keys: Keys) -> tuple[str, str]:
    """The guide's two examples, with the files that they name."""
    for name, source in (
        ("server.crt", keys.server.cert),
        ("server.key", keys.server.key),
        ("client.crt", keys.client.cert),
        ("client.key", keys.client.key),
        ("ca.crt", keys.ca.cert),
    ):
        shutil.copy(source, directory / name)
    (directory / "password").write_text(PASSWORD)
    web, scrape = blocks(GUIDE)
    (line,) = (line for line in web.splitlines() if line.startswith("  prometheus: $2b$"))
    return web.replace(line, f"  prometheus: {hashed(PASSWORD)}"), scrape


def test_promtool_accepts_the_example(tmp_path: Path, keys: Keys) -> None:
    """Prometheus' own check of such files."""
    text, _ = guide(tmp_path, keys)
    (tmp_path / "web.yml").write_text(text)
    checked = subprocess.run(
        [needed("promtool"), "check", "web-config", tmp_path / "web.yml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_prometheus_takes_native_histograms_as_the_guide_says(
    tmp_path: Path, keys: Keys, version: str
) -> None:
    """Over TLS, with a client's certificate and a password. Its quantiles are those of the values,
    to the width of a bucket; the classic histogram could tell them only to a factor of two."""
    program = prometheus_program(version)
    text, scrape = guide(tmp_path, keys)
    options = WebOptions(native_histograms=True)
    with programs(tmp_path) as started, serving(tmp_path, text, options) as web:
        publish_gaps(web)
        prometheus = start(started, program, web, scrape)
        assert until(lambda: patient(prometheus, f"histogram_count({GAP})"))
        assert prometheus.query("up") == {(): 1.0}
        assert prometheus.query(f"histogram_count({GAP})") == {(): len(GAPS)}
        (total,) = prometheus.query(f"histogram_sum({GAP})").values()
        assert total == pytest.approx(sum(GAPS))
        for quantile in (0.05, 0.5, 0.95, 0.99):
            (found,) = prometheus.query(f"histogram_quantile({quantile}, {GAP})").values()
            assert found == pytest.approx(GAPS[int(quantile * len(GAPS))], rel=0.05)
        assert traces(prometheus) == {TRACE: GAPS[9]}
        # What has no native buckets, and what is no histogram, came by the same format.
        assert prometheus.query("sum(grpc_server_handling_seconds_bucket) > 0")
        assert prometheus.query("pinchpoint_bottleneck_primary_info") == {(): 1.0}
        assert prometheus.query("sum(grpc_server_handled_total) > 0")


@pytest.mark.parametrize("version", VERSIONS)
def test_prometheus_keeps_the_trace_ids_of_open_metrics(tmp_path: Path, version: str) -> None:
    """The format that it asks for by itself, with the classic buckets."""
    program = prometheus_program(version)
    scrape = "scrape_configs: [{job_name: a, static_configs: [{targets: [TARGET]}]}]"
    with programs(tmp_path) as started, serving(tmp_path, "") as web:
        publish_gaps(web)
        prometheus = start(started, program, web, scrape)
        assert until(lambda: patient(prometheus, f"{GAP}_count")) == {(): len(GAPS)}
        assert traces(prometheus) == {TRACE: GAPS[9]}


def publish_gaps(web: Web) -> None:
    """A histogram made by hand, beside what is published."""
    state = web.server._server._site._state
    assert state.snapshot is not None
    buckets = Buckets(FINE_SECONDS, native=True)
    for value in GAPS:
        buckets.observe(value)
    buckets.exemplify(GAPS[9], TRACE, time.time())
    state.snapshot = replace(state.snapshot, message_gap=buckets.freeze())


def start(started: Programs, program: str, web: Web, scrape: str) -> Prometheus:
    """A Prometheus that scrapes each second, by a configuration beside the server's."""
    directory = web.file.parent
    config = directory / "prometheus.yml"
    address = web.server.address
    scrape = scrape.replace("inference-0.example:10061", address).replace("TARGET", address)
    config.write_text("global: {scrape_interval: 1s, scrape_timeout: 1s}\n" + scrape)
    return Prometheus(
        started.start(
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            "--enable-feature=native-histograms,exemplar-storage",
        )
    )


def traces(prometheus: Prometheus) -> dict[str, float]:
    """Values of the exemplars that are stored, by their trace."""
    now = time.time()
    found = prometheus._get(
        "query_exemplars", query=f'{{__name__=~"{GAP}.*"}}', start=str(now - 600), end=str(now + 60)
    )
    exemplars = [exemplar for series in found for exemplar in series["exemplars"]]
    return {item["labels"]["trace_id"]: float(item["value"]) for item in exemplars}


def patient(prometheus: Prometheus, expression: str) -> Series:
    """The answer to a query, after a moment."""
    time.sleep(PAUSE_SECONDS)
    return prometheus.query(expression)
