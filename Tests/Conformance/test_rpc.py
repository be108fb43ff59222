"""The same raw RPCs on etcd 3.5.1 and on the server under test must get the same answers."""

from concurrent.futures import ThreadPoolExecutor

import explained
import pytest
import rpc_gateway  # noqa: F401 - registers its cases
import rpc_kv  # noqa: F401 - registers its cases
import rpc_protocol  # noqa: F401
import rpc_streams  # noqa: F401
from harness import paths
from harness.server import Server
from rpc import CASES, Transcript


def run_on(binary: str, name: str) -> list[str]:
    function, flags = CASES[name]
    with Server(binary, flags) as server:
        transcript = Transcript(server.start())
        try:
            function(transcript)
        finally:
            transcript.client.close()
        return transcript.lines


@pytest.mark.parametrize("name", CASES)
def test_rpc(name: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        reference = pool.submit(run_on, paths.ETCD, name)
        tested = pool.submit(run_on, paths.MARTLET, name)
        expected, actual = reference.result(), tested.result()
    assert expected
    found = explained.differences(f"rpc/{name}", expected, actual, explained.load())
    assert not found, "\n".join(found)
