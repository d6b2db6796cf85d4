"""Tests of `nnc demo --browser`: responses and refused requests of the server, and the page in headless Chromium."""

import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import numpy as np
import pytest

import nnc
from nnc._browser.session import answer
from nnc._cli.main import main

HOSTS = {"host": "127.0.0.1:8000"}


def created(name="xor", hidden=(4,), activation="sigmoid"):
    """Return the rows of an example data set, and the response of the server that creates a network for them."""
    data = answer("data", {"name": name})
    rows = {"X": data["X"], "y": data["y"]}
    return rows, answer("create", {**rows, "hidden": list(hidden), "activation": activation, "seed": 0})


def test_network_of_page_is_that_of_tutorial():
    rows, view = created()
    net = nnc.NeuralNetwork([3, 4, 1], seed=0)
    assert nnc.from_json(view["network"]).predict(rows["X"]).tobytes() == net.predict(rows["X"]).tobytes()
    view = answer("train", {"network": view["network"], **rows, "epochs": 1500, "lr": 1.0})
    history = net.fit(rows["X"], rows["y"], epochs=1500, lr=1.0)
    assert view["losses"] == history.loss.tolist()
    assert view["loss"] == net.evaluate_loss(rows["X"], rows["y"]) < 0.01


@pytest.mark.parametrize("name", ["xor", "circle", "spiral"])
def test_examples_have_grid_around_rows(name):
    rows, view = created(name, [5, 3], "tanh")
    X = np.array(rows["X"])
    assert X.shape[1] == (3 if name == "xor" else 2)
    for i in range(2):
        assert view["bounds"][i][0] < X[:, i].min() < X[:, i].max() < view["bounds"][i][1]
    assert len(view["grid"]) == 41**2
    assert view["svg"].startswith("<svg")
    corner = [view["bounds"][0][0], view["bounds"][1][0], *X[0, 2:]]
    assert view["grid"][0] == pytest.approx(nnc.from_json(view["network"]).predict([corner])[0, 0], abs=6e-4)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_every_number_of_explain_step_has_reference_line(activation, capsys):
    rows, view = created("circle", [3, 2], activation)
    values = {"network": view["network"], **rows, "row": 1, "lr": 0.5}
    lines = answer("explain", values)["lines"]
    assert capsys.readouterr().out == ""  # the terminal of the server shows no explanations
    net = nnc.from_json(view["network"])
    expected = str(net.explain_step(rows["X"][1:2], rows["y"][1:2], 0.5))
    assert [line["text"] for line in lines] == [line for line in expected.split("\n") if line]
    for line in lines:
        is_number = re.search(r"(z|a|dL/da|da/dz|delta|dL/dw|dL/db|w|b) = .*\d$", line["text"]) is not None
        is_number = (is_number and line["text"].startswith("  ")) or line["text"].startswith((" L =", " Row"))
        assert bool(line["code"]) == is_number, line
    codes = {line["code"] for line in lines if line["text"].strip().startswith("da/dz")}
    assert len(codes) == (1 if activation == "sigmoid" else 2)
    assert any(f'"{activation}": (' in code for code in codes)


def test_csv_gives_two_scaled_inputs_and_two_classes():
    text = 'name,"width, cm",height,kind\na,1,10,yes\nb,3,20,no\nc,2,40,yes\n'
    assert answer("csv", {"text": text, "inputs": [], "target": ""})["columns"][1] == "width, cm"
    data = answer("csv", {"text": text, "inputs": ["width, cm", "height"], "target": "kind"})
    assert data["classes"] == ["no", "yes"]
    assert data["y"] == [[1], [0], [1]]
    np.testing.assert_allclose(data["X"], [[-1, -1], [1, -1 / 3], [0, 1]])
    for inputs, target, message in (
        (["name", "height"], "kind", "column 'name' must have numbers"),
        (["width, cm", "height"], "name", "must have 2 different values, got 3"),
        (["height"], "kind", "must be two inputs and a target"),
    ):
        with pytest.raises(ValueError, match=message):
            answer("csv", {"text": text, "inputs": inputs, "target": target})
    for text, message in (("a,b\n1\n", "must have a header and at least 2 rows"), ("x" * 200_000, "cannot be read")):
        with pytest.raises(ValueError, match=message):
            answer("csv", {"text": text, "inputs": [], "target": ""})


