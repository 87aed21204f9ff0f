"""The cloud from the terminal: sign in, apply, look, scale, meter, remove, as a person does it beside a running `neutrino up`."""
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

import cloud as clouds
import harness

SHELLS = {"bash": "bash", "zsh": "zsh", "fish": "fish"}
ENDPOINT = """
kind: Endpoint
name: stubs
limits:
  concurrency: 8
deployments:
  - command: [{command}]
    ready_path: /health
    memory_bytes: 67108864
    replicas: 1
    environment:
      - name: TOKEN
        secret: hub
"""
CLOUD = """
kind: Shape
name: tiny
memory_bytes: 67108864
---
kind: Member
email: ada@example.org
role: user
---
kind: Secret
name: hub
value: s3cret
---
kind: Key
name: ci
models: [stubs]
---
kind: Budget
name: lab
subject: workspace
unit: tokens
amount: 1000000
---
""" + ENDPOINT


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    running = clouds.Cloud(tmp_path_factory.mktemp("cloud"))
    try:
        key = running.home / "cloud" / "one-time-key"
        harness.wait_for(key.exists, 30, "there is a one-time key")
        harness.wait_for(lambda: "login" in clouds.Terminal(running.home).fails(1, "whoami"), 30, "the API answers")
        yield running
        running.end_replicas()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def cli(plane):
    """Signed in by the key that the first start left on this machine."""
    terminal = clouds.Terminal(plane.home)
    assert "admin@localhost" in terminal("login")
    plane.token = json.loads((plane.home / "cloud" / "contexts.json").read_text())["contexts"][0]["token"]
    return terminal


@pytest.fixture
def manifest(tmp_path):
    def write(text, **words):
        path = tmp_path / "cloud.yaml"
        path.write_text(text.format(command=", ".join(f"\"{word}\"" for word in clouds.stub_command()), **words))
        return path
    return write


def wait_state(cli, name, state):
    harness.wait_for(lambda: cli.json("endpoint", "show", name)["status"]["state"] == state, 60, f"{name} is {state}")


# ---- without a server

def descriptions():
    def describe(*command):
        return json.loads(subprocess.run([harness.RELEASE, *command, "--describe"], capture_output=True, text=True, check=True).stdout)

    for command in describe()["verbs"]:
        name = command["name"]
        yield [name]
        for verb in describe(name)["verbs"]:
            yield [name, verb["name"]]


def test_every_command_and_verb_explains_itself_with_an_example():
    everything = list(descriptions())
    assert ["endpoint", "scale"] in everything and len(everything) > 40
    for words in everything:
        result = subprocess.run([harness.RELEASE, *words, "--help"], capture_output=True, text=True, check=False)
        has_example = f"Example: neutrino {words[0]}" in result.stdout.replace("Example: source <(", "Example: ")
        assert result.returncode == 0 and (has_example or words[0] in ("model", "eval")), words  # their verbs are in their own help
        unknown = subprocess.run([harness.RELEASE, *words, "--no-such-flag"], capture_output=True, text=True, check=False)
        assert unknown.returncode == 2 and unknown.stderr.strip(), words


