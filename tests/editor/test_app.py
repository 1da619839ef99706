"""The server in the process of the test: who is let in, what is answered, and what bad input does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from robnet_zoo.editor.app import FILES, MAX_QUESTION, create_app
from robnet_zoo.editor.attacker import Attacker
from robnet_zoo.editor.desk import Desk, open_desk
from robnet_zoo.editor.draft import Draft, blank
from robnet_zoo.genotype.genotype import Genotype

HOST = "127.0.0.1:8421"


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "mine.json"


@pytest.fixture
def client(file) -> TestClient:
    return TestClient(app_of(open_desk(str(file))), base_url=f"http://{HOST}")


def app_of(desk: Desk) -> Starlette:
    return create_app(desk, Attacker(desk), hosts=[HOST])


def ask(client: TestClient, question: str, **body: object) -> dict:
    response = client.post(f"/api/{question}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def switch(source: int, target: int, operation: str) -> dict:
    return {"kind": "switch", "cell": "cell", "source": source, "target": target, "operation": operation}


def test_a_cell_is_made_from_nothing_and_saved(client, file):
    view = ask(client, "start")["view"]
    assert view["problems"]
    for change in (switch(0, 2, "identity"), switch(1, 2, "sep_conv_3x3"), {"kind": "add_node", "cell": "cell"}):
        view = ask(client, "edit", draft=view["document"], change=change)
    view = ask(client, "edit", draft=view["document"], change=switch(2, 3, "sep_conv_3x3"))
    assert view["problems"] == []
    assert ask(client, "save", draft=view["document"], seen=None)["saved"]
    assert Genotype.load(file).hash == view["hash"]
    assert file.read_text() == view["text"]


@pytest.mark.parametrize("path", FILES)
def test_the_pages_own_files_are_served_and_fetch_nothing_from_elsewhere(client, path):
    response = client.get(path)
    assert response.status_code == 200
    assert "http://" not in response.text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in response.text


def test_every_answer_forbids_what_a_page_of_others_could_do(client):
    for response in (client.get("/"), client.post("/api/start", json={}), client.get("/nothing")):
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8421", "127.0.0.1", "127.0.0.1:80", "", "[::1]:8421"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/api/start")])
def test_another_host_is_refused(client, host, method, path):
    response = client.request(method, path, headers={"host": host}, content="{}")
    assert response.status_code == 421
    assert "robnet" not in response.text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:8421", "http://127.0.0.1:9000"])
def test_another_origin_is_refused_and_nothing_is_written(client, file, tiny, origin):
    body = {"draft": Draft.of_spec(tiny).document, "seen": None}
    response = client.post("/api/save", json=body, headers={"origin": origin})
    assert response.status_code == 403
    assert not file.exists()


def test_its_own_origin_is_let_in(client):
    assert client.post("/api/start", json={}, headers={"origin": f"http://{HOST}"}).status_code == 200


def test_a_site_of_the_same_machine_is_refused(client):
    response = client.post("/api/start", json={}, headers={"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"})
    assert response.status_code == 403


def test_a_link_from_elsewhere_opens_the_page(client):
    response = client.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/desk.py", "/..%2fapp.py", "/page.html", "/api", "/api/x/y"])
def test_nothing_else_is_served(client, path):
    response = client.get(path)
    assert response.status_code in (404, 405)
    assert response.json().keys() == {"error"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"draft": 1}',
        b'{"draft": {}, "change": {}}',
        b'{"x": NaN}',
        b"[" * 100_000,
        b'{"a": 1, "a": 2}',
        b'{"draft": "robnet_free"}',
        b'{"draft": {"__proto__": {}}}',
        b"9" * 5000,
    ],
    ids=range(13),
)
@pytest.mark.parametrize("question", ["look", "edit", "open", "nearest", "compare", "save"])
def test_a_bad_question_is_answered_in_a_line_and_the_server_goes_on(client, file, question, body):
    response = client.post(f"/api/{question}", content=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error.isprintable()
    assert len(error) < 600
    assert not file.exists()
    assert client.get("/").status_code == 200


def test_an_unknown_question_is_answered_with_404(client):
    assert client.post("/api/destroy", json={}).status_code == 404


def test_a_question_of_any_size_is_not_read_to_its_end(client):
    response = client.post("/api/look", content=b" " * (MAX_QUESTION + 1))
    assert response.status_code == 400
    assert "expected at most 2,048 KiB" in response.json()["error"]


def test_a_wrong_change_names_the_place(client):
    draft = blank().document
    response = client.post("/api/edit", json={"draft": draft, "change": {"kind": "network", "channels": -1}})
    assert response.status_code == 400
    assert "network.channels: expected at least 1, got -1" in response.json()["error"]


def test_a_spec_is_opened_by_name_and_from_text(client, tiny):
    assert ask(client, "open", published="advrush")["document"]["name"] == "advrush"
    assert ask(client, "open", text=tiny.dumps())["hash"] == tiny.hash
    assert ask(client, "open")["document"] == blank().document


def test_a_file_whose_name_is_not_utf_8_is_shown(tmp_path):
    name = os.fsdecode(b"mine\xff.json")
    client = TestClient(app_of(open_desk(str(tmp_path / name))), base_url=f"http://{HOST}")
    response = client.post("/api/start", json={})
    assert response.content.isascii()
    assert json.loads(response.content)["file"].endswith(name)


def test_a_file_that_is_not_a_spec_is_named_in_the_message(client):
    response = client.post("/api/open", json={"text": "{}", "file": "recipe.json"})
    assert response.json()["error"].startswith("recipe.json: ")


def test_a_page_may_ask_for_no_path(client, tmp_path):
    response = client.post("/api/open", json={"published": str(tmp_path / "mine.json")})
    assert "expected the name of a published architecture" in response.json()["error"]


def test_nearest_and_comparison_are_answered(client, tiny):
    draft = Draft.of_spec(tiny).document
    assert ask(client, "nearest", draft=draft, cell="cell")["neighbours"]
    assert ask(client, "compare", draft=draft, other=draft)["same_function"]
    assert client.post("/api/nearest", json={"draft": draft, "cell": "x"}).status_code == 400


def test_a_mistake_of_the_servers_own_does_not_end_it(file, monkeypatch):
    app = app_of(Desk(blank(), file))
    client = TestClient(app, base_url=f"http://{HOST}", raise_server_exceptions=False)
    monkeypatch.setattr(Desk, "begin", lambda desk: 1 / 0)
    response = client.post("/api/start", json={})
    assert response.status_code == 500
    assert response.json() == {"error": "the server made a mistake: ZeroDivisionError"}
    monkeypatch.undo()
    assert client.post("/api/start", json={}).status_code == 200


ATTACK = {"model": "robnet_micro.digits", "pictures": "digits", "index": 3, "eps": "16/255"}


def test_an_attack_comes_as_a_line_for_each_message(client):
    attack = {"kind": "fgsm"}
    response = client.post("/api/attack", json=ATTACK | {"attack": attack})
    kinds = [json.loads(line)["kind"] for line in response.text.splitlines()]
    assert kinds[:2] == ["loading", "clean"]
    assert kinds[-1] == "end"
    assert set(kinds[2:-1]) == {"query"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack": {"kind": "pgdd"}}, "did you mean 'pgd'"),
        ({"attack": {"kind": "pgd", "steps": 0}}, "steps: expected at least 1, got 0"),
        ({"attack": {"kind": "pgd"}, "eps": "much"}, "eps: expected a fraction such as 8/255"),
        ({"attack": {"kind": "pgd"}, "index": -1}, "index: expected at least 0, got -1"),
        ({"attack": {"kind": "pgd"}, "path": "/etc/passwd"}, "unknown key"),
    ],
)
def test_an_attack_that_is_not_one_is_refused_before_it_begins(client, change, message):
    response = client.post("/api/attack", json=ATTACK | change)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_pictures_are_sent_as_bytes_and_come_back_small(client):
    answer = client.post("/api/pictures").json()
    assert (answer["key"], answer["name"]) == ("digits", "digits")
    assert answer["thumbnails"][0]["png"].startswith("data:image/png;base64,")
    refused = client.post("/api/pictures?name=mine.png", content=b"not a picture")
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("mine.png: expected a picture")


def test_an_empty_file_is_refused_and_not_taken_for_the_digits(client):
    refused = client.post("/api/pictures?name=empty.png", content=b"")
    assert (refused.status_code, refused.json()["error"][:31]) == (400, "empty.png: expected a picture t")


def test_a_refused_value_is_named_as_the_page_names_it(client):
    draft = ask(client, "start")["view"]["document"]
    refused = client.post("/api/edit", json={"draft": draft, "change": {"kind": "rename", "name": "a b"}})
    assert refused.json()["error"].startswith("name: expected a letter")


@pytest.mark.parametrize("path", ["/api/attack", "/api/pictures"])
def test_strangers_can_neither_attack_nor_send_pictures(client, path):
    assert client.post(path, json=ATTACK, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post(path, json=ATTACK, headers={"host": "evil.example"}).status_code == 421
