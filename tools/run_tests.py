#!/usr/bin/env python3
"""Runs every test and counts them; with a filter only the suites whose name contains it, or else the tests whose name does.

A suite is a GoogleTest binary or a pytest folder. Each writes a JUnit file, and the counts come from there: a binary that
crashes, runs out of time or leaves no file is one failure. The last line is `tests: N passed, F failed, S skipped`, and the
exit code agrees with it. A skip must be listed in tests/allowed_skips.txt; any other counts as a failure.

With NEUTRINO_TEST_LONG=1 (`--long`) the tests use the budgets of the full figures instead of the small ones.
"""
import argparse
import dataclasses
import fnmatch
import os
import pathlib
import subprocess
import sys
import time
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "reports"

# These read hostile input, so they also run under AddressSanitizer and UndefinedBehaviorSanitizer.
SANITIZED = ["weights", "models", "tokenizer", "text", "chat", "net", "store", "server"]
# These have threads of their own, so `--long` also runs them under ThreadSanitizer.
THREADED = ["compute", "engine", "net", "server"]


@dataclasses.dataclass
class Suite:
    name: str                  # "release/engine", "e2e"
    command: list
    kind: str                  # "gtest" or "pytest"
    timeout_s: int
    environment: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Counts:
    passed: int = 0
    failures: list = dataclasses.field(default_factory=list)
    skipped: int = 0


def gtest_suites(preset, names, timeout_s):
    folder = ROOT / "build" / preset / "tests"
    for name in sorted({path.parent.relative_to(ROOT / "src").parts[0] for path in (ROOT / "src").rglob("*_test.cpp")}):
        if names is None or name in names:
            yield Suite(f"{preset}/{name}", [str(folder / f"{name}_test")], "gtest", timeout_s)


def pytest_suite(name, timeout_s, tests=None, **environment):
    return Suite(name, [sys.executable, "-m", "pytest", "-q", f"tests/{tests or name}"], "pytest", timeout_s, environment)


def all_suites(options):
    timeout_s = 3600 if options.long else 600
    yield pytest_suite("checks", timeout_s)
    yield from gtest_suites("release", None, timeout_s)
    if options.quick:
        return
    yield from gtest_suites("debug", SANITIZED, timeout_s)
    if options.long:
        yield from gtest_suites("tsan", THREADED, timeout_s)
        yield pytest_suite("tsan/pull", timeout_s, "e2e/test_pull.py", NEUTRINO_TEST_BINARY=str(ROOT / "build/tsan/neutrino"))
    yield pytest_suite("e2e", 2 * timeout_s)


def select(suites, text):
    """The suites whose name contains `text`; if there is none, all of them, cut down to the tests whose name does."""
    named = [suite for suite in suites if text in suite.name]
    if named:
        return named
    cut = {"gtest": [f"--gtest_filter=*{text}*"], "pytest": ["-k", text]}
    return [dataclasses.replace(suite, command=suite.command + cut[suite.kind]) for suite in suites]


def run(suite):
    """Runs a suite and returns its report file and what went wrong outside of single tests, if anything."""
    report = REPORTS / f"{suite.name.replace('/', '_')}.xml"
    report.unlink(missing_ok=True)
    flag = "--gtest_output=xml:" if suite.kind == "gtest" else "--junitxml="
    command = suite.command + [flag + str(report)]
    if suite.kind == "gtest":
        command.append("--gtest_brief=1")
    try:
        code = subprocess.run(command, cwd=ROOT, timeout=suite.timeout_s, check=False,
                              env=os.environ | suite.environment).returncode
    except subprocess.TimeoutExpired:
        return report, f"did not end within {suite.timeout_s} s"
    except OSError as error:
        return report, f"did not start: {error}"
    if suite.kind == "pytest" and code == 5:  # pytest's word for "nothing selected"
        return report, None
    return report, None if code in (0, 1) and report.exists() else f"ended with code {code}"


def read_cases(suite, report):
    """(name, outcome, message) for each test of a JUnit file."""
    for case in xml.parse(report).iter("testcase"):
        name = f"{suite.name}/{case.get('classname')}.{case.get('name')}"
        if case.get("status") == "notrun":  # GoogleTest lists disabled and filtered tests too
            continue
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            yield name, "failed", ""
        elif skipped is not None or case.get("result") == "skipped":
            yield name, "skipped", (skipped.get("message") or "") if skipped is not None else ""
        else:
            yield name, "passed", ""


def allowed_skips():
    lines = (ROOT / "tests" / "allowed_skips.txt").read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def count(suite, report, problem, counts, patterns):
    before = len(counts.failures)
    if report.exists():
        for name, outcome, message in read_cases(suite, report):
            if outcome == "passed":
                counts.passed += 1
            elif outcome == "skipped" and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                counts.skipped += 1
            else:
                counts.failures.append(f"{name} {'skipped: ' + message.strip() if outcome == 'skipped' else ''}".strip())
    if problem and len(counts.failures) == before:
        counts.failures.append(f"{suite.name} {problem}")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev test", description=__doc__.splitlines()[0])
    parser.add_argument("filter", nargs="?", default="", help="only suites or tests whose name contains this")
    parser.add_argument("--long", action="store_true", help="the budgets of the full figures")
    parser.add_argument("--quick", action="store_true", help="no sanitizers, no end-to-end tests")
    return parser.parse_args()


def main():
    options = parse_arguments()
    if options.long:
        os.environ["NEUTRINO_TEST_LONG"] = "1"
    REPORTS.mkdir(parents=True, exist_ok=True)
    counts, patterns = Counts(), allowed_skips()
    for suite in select(list(all_suites(options)), options.filter):
        print(f"== {suite.name}", flush=True)
        start = time.monotonic()
        report, problem = run(suite)
        count(suite, report, problem, counts, patterns)
        print(f"== {suite.name}: {time.monotonic() - start:.1f} s", flush=True)
    if counts.passed + len(counts.failures) + counts.skipped == 0:
        counts.failures.append(f"no test matches '{options.filter}'")
    for failure in counts.failures:
        print(f"FAILED {failure}")
    print(f"tests: {counts.passed} passed, {len(counts.failures)} failed, {counts.skipped} skipped")
    return 1 if counts.failures else 0


if __name__ == "__main__":
    sys.exit(main())