def test_requests_outside_limits_raise_error():
    rows, view = created()
    other = nnc.NeuralNetwork([2, 3, 1], seed=0).to_json()
    ensemble = nnc.Ensemble([nnc.NeuralNetwork([3, 2, 1], seed=seed) for seed in (0, 1)]).to_json()
    for request, values, message in (
        ("show", {"network": ensemble, **rows}, "the file must have a NeuralNetwork, got Ensemble"),
        ("other", {}, "request must be one of data"),
        ("data", {"title": "xor"}, "the values of data must be name: missing a required argument: 'name'"),
        ("data", [], "must be an object"),
        ("data", {"name": "moon"}, "data must be xor, circle or spiral"),
        ("create", {**rows, "hidden": [13], "activation": "tanh", "seed": 0}, "layers must be at most 4 numbers"),
        ("create", {**rows, "hidden": [3], "activation": "gelu", "seed": 0}, "activation must be one of sigmoid"),
        ("create", {"X": [[0] * 4], "y": [[1]], "hidden": [3], "activation": "tanh", "seed": 0}, "data must have 1 to"),
        ("show", {"network": other, **rows}, "the network must have 3 inputs, one output .*, got 2-3-1"),
        ("show", {"network": "{", **rows}, "JSON"),
        ("train", {"network": view["network"], **rows, "epochs": 0, "lr": 1.0}, "epochs must be a number from 1"),
        ("train", {"network": view["network"], **rows, "epochs": 2, "lr": -1.0}, "lr must be"),
        ("create", {**rows, "hidden": "4", "activation": "tanh", "seed": 0}, 'hidden must be a list, got "4"'),
        ("show", {"network": view["network"], **rows, "row": 0.5}, "row must be a whole number, got 0.5"),
        ("show", {"network": view["network"], "X": [[0, 1]], "y": [[1], [0]]}, "got 1 rows of .2. inputs and 2 rows"),
        (
            "show",
            {"network": view["network"], "X": [[0, True, 1]], "y": [[1]]},
            "each value of X must be a number from",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            answer(request, values)


def test_network_with_infinite_loss_raises_error():
    net = nnc.NeuralNetwork([2, 1], output="identity", loss="mse", seed=0)
    net.weights[0][...] = 1e300
    with pytest.raises(ValueError, match="the loss and the outputs of the network must be finite"):
        answer("show", {"network": net.to_json(), "X": [[1, 2], [2, 1]], "y": [[0], [1]]})


def test_training_returns_warnings_of_engine():
    rows, view = created("xor", [4], "relu")
    view = answer("train", {"network": view["network"], **rows, "epochs": 20, "lr": 100.0})
    assert len(view["losses"]) == 20
    assert any(text.startswith("all outputs of hidden layer 1 (relu) are zero") for text in view["warnings"])


def test_training_ends_when_server_stops():
    rows, view = created()
    values = {"network": view["network"], **rows, "epochs": 100_000, "lr": 1.0}
    calls = iter([False, False, True])
    assert len(answer("train", values, lambda: next(calls))["losses"]) == 3


# ------------------------------------------------------------------------------------------------ server


@pytest.fixture
def client():
    pytest.importorskip("uvicorn")
    pytest.importorskip("httpx")
    testclient = pytest.importorskip("starlette.testclient")
    from nnc._browser.server import build_app

    return testclient.TestClient(build_app(8000), base_url="http://127.0.0.1:8000")


def test_server_responds_to_its_own_page(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="([^":]+)"', page.text):
        assert client.get(f"/{name}").status_code == 200
    assert client.get("/session.py").status_code == client.get("/%2e%2e/page.js").status_code == 404
    response = client.post("/api/data", json={"name": "xor"}, headers={"origin": "http://127.0.0.1:8000"})
    assert response.json()["y"] == [[0], [1], [1], [0]]
    response = client.post("/api/data", json={"name": "moon"})
    assert response.status_code == 400
    assert response.json()["error"].startswith("data must be xor")
    response = client.post("/api/data", content=b"{", headers={"content-type": "application/json"})
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "example.com"}, 403),
        ({"host": "127.0.0.1:8001"}, 403),
        ({"host": "127.0.0.1"}, 403),
        ({"origin": "http://example.com"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:8000"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({}, 200),
    ],
)
def test_server_refuses_other_hosts_origins_and_types(client, headers, status):
    headers = {"content-type": "application/json", **headers}
    assert client.post("/api/data", content=b'{"name": "xor"}', headers=headers).status_code == status


