"""The counting behind the last line: what is a failure, and what may be skipped."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import run_tests

GTEST = """<testsuites><testsuite name="Store">
  <testcase name="imports" status="run" result="completed" classname="Store" />
  <testcase name="of_another_filter" status="notrun" result="suppressed" classname="Store" />
  <testcase name="fills_the_disk" status="run" result="skipped" classname="Store"><skipped message="no disk" /></testcase>
  <testcase name="breaks" status="run" result="completed" classname="Store"><failure message="x" /></testcase>
</testsuite></testsuites>"""
SUITE = run_tests.Suite("release/weights", ["true"], "gtest", 5)


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.xml"
    path.write_text(GTEST, encoding="utf-8")
    return path


def counted(report, problem=None, patterns=()):
    counts = run_tests.Counts()
    run_tests.count(SUITE, report, problem, counts, patterns)
    return counts.passed, len(counts.failures), counts.skipped


def test_a_skip_counts_as_a_failure_unless_it_is_allowed(report):
    assert counted(report) == (1, 2, 0)
    assert counted(report, patterns=["release/weights/Store.fills*"]) == (1, 1, 1)
    assert counted(report, patterns=["debug/weights/Store.fills*"]) == (1, 2, 0)


def test_a_suite_that_leaves_no_report_is_a_failure(tmp_path):
    assert counted(tmp_path / "missing.xml", problem="ended with code -11") == (0, 1, 0)


@pytest.mark.parametrize("command, problem", [
    (["false"], "ended with code 1"), (["bash", "-c", "kill -SEGV $$"], "ended with code -11"),
    (["/no/such/binary"], "did not start"), (["bash", "-c", "sleep 30"], "did not end within 1 s"),
])
def test_what_goes_wrong_outside_of_tests_is_noticed(tmp_path, monkeypatch, command, problem):
    monkeypatch.setattr(run_tests, "REPORTS", tmp_path)
    suite = run_tests.Suite("x", command, "pytest", 1)
    assert problem in run_tests.run(suite)[1]


def test_a_filter_names_suites_or_else_tests():
    suites = [SUITE, run_tests.Suite("e2e", ["pytest"], "pytest", 5)]
    assert run_tests.select(suites, "weights") == [SUITE]
    assert [suite.command for suite in run_tests.select(suites, "disk")] == [["true", "--gtest_filter=*disk*"], ["pytest", "-k", "disk"]]
