"""Where the cloud keeps what it knows: on PostgreSQL as on SQLite, and in a backup that is taken while everything moves."""
import os
import sqlite3
import threading
import time

import pytest

import cloud as clouds
import harness
import postgres

LONG = bool(os.environ.get("NEUTRINO_TEST_LONG"))
BACKUPS = 20 if LONG else 3
RATE = 25
TOKENS = 20


@pytest.fixture(scope="module")
def database():
    server = postgres.Postgres()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory, database):
    with clouds.signed_in(tmp_path_factory.mktemp("cloud"), "--database", database.url) as shared:
        yield shared


@pytest.fixture(params=["sqlite", "postgres"])
def either(request):
    return request.getfixturevalue("cloud" if request.param == "sqlite" else "on_postgres")


@pytest.fixture
def busy(either):
    either.make_stubs("busy", replicas=2, flags=["--token-ms", "10"])
    key, key_id = either.make_key("load")
    either.wait_ready("busy", 2)
    load = clouds.Load(either.inference, key, "busy", RATE, TOKENS)
    yield load
    load.stop()
    either.api("DELETE", f"/keys/{key_id}", expect=204)
    either.end_replicas()


def check_consistent(database):
    """What is written together is there together: requests and their hours, endpoints with their names and revisions. How many requests."""
    connection = sqlite3.connect(database)

    def one(query):
        return connection.execute(query).fetchone()

    try:
        requests = one("SELECT COUNT(*), SUM(input_tokens), SUM(output_tokens), SUM(cost) FROM usage_requests")
        assert requests == one("SELECT SUM(requests), SUM(input_tokens), SUM(output_tokens), SUM(cost) FROM usage_hours")
        for table in ("endpoint_names", "revisions"):
            assert one(f"SELECT COUNT(*) FROM endpoints WHERE id NOT IN (SELECT endpoint FROM {table})") == (0,)
            assert one(f"SELECT COUNT(*) FROM {table} WHERE endpoint NOT IN (SELECT id FROM endpoints)") == (0,)
        assert one("SELECT COUNT(*) FROM replicas WHERE deployment NOT IN (SELECT id FROM deployments)") == (0,)
        return requests[0]
    finally:
        connection.close()


def make_and_remove(cloud, number):
    """Endpoints that come and go while a backup is taken."""
    deployment = {"name": "main", "command": ["true"], "replicas": 0, "memory_bytes": 1 << 20}
    for name in (f"made-{number}-{i}" for i in range(20)):
        cloud.api("POST", "/endpoints", {"name": name, "deployments": [deployment]}, expect=201)
        cloud.api("PATCH", f"/endpoints/{name}", {"deployments": [deployment | {"memory_bytes": 2 << 20}]}, expect=200)
        time.sleep(0.02)
        cloud.api("DELETE", f"/endpoints/{name}", expect=204)


def test_a_backup_under_load_is_of_one_moment(either, busy, tmp_path):
    counts, here = [], clouds.Terminal(either.home)
    for number in range(BACKUPS):
        make = threading.Thread(target=make_and_remove, args=(either, number))
        make.start()
        time.sleep(0.5)
        rows = here.json("backup", tmp_path / f"{number}.backup", *either.flags)["rows"]
        make.join()
        elsewhere = clouds.Terminal(tmp_path / f"home-{number}")
        assert elsewhere.json("restore", tmp_path / f"{number}.backup")["rows"] == rows
        counts.append(check_consistent(elsewhere.home / "cloud" / "cloud.db"))
    assert counts[0] > 0 and counts == sorted(set(counts)), counts  # each is of a later moment
    busy.stop()
    assert not busy.bad, busy.bad[:3]


def test_postgres_goes_and_comes_back_under_load(on_postgres, database):
    on_postgres.make_stubs("busy", replicas=2, flags=["--token-ms", "10"])
    key, key_id = on_postgres.make_key("load")
    on_postgres.wait_ready("busy", 2)
    before = sorted(clouds.keepers_of(on_postgres.home / "cloud" / "replicas"))
    load = clouds.Load(on_postgres.inference, key, "busy", RATE, TOKENS)
    for _ in range(5 if LONG else 2):
        time.sleep(1)
        database.restart()
        harness.wait_for(lambda: on_postgres.api("GET", "/endpoints/busy").status == 200, 30, "the API answers")
    killed = on_postgres.kill("control-plane")
    on_postgres.wait_back("control-plane", killed)
    load.stop()
    assert load.good > 20 and not load.bad, load.bad[:3]
    on_postgres.wait_ready("busy", 2)
    assert sorted(clouds.keepers_of(on_postgres.home / "cloud" / "replicas")) == before
    harness.wait_for(lambda: int(database.query(f"SELECT COUNT(*) FROM usage_requests WHERE key = '{key_id}' AND status = 200")[0]) >= load.good,
                     30, "all usage is counted")
    on_postgres.api("DELETE", "/endpoints/busy", expect=204)
