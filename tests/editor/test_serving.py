"""The socket: on this machine alone, at the usual port or a free one."""

from __future__ import annotations

import json
import os
import signal
import urllib.request

import pytest

from robnet_zoo.editor.serving import LOOPBACK, PORT, hosts_of, listen
from robnet_zoo.errors import EditorError
from tests.editor.command import started


def test_it_listens_on_the_loopback_interface_alone():
    with listen(0) as listener:
        assert listener.getsockname()[0] == LOOPBACK == "127.0.0.1"


def test_beside_a_second_editor_a_free_port_is_taken():
    with listen() as first, listen() as second:
        ports = [listener.getsockname()[1] for listener in (first, second)]
    assert ports[1] not in (PORT, ports[0])


def test_a_port_that_was_asked_for_and_is_taken_is_an_error_of_a_line():
    with listen(0) as listener, pytest.raises(EditorError, match=r"--port: expected a free port, got \d+"):
        listen(listener.getsockname()[1])


def test_port_80_is_reached_by_an_address_without_a_port():
    assert "127.0.0.1" in hosts_of(80)
    assert "127.0.0.1:80" in hosts_of(80)
    assert hosts_of(PORT) == [f"127.0.0.1:{PORT}", f"localhost:{PORT}"]


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_not_a_port_is_refused(port):
    with pytest.raises(EditorError, match=f"from 0 to 65535, got {port}"):
        listen(port)


def test_an_editor_ends_at_once_and_quietly_while_an_attack_runs(tmp_path):
    process, address = started("--port", "0", folder=tmp_path)
    try:
        attack = {"kind": "pgd", "steps": 100_000}
        asked = {"model": "robnet_micro.digits", "pictures": "digits", "index": 0, "eps": "0", "attack": attack}
        with urllib.request.urlopen(f"{address}api/attack", json.dumps(asked).encode(), 120) as answer:
            for _ in range(5):
                answer.readline()
            os.kill(process.pid, signal.SIGINT)
            assert json.loads(answer.read().splitlines()[-1]) == {"kind": "stopped"}
        process.join(60)
        assert process.exitcode == 0
        assert "Traceback" not in (tmp_path / "errors.txt").read_text()
    finally:
        process.kill()
        process.join()
