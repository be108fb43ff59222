"""Copies of a data dir with something wrong, and what a server makes of them."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import paths
from harness.protos import Client, messages
from harness.server import Server, StartupFailure

CALL_SECONDS_MAX = 10


@dataclass
class Verdict:
    """Either `values` (key to value, of what is served) or the `refusal` (the log)."""

    values: dict[bytes, bytes] | None
    refusal: str
    corrupt_alarm: bool = False

    def names_place(self, folder: str) -> bool:
        """Whether the log names a file in `folder` and an offset."""
        return bool(re.search(rf"{folder}/[\w.-]+", self.refusal)
                    and re.search(r'offset"?\W{0,3}\d+', self.refusal))


class Specimen:
    """A stopped member's data dir, of which damaged copies are tried."""

    def __init__(self, server: Server):
        self.server = server

    def copy(self) -> Server:
        """A server, not started, on a copy."""
        server = Server(paths.MARTLET)
        subprocess.run(["cp", "-r", "--sparse=always", "--reflink=auto",
                        str(self.server.data_dir), str(server.data_dir)], check=True)
        return server


def put(client: Client, pairs: dict[bytes, bytes]) -> None:
    for key, value in pairs.items():
        client.kv.Put(messages().rpc.PutRequest(key=key, value=value), timeout=CALL_SECONDS_MAX)


def try_start(server: Server) -> Verdict:
    """Starts the server, reads everything, kills it and removes its folder."""
    m = messages().rpc
    with server:
        try:
            server.start()
        except StartupFailure as failure:
            if server.process.poll() is None and not has_alarm(server):
                raise
            if server.process.poll() is not None:
                assert server.process.returncode > 0, f"not a refusal: {failure}"
                return Verdict(None, server.log_text())
        corrupt = has_alarm(server)
        with Client(server.address) as client:
            kvs = client.kv.Range(m.RangeRequest(key=b"\0", range_end=b"\0", serializable=True),
                                  timeout=CALL_SECONDS_MAX).kvs
        return Verdict({each.key: each.value for each in kvs}, server.log_text(), corrupt)


def has_alarm(server: Server) -> bool:
    """Whether the member reports CORRUPT."""
    m = messages().rpc
    with Client(server.address) as client:
        answer = client.maintenance.Alarm(m.AlarmRequest(), timeout=CALL_SECONDS_MAX)
        return any(each.alarm == m.CORRUPT for each in answer.alarms)


def flip_bit(path: Path, offset: int, bit: int = 0) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
