"""Collects the drills' tables and prints them at the end."""

import pytest

TABLES: list[str] = []


@pytest.fixture
def tables() -> list[str]:
    return TABLES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for table in TABLES:
        terminalreporter.write_line(table)