@pytest.mark.parametrize("shell", SHELLS)
def test_completions_are_scripts_of_their_shell(shell, tmp_path):
    script = clouds.Terminal(tmp_path)("completion", shell)
    assert "endpoint" in script and "replicas-max" in script
    if not shutil.which(shell):
        return  # its words are looked at all the same
    path = tmp_path / "completion"
    path.write_text(script)
    assert subprocess.run([shell, "-n", path], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("words, expected", [
    (["end"], {"endpoint"}), (["endpoint", "sc"], {"scale"}), (["endpoint", "create", "--replicas-m"], {"--replicas-min", "--replicas-max"}),
    (["usage", "summary", "--by", ""], {"key", "member", "endpoint", "model", "day"}), (["serve", "--list-prof"], {"--list-profiles"})])
def test_bash_completes(words, expected, tmp_path):
    path = tmp_path / "completion"
    path.write_text(clouds.Terminal(tmp_path)("completion", "bash"))
    typed = " ".join(f"'{word}'" for word in ["neutrino", *words])
    lines = f"source {path}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _neutrino; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    answer = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True).stdout
    assert set(answer.split()) == expected


def test_nobody_there_is_said_and_a_token_is_not_sent_elsewhere(tmp_path):
    terminal = clouds.Terminal(tmp_path)
    assert "neutrino up" in terminal.fails(1, "endpoint", "list", "--server", "http://127.0.0.1:1")
    assert "https" in terminal.fails(2, "endpoint", "list", "--server", "http://cloud.test")


# ---- with one

def test_a_key_that_was_used_leads_to_the_browser_and_here_to_none(cli, plane, tmp_path):
    assert not (cli.home / "cloud" / "one-time-key").exists()
    assert "no sign-in by browser" in clouds.Terminal(tmp_path).fails(1, "login", plane.api_url)
    assert "mistyped" in cli.fails(1, "login", "--one-time-key", "-", stdin="no-such-key")


def test_who_am_i_and_the_sign_in_is_kept_for_me_alone(cli):
    me = cli.json("whoami")
    assert me["email"] == "admin@localhost" and me["role"] == "admin" and "admin@localhost" in cli("whoami")
    assert (cli.home / "cloud" / "contexts.json").stat().st_mode & 0o777 == 0o600


def test_the_whole_life(cli, plane, manifest):
    path = manifest(CLOUD)
    dry = cli("apply", "-f", path, "--dry-run")
    assert dry.count("would be created") == 6 and cli.json("endpoint", "list")["items"] == []
    made = cli("apply", "-f", path)
    assert made.count("created") == 6
    key = re.search(r"shown this once: (nk-\S+)", made).group(1)
    again = cli.json("apply", "-f", path)
    assert {item["name"]: item["action"] for item in again["items"] if item["action"] != "unchanged"} == {"hub": "updated"}

    wait_state(cli, "stubs", "Ready")
    assert re.search(r"stubs +Ready +1/1", cli("endpoint", "list"))
    shown = cli("endpoint", "show", "stubs")
    replica = cli.json("endpoint", "show", "stubs")["id"] + "-main-1"
    assert replica in shown and "Ready" in shown
    assert plane.chat(key, "stubs").status == 200
    harness.wait_for(lambda: "stubs" in cli("usage", "summary"), 30, "the request is counted")
    assert cli.json("usage", "requests")["items"][0]["output_tokens"] > 0
    assert cli("usage", "hours", "--csv").splitlines()[0].startswith("workspace,hour_ms")
    assert re.search(r"lab +workspace +1,000,000 tokens +[1-9]", cli("budget", "list"))
    assert cli("logs", replica) == cli("logs", replica, "--tail", 100_000)
    assert all(line.startswith(replica + " | ") for line in cli("logs", "stubs", "--tail", 1).splitlines())
    assert "stubs" in cli("events", "--endpoint", "stubs")

    changed = manifest(CLOUD.replace("concurrency: 8", "concurrency: 9"))
    assert "limits.concurrency: 8 -> 9" in cli("apply", "-f", changed, "--diff", "--dry-run")
    assert cli.json("endpoint", "show", "stubs")["limits"]["concurrency"] == 8
    assert "endpoint/stubs updated" in cli("apply", "-f", changed)

    assert "--replicas 2" in cli.fails(1, "endpoint", "scale", "stubs", 2)  # its number is fixed
    assert "deployments[main].replicas: 1 -> 2" in cli("endpoint", "update", "stubs", "--replicas", 2, "--wait")
    harness.wait_for(lambda: cli.json("endpoint", "show", "stubs")["status"]["ready"] == 2, 60, "two replicas")
    assert "nothing to change" in cli.fails(2, "endpoint", "update", "stubs", "--replicas", 2)
    cli("endpoint", "update", "stubs", "--env", "A=1")
    assert len(cli.json("endpoint", "revisions", "stubs")["items"]) == 2
    assert cli.json("endpoint", "rollback", "stubs")["deployments"][0]["revision"] == 1
    cli("endpoint", "update", "stubs", "--replicas", -1, "--wait")
    cli("endpoint", "scale", "stubs", 1, "--wait")
    assert cli.json("endpoint", "show", "stubs")["status"]["ready"] == 1
    cli("endpoint", "pause", "stubs")
    wait_state(cli, "stubs", "Paused")
    cli("endpoint", "resume", "stubs", "--wait")

    for words in (["endpoint", "stubs"], ["key", "ci"], ["budget", "lab"], ["secret", "hub"], ["member", "ada@example.org"]):
        assert "is removed" in cli(words[0], "rm", words[1])
        assert words[1] not in cli(words[0], "list")


def test_what_is_exported_is_applied_without_a_change(cli, manifest):
    cli("apply", "-f", manifest(CLOUD))
    text = cli("export")
    assert "s3cret" not in text and "kind: Endpoint" in text
    path = cli.home / "export.yaml"
    path.write_text(text)
    assert {item["action"] for item in cli.json("apply", "-f", path)["items"]} == {"unchanged"}
    assert cli("export", "endpoint/stubs").startswith("kind: Endpoint\nname: stubs\n")
    cli("endpoint", "rm", "stubs"), cli("key", "rm", "ci")


@pytest.mark.parametrize("change, place", [
    (("concurrency: 8", "concurency: 8"), r":5:3: limits.concurency is not a known field"),
    (("replicas: 1", "replicas: many"), r":10:5: deployments\[0\].replicas must be an integer"),
    (("ready_path: /health", "weight: -5"), r":8:5: .*weight"),
    (("secret: hub", "secret: nonesuch"), r":1[123]:\d+: .*nonesuch"),
    (("kind: Endpoint", "kind: Endpont"), r":2:1: kind must be one of"),
    (("limits:", "limits: ["), r":\d+:\d+: ")])
def test_a_mistake_is_told_with_its_line_and_changes_nothing(cli, manifest, change, place):
    message = cli.fails(2, "apply", "-f", manifest(ENDPOINT.replace(*change)))
    assert re.search(place, message), message
    assert "stubs" not in cli("endpoint", "list")


def test_keys(cli, plane):
    key = cli("key", "create", "app", "--api-role", "viewer", "--expires", "1d", "--requests-per-minute", 60).strip()
    assert re.fullmatch(r"nk-\w+", key)
    listed = cli("key", "list")
    assert re.search(r"app +nk-\S+ +good +inference, API as viewer +all", listed) and key not in listed
    viewer = clouds.Terminal(plane.home / "elsewhere")
    assert "signed in" in viewer("login", plane.api_url, "--token", "-", stdin=key)
    assert viewer.json("endpoint", "list") == {"items": []}
    assert "role" in viewer.fails(1, "key", "create", "more")
    assert "app" in cli("key", "revoke", "app")
    assert "neutrino login" in viewer.fails(1, "endpoint", "list")
    cli("key", "rm", "app")


def test_logs_are_followed(cli, plane):
    plane.make_stubs("followed")
    plane.wait_ready("followed", 1)
    following = cli.start("logs", "followed", "--follow")
    try:
        assert "listening" in following.stdout.readline()
        plane.api("PATCH", "/endpoints/followed", {"deployments": [
            {"name": "main", "command": clouds.stub_command(), "replicas": 2, "memory_bytes": 64 << 20, "ready_path": "/health"}]}, expect=200)
        assert "-main-2 | " in following.stdout.readline()
    finally:
        following.kill()
        following.wait()
        cli("endpoint", "rm", "followed")


def test_secrets_come_from_standard_input_and_never_come_back(cli):
    cli("secret", "set", "hub", stdin="s3cret\n")
    assert "hub" in cli("secret", "list") and "s3cret" not in cli("secret", "list", "--json")
    assert "empty" in cli.fails(2, "secret", "set", "hub", stdin="")
    cli("secret", "rm", "hub")


def test_a_watched_list_is_shown_again_after_a_change(cli):
    watching = cli.start("member", "list", "--json", "--watch")
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(watching.stdout), daemon=True)
    reader.start()
    try:
        harness.wait_for(lambda: lines, 20, "a first list")
        cli("member", "add", "bob@example.org")
        begin = time.monotonic()
        harness.wait_for(lambda: "bob@example.org" in lines[-1], 9, "the change")  # without one it is shown after 10 s
        assert time.monotonic() - begin < 9
    finally:
        watching.send_signal(signal.SIGTERM)
        watching.wait(10)
        cli("member", "rm", "bob@example.org")