# JSON texts of wrong types, lengths and sizes for each value of each request
INVALID = [
    *map(json.dumps, (None, True, -1, 1.5, np.inf, np.nan, 10**400, {}, [], [[]], [1], [None], [[1], [1, 2]], [{}])),
    *map(json.dumps, ([[1e308, 1]], [[np.nan, 1]], "", "a", "[]", "{}", "[" * 3000, ["a"], [["a"]], ["a", ["b"]])),
    *map(json.dumps, ("\ud800", ["\ud800", "b"])),
    "1" * 5000,
    "[" * 900 + "]" * 900,
    "[" * 100_000,
]


@pytest.mark.parametrize(
    "request_name",
    [
        "csv",
        "create",
        "train",
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("data", "show", "explain")),
    ],
)
def test_malformed_requests_have_status_400(client, request_name):
    rows, view = created()
    rows = {name: json.dumps(value) for name, value in rows.items()}
    network = {"network": json.dumps(view["network"]), **rows, "row": "0"}
    values = {
        "data": {"name": '"xor"'},
        "csv": {"text": r'"a,b,c\n1,2,0\n3,4,1\n"', "inputs": '["a","b"]', "target": '"c"'},
        "create": {**rows, "hidden": "[4]", "activation": '"tanh"', "seed": "0"},
        "show": network,
        "train": {**network, "epochs": "2", "lr": "1"},
        "explain": {**network, "lr": "1"},
    }[request_name]

    def post(body):
        """Return the status and the message of the response to a request."""
        response = client.post(f"/api/{request_name}", content=body, headers={"content-type": "application/json"})
        return response.status_code, response.json().get("error", "")

    def body(values):
        """Return the body of a request from the JSON texts of its values."""
        return "{" + ", ".join(f'"{name}": {text}' for name, text in values.items()) + "}"

    assert post(body(values)) == (200, "")
    allowed = {"lr": ["1.5"], "target": ['""', '"a"'], "row": ["-1", str(10**400)], "hidden": ["[]", "[1]"]}
    for name in values:
        rest = {other: text for other, text in values.items() if other != name}
        for text in INVALID:
            status, message = post(body({**rest, name: text}))
            assert status == (200 if text in allowed.get(name, []) else 400), (name, text[:20], message)
            assert bool(message) == (status == 400)
            assert "\n" not in message
        assert post(body(rest))[0] == (200 if name == "row" and request_name != "explain" else 400)
    for text in INVALID:
        assert post(text)[0] == 400
    assert post(body({**values, "is_stopping": "1"}))[0] == 400


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send Ctrl-C to only one other process")
def test_ctrl_c_ends_server_during_training():
    for package in ("uvicorn", "starlette"):
        pytest.importorskip(package)
    rows, view = created("circle", [12, 12, 12, 12], "tanh")
    # This training takes minutes.
    body = json.dumps({"network": view["network"], **rows, "epochs": 100_000, "lr": 0.01}).encode()
    command = [sys.executable, "-P", "-m", "nnc", "demo", "--browser", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        host = re.search(r"http://([^/]+)/", server.stdout.readline())[1]
        try:
            with socket.create_connection(host.split(":")) as connection:
                headers = f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
                connection.sendall(f"POST /api/train HTTP/1.1\r\n{headers}\r\n\r\n".encode() + body)
                time.sleep(1)  # wait until the training has begun
                server.send_signal(signal.SIGINT)
                _, errors = server.communicate(timeout=60)
        finally:
            server.kill()
    assert errors == "nnc: interrupted\n"


def test_page_closed_during_request_raises_no_error():
    server = pytest.importorskip("nnc._browser.server")
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    headers = [(b"host", b"127.0.0.1:1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/api/train", "query_string": b"", "headers": headers}
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    asyncio.run(server.build_app(1)(scope, receive, send))
    assert sent[0]["status"] == 400


def test_server_refuses_long_request(client):
    body = json.dumps({"text": "x" * (4 * 2**20), "inputs": [], "target": ""})
    response = client.post("/api/csv", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 413


def test_page_has_no_address_of_other_servers():
    from importlib.resources import files

    for name in ("index.html", "page.css", "page.js"):
        text = files("nnc._browser").joinpath(name).read_text(encoding="utf-8")
        assert "//" not in re.sub(r"^ *//.*|http://www\.w3\.org/\S+", "", text, flags=re.MULTILINE)


def test_command_without_packages_names_installation(monkeypatch, capsys):
    # None in sys.modules makes the import of a package fail as if it were not installed.
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "nnc._browser.server", raising=False)
    assert main(["demo", "--browser"]) == 1
    assert "nnc demo --browser needs starlette and uvicorn" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ page


@pytest.fixture
def page(tmp_path):
    """Return a headless Chromium that shows the page of a server in a thread, and saves files in a new folder."""
    webdriver = pytest.importorskip("selenium.webdriver")
    uvicorn = pytest.importorskip("uvicorn")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if find_spec("starlette") is None or chromium is None or shutil.which("chromedriver") is None:
        pytest.skip("needs starlette, Chromium and chromedriver")
    from nnc._browser.server import bind, build_app

    with bind(0) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(build_app(port), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1600"):
            options.add_argument(argument)
        options.binary_location = chromium
        options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            driver.get(f"http://127.0.0.1:{port}/")
            yield driver
            assert driver.get_log("browser") == []
        finally:
            driver.quit()
            server.should_exit = True
            thread.join()


def wait(driver, condition):
    """Wait until a JavaScript expression is true, and return its value."""
    for _ in range(1200):
        value = driver.execute_script(f"return {condition}")
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{condition} did not become true: {driver.execute_script('return document.body.innerText')}")


def press(driver, *keys, held=None):
    """Send keys to the focused element, with the key `held` (such as Shift) pressed meanwhile."""
    from selenium.webdriver import ActionChains

    chain = ActionChains(driver)
    (chain.key_down(held).send_keys(*keys).key_up(held) if held else chain.send_keys(*keys)).perform()


def focus(driver, name):
    """Move the focus to an element by the Tab key only."""
    from selenium.webdriver.common.keys import Keys

    for _ in range(60):
        if driver.execute_script("return document.activeElement.id") == name:
            return
        press(driver, Keys.TAB)
    raise AssertionError(f"the Tab key does not reach {name}")


def test_page_is_usable_by_keyboard_in_both_languages(page, tmp_path):
    from selenium.webdriver.common.keys import Keys

    lines = "document.querySelectorAll('#lines li')"
    wait(page, f"{lines}.length > 80")
    focus(page, "hidden")
    press(page, "a", held=Keys.CONTROL)
    press(page, "3, 2", Keys.TAB)
    wait(page, "document.querySelector('#network').src.includes('Layer%202')")
    focus(page, "activation")
    press(page, "tanh")
    focus(page, "train")
    press(page, Keys.SPACE)
    wait(page, "Number(document.querySelector('#status').textContent.match(/\\d+/)[0]) > 300")
    press(page, Keys.SPACE)
    wait(page, "document.querySelector('#train').textContent === 'Train'")
    losses = page.execute_script("return document.querySelector('polyline').getAttribute('points')")
    assert len(losses.split()) > 150
    focus(page, "forward")
    press(page, Keys.ENTER)
    press(page, Keys.ENTER)
    assert page.execute_script(f"return [...{lines}].findIndex((item) => item.className === 'now')") == 2
    focus(page, "lines")
    press(page, Keys.END)
    last = page.execute_script(f"return [...{lines}].at(-1).className")
    assert last == "now"
    press(page, Keys.ARROW_UP)
    text = page.execute_script("return document.querySelector('#current').textContent")
    assert re.search(r"Bias: dL/db = ", text)
    assert "db = [sum(" in page.execute_script("return document.querySelector('#lines .now .code').textContent")
    check_chinese(page, Keys)


def check_chinese(page, keys):
    """Switch to Chinese, and check that no English word remains in the labels and lines of the page."""
    for _ in range(60):  # Shift+Tab moves the focus back to the first control, the menu of languages
        if page.execute_script("return document.activeElement.id") == "language":
            break
        press(page, keys.TAB, held=keys.SHIFT)
    press(page, keys.ARROW_DOWN)
    wait(page, "document.documentElement.lang === 'zh-CN'")
    names = r"\b(sigmoid|tanh|relu|delta|exp|max|explain_step|Python|JSON|CSV|nnc|English|loss|sse|mse)\b"
    texts = page.execute_script(
        "return [document.title, ...[...document.querySelectorAll('[data-text], #lines .text, #lines .title, #status,"
        " #axis, #legend, #current')].map((element) => element.textContent)]"
    )
    assert len(texts) > 80
    for text in texts:
        assert not re.search(r"[A-Za-z_]{3,}", re.sub(names, "", text)), text
    assert any("神经元 0: z = " in text for text in texts)


def change(page, name, value):
    """Set the value of a control, as a user does."""
    script = "const [id, value] = arguments, control = document.getElementById(id); control.value = value;"
    page.execute_script(script + "control.dispatchEvent(new Event('change'));", name, value)


def test_tab_key_reaches_every_control(page):
    from selenium.webdriver.common.keys import Keys

    wait(page, "document.querySelectorAll('#lines li').length > 80")
    change(page, "data", "csv")
    controls = page.execute_script(
        "return [...document.querySelectorAll('button, input, select, a, [tabindex]')]"
        ".filter((control) => !control.disabled).map((control) => control.id)"
    )
    assert len(controls) == 21
    page.execute_script("document.getElementById('language').focus()")
    for name in controls:
        focused = page.switch_to.active_element
        assert focused.get_attribute("id") == name
        assert page.execute_script("return getComputedStyle(arguments[0]).outlineStyle", focused) != "none"
        press(page, Keys.TAB)


def test_saved_network_is_loaded_by_nnc_and_by_the_page(page, tmp_path):
    from selenium.webdriver.common.keys import Keys

    wait(page, "document.querySelectorAll('#lines li').length > 80")
    focus(page, "one")
    press(page, Keys.SPACE)
    status = wait(page, "document.querySelector('#status').textContent.startsWith('epoch 1,') && "
                        "document.querySelector('#status').textContent")  # fmt: skip
    focus(page, "save")
    press(page, Keys.SPACE)
    path = tmp_path / "network.json"
    for _ in range(1200):
        if path.exists():
            break
        time.sleep(0.05)
    net, rows = nnc.NeuralNetwork([3, 4, 1], seed=0), answer("data", {"name": "xor"})
    net.fit(rows["X"], rows["y"], epochs=1, lr=1.0)
    assert nnc.load(path).params.tobytes() == net.params.tobytes()
    focus(page, "reset")
    press(page, Keys.SPACE)
    loss = status.split()[-1]
    wait(page, f"!document.querySelector('#status').textContent.endsWith('{loss}')")
    page.find_element("id", "load").send_keys(str(path))
    wait(page, f"document.querySelector('#status').textContent === 'epoch 0, loss {loss}'")


def test_errors_are_shown_in_the_language_of_the_page(page, tmp_path):
    wait(page, "document.querySelectorAll('#lines li').length > 80")
    error = "document.querySelector('#error').textContent"
    english, chinese = [], []

    def record_error(action, *arguments):
        """Record the error of an action in both languages."""
        action(*arguments)
        wait(page, error)
        chinese.append(page.execute_script(f"return {error}"))
        change(page, "language", "en")
        english.append(page.execute_script(f"return {error}"))
        change(page, "language", "zh")

    def read_csv(target, lines):
        """Choose a CSV file with the columns a, b and `target`; if it can be read, use these columns."""
        change(page, "data", "csv")
        path = tmp_path / f"{target}.csv"
        path.write_text("\n".join([f"a,b,{target}", *lines]))
        page.find_element("id", "csv-file").send_keys(str(path))
        wait(page, f"{error} || document.querySelector('#target').value === '{target}'")
        page.find_element("id", "use-csv").click()

    change(page, "language", "zh")
    for name, invalid, valid in (("hidden", "99", "4"), ("seed", "-1", "0"), ("rate", "-1", "1")):
        record_error(change, page, name, invalid)
        change(page, name, valid)
        wait(page, f"!{error}")
    (tmp_path / "text.json").write_text("text")
    nnc.NeuralNetwork([2, 5, 1], seed=3).save(tmp_path / "net.json")
    for name in ("text.json", "net.json"):
        record_error(page.find_element("id", "load").send_keys, str(tmp_path / name))
    tables = {"one": ["1"], "text": ["x,2,0", "3,4,1"], "same": ["1,2,0", "1,4,1"], "class": ["1,2,0", "3,4,0"]}
    for target, lines in tables.items():
        record_error(read_csv, target, lines)
    assert len(set(chinese)) == len(set(english)) == 9
    for text in chinese:
        assert text.startswith("出错")
        assert not re.search(r"[A-Za-z_]{2,}", re.sub("JSON|CSV|“.*”", "", text)), text
        assert "服务器不能处理这些值" not in text
    for text in english:
        assert re.match("Error: .*must|Error: cannot load", text), text
    page.get_log("browser")  # read and clear the log: refused requests appear there as errors


def test_page_loads_network_and_csv(page, tmp_path):
    net = nnc.NeuralNetwork([2, 5, 1], seed=3)
    net.save(tmp_path / "net.json")
    (tmp_path / "table.csv").write_text("a,b,kind\n" + "".join(f"{i % 7},{i % 5},{i % 2}\n" for i in range(40)))
    wait(page, "document.querySelectorAll('#lines li').length > 80")
    load = page.find_element("id", "load")
    # The network in the file has two inputs, but the rows of the tutorial have three, so the page shows an error.
    load.send_keys(str(tmp_path / "net.json"))
    wait(page, "document.querySelector('#error').textContent.includes('must have 3 inputs')")
    page.find_element("css selector", "#data option[value=csv]").click()
    page.find_element("id", "csv-file").send_keys(str(tmp_path / "table.csv"))
    wait(page, "!document.querySelector('#use-csv').disabled")
    page.find_element("id", "use-csv").click()
    wait(page, "document.querySelector('#legend').textContent.startsWith('a, b')")
    load.send_keys(str(tmp_path / "net.json"))
    wait(page, "document.querySelector('#hidden').value === '5'")
    assert page.execute_script("return document.querySelector('#error').textContent") == ""
    page.get_log("browser")  # read and clear the log: the refused request appears there as an error
