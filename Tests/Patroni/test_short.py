"""The part of the drill that is quick: a primary that dies, and a leader of the store."""

from test_patroni import drill, table


def test_postgresql_is_kept_up(tables: list[str]) -> None:
    result = drill("martlet", "tls", short=True)
    tables.append(table("TLS, short", {"martlet": result}))
    assert not result.failure, result.failure
