"""Fixtures: the model, a home of our own, one server that most tests share, and a way to start others."""
import os
import pathlib

import openai
import pytest

import cloud as clouds
import harness


@pytest.fixture(scope="session")
def model_path():
    return pathlib.Path(os.environ["NEUTRINO_TEST_MODEL"])


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def server(model_path, home):
    shared = harness.Server(model_path, "--threads", "2", "--context", "2048", home=home)
    yield shared
    assert shared.process.poll() is None, f"the shared server died:\n{shared.log()[-4000:]}"
    assert shared.stop() == 0


@pytest.fixture(scope="session")
def thinker(model_path, home):
    """The same model, whose answers may hold reasoning between <think> tags, and which guesses ahead."""
    shared = harness.Server(model_path, "--threads", "2", "--context", "2048", "--reasoning-parser", "think", "--speculate", "prompt-lookup",
                            home=home)
    yield shared
    assert shared.stop() == 0


@pytest.fixture
def start(home):
    """start(model, flags...) -> Server; stopped after the test."""
    started = []

    def start_one(model, *flags, **options):
        started.append(harness.Server(model, *flags, home=home, **options))
        return started[-1]

    yield start_one
    for one in started:
        one.stop()


@pytest.fixture(scope="session")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """A cloud that a module's tests share, signed in as its administrator. What they make, they remove."""
    with clouds.signed_in(tmp_path_factory.mktemp("cloud")) as shared:
        yield shared
