"""Rows written all the time to whichever node is primary."""

import threading
import time

import psycopg2
from node import Node

PAUSE_SECONDS = 0.05


class Writer:
    """A thread while in `with`; `gap` is the longest time without a row acknowledged."""

    def __init__(self, nodes: list[Node]):
        self.nodes = nodes
        self.rows = 0
        self.gap = 0.0
        self.errors: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _write(self) -> None:
        last, connection = time.monotonic(), None
        while not self._ended.wait(PAUSE_SECONDS):
            try:
                if connection is None:
                    node = next((each for each in self.nodes if each.is_primary()), None)
                    connection = node.connect() if node else None
                    continue
                with connection.cursor() as cursor:
                    cursor.execute("insert into log default values")
            except psycopg2.Error as error:
                self.errors.append(str(error).strip())
                connection = None
                continue
            self.rows += 1
            now = time.monotonic()
            self.gap, last = max(self.gap, now - last), now
        if connection:
            connection.close()
