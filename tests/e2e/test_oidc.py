"""Sign-in with a real OpenID provider (the npm package oidc-provider, oidc_provider.mjs), through the browser's whole way: a cookie jar, forms and
redirects, as a script. The provider wants PKCE, and gives the email at its userinfo endpoint."""
import http.cookiejar
import json
import os
import pathlib
import re
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest

import cloud as clouds
import harness

FOLDER = pathlib.Path(__file__).parent


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Plane:
    """A cloud, and the provider that it believes."""

    def __init__(self, folder):
        port = free_port()  # the provider has to know where people come back to
        self.url = f"http://127.0.0.1:{port}"
        self.provider = subprocess.Popen(["node", FOLDER / "oidc_provider.mjs", f"{self.url}/api/v1/login/oidc/callback"], text=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.issuer = self.provider.stdout.readline().strip()
        assert self.issuer, f"the provider ended with {self.provider.wait()}"
        settings = {"issuer": self.issuer, "client_id": "neutrino", "client_secret": "open-sesame", "public_url": self.url}
        file = folder / "oidc.json"
        file.touch(0o600)
        file.write_text(json.dumps(settings))
        self.cloud = clouds.Cloud(folder, "--oidc", file, ports=(0, port))
        self.cloud.sign_in()
        self.admin = self.cloud.token

    def call(self, method, path, body=None, token=None):
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(f"{self.url}/api/v1{path}", json.dumps(body).encode() if body is not None else None, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def stop(self):
        assert self.cloud.stop() == 0
        self.provider.terminate()
        self.provider.wait(30)


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    running = Plane(tmp_path_factory.mktemp("oidc"))
    for name in ("ada", "unverified-bob"):
        running.call("POST", "/members", {"email": f"{name}@example.org", "role": "user"}, running.admin)
    yield running
    running.stop()


class Browser:
    """Follows redirects while they stay with the plane and the provider, and remembers all that it saw."""

    def __init__(self, plane):
        self.plane, self.seen = plane, []
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()), Redirects(self))

    def open(self, url, form=None):
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        self.seen.append(url)
        try:
            with self.opener.open(url, data, timeout=30) as answer:
                return answer.status, answer.url, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.url, error.read().decode()

    def sign_in(self, name, query=""):
        """Opens the sign-in, types the name, agrees. Returns status, URL and body of the last page."""
        status, url, page = self.open(f"{self.plane.url}/api/v1/login/oidc{query}")
        for form in ({"prompt": "login", "login": name, "password": "any"}, {"prompt": "consent"}):
            if 'name="prompt"' not in page:
                break
            assert status == 200 and f'value="{form["prompt"]}"' in page, page
            action = re.search(r'<form[^>]*action="([^"]+)"', page).group(1)
            status, url, page = self.open(urllib.parse.urljoin(url, action), form)
        return status, url, page


class Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, browser):
        self.browser = browser

    def redirect_request(self, request, file, code, message, headers, url):
        self.browser.seen.append(url)
        if not url.startswith((self.browser.plane.url, self.browser.plane.issuer)):
            return None  # a terminal's port: nobody listens there in these tests
        return super().redirect_request(request, file, code, message, headers, url)


def query_of(url):
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))


def test_a_member_signs_in(plane):
    browser = Browser(plane)
    status, _, page = browser.sign_in("ada")
    assert status == 200, page
    session = json.loads(page)
    assert session["email"] == "ada@example.org" and session["token"].startswith("ns-")
    me = plane.call("GET", "/me", token=session["token"])
    assert me["actor"] == "member:ada@example.org" and me["role"] == "user" and not me["platform"]
    asked = query_of(browser.seen[1])
    assert asked["code_challenge_method"] == "S256" and len(asked["nonce"]) >= 32 and len(asked["state"]) >= 32
    assert not any("ns-" in url for url in browser.seen)
    plane.call("POST", "/logout", token=session["token"])
    with pytest.raises(urllib.error.HTTPError, match="401"):
        plane.call("GET", "/me", token=session["token"])


def test_a_code_is_good_once_and_in_its_own_browser(plane):
    first = Browser(plane)
    first.sign_in("ada")
    callback = next(url for url in first.seen if "/callback?" in url)
    assert Browser(plane).open(callback)[0] == 401  # another browser: no cookie
    status, _, page = first.open(callback)
    assert status == 401 and json.loads(page)["error"]["code"] == "sign_in_lost"  # the cookie went with the first use


@pytest.mark.parametrize("name, reason", [("eve", "no_membership"), ("unverified-bob", "email_not_verified")])
def test_who_may_not_come_in(plane, name, reason):
    status, _, page = Browser(plane).sign_in(name)
    assert status == 403 and json.loads(page)["error"]["code"] == reason


def test_a_refusal_at_the_provider_arrives(plane):
    browser = Browser(plane)
    _, url, page = browser.open(f"{plane.url}/api/v1/login/oidc")
    cancel = re.search(r'href="([^"]+/abort)"', page).group(1)
    status, _, page = browser.open(urllib.parse.urljoin(url, cancel))
    assert status == 403 and json.loads(page)["error"]["code"] == "sign_in_refused"


def test_a_terminal_gets_a_code_that_is_good_once(plane):
    port = free_port()
    browser = Browser(plane)
    status, _, _ = browser.sign_in("ada", f"?port={port}&state=mine")
    assert status == 302
    last = browser.seen[-1]
    assert last.startswith(f"http://127.0.0.1:{port}/?") and query_of(last)["state"] == "mine"
    session = plane.call("POST", "/login/one-time-key", {"key": query_of(last)["code"]})
    assert plane.call("GET", "/me", token=session["token"])["email"] == "ada@example.org"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        plane.call("POST", "/login/one-time-key", {"key": query_of(last)["code"]})


def test_the_terminal_signs_in_by_way_of_a_browser(plane, tmp_path):
    environment = {key: value for key, value in os.environ.items() if "DISPLAY" not in key} | {"NEUTRINO_HOME": str(tmp_path)}
    login = subprocess.Popen([harness.RELEASE, "login", plane.url], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    url = next(line.strip() for line in login.stderr if "/login/oidc?" in line)
    browser = Browser(plane)
    browser.sign_in("ada", url[url.index("?"):])
    assert b"signed in" in urllib.request.urlopen(browser.seen[-1], timeout=30).read()
    assert login.wait(30) == 0 and "as ada@example.org" in login.stdout.read()
    me = subprocess.run([harness.RELEASE, "whoami", "--json"], env=environment, capture_output=True, check=True)
    assert json.loads(me.stdout)["email"] == "ada@example.org"