def test_backup_while_it_runs_and_restore_elsewhere(cli, tmp_path):
    cli("member", "add", "carol@example.org")
    backup = tmp_path / "cloud.backup"
    rows = cli.json("backup", backup)["rows"]
    assert "stop" in cli.fails(1, "restore", backup, "--replace")
    other = clouds.Terminal(tmp_path / "other")
    assert other.json("restore", backup, "--check")["rows"] == rows > 10
    assert "is restored" in other("restore", backup)
    assert other.fails(1, "restore", backup)  # it is not empty now
    cli("member", "rm", "carol@example.org")


def test_workspaces_and_members(cli):
    cli("workspace", "create", "lab")
    assert re.search(r"default", cli("workspace", "list"))
    cli("member", "add", "dan@example.org", "--role", "viewer")
    cli("member", "set-role", "dan@example.org", "admin")
    assert re.search(r"dan@example.org +admin", cli("member", "list"))
    cli("member", "rm", "dan@example.org"), cli("workspace", "rm", "lab")


def test_nodes(cli):
    node = cli.json("node", "list")["items"][0]
    assert node["cores"] > 0 and node["name"] in cli("node", "show", node["name"])


def test_logging_out_ends_the_session(plane, cli):
    context = json.loads((plane.home / "cloud" / "contexts.json").read_text())["contexts"][0]
    other = clouds.Terminal(plane.home / "other")
    other("login", plane.api_url, "--token", context["token"])
    token = cli("key", "create", "last", "--api-role", "admin", "--platform").strip()
    assert "signed out" in other("logout")
    assert "neutrino login" in cli.fails(1, "whoami")
    cli("login", "--token", token)
    plane.token = token  # for what the fixture removes
