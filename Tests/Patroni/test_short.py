"""The part of it that is quick: bootstrap, switchover, and a store that loses its leader."""

import pytest

pytest.importorskip("psycopg2", reason="scripts/setup --patroni installs it")

from test_patroni import drill, table  # noqa: E402


def test_postgresql_is_kept_up(tables: list[str]) -> None:
    result = drill("martlet", "clear", short=True)
    tables.append(table("Clear text, short", {"martlet": result}))
    assert not result.failure, result.failure
