"""The same etcdctl command lines on etcd 3.5.1 and on the server under test must look the same."""

from concurrent.futures import Future, ThreadPoolExecutor

import explained
import pytest
from harness import paths
from harness.server import Server
from runner import Outcome, Runner
from scenario import Scenario, Step, all_scenarios

SCENARIOS_AT_ONCE = 4
SCENARIOS = {scenario.label: scenario for scenario in all_scenarios()}
CASES = [
    pytest.param(scenario.label, step, id=f"{scenario.label}/{step.label}")
    for scenario in SCENARIOS.values() for step in scenario.cases()
]


def run_on(binary: str, scenario: Scenario) -> dict[int, Outcome]:
    with Server(binary, scenario.flags) as server:
        return Runner(server.start(), scenario.client).run(scenario)


def run_on_both(scenario: Scenario) -> tuple[dict[int, Outcome], dict[int, Outcome]]:
    with ThreadPoolExecutor(2) as pool:
        reference = pool.submit(run_on, paths.ETCD, scenario)
        tested = pool.submit(run_on, paths.MARTLET, scenario)
        return reference.result(), tested.result()


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest) -> dict[str, Future]:
    """The chosen scenarios, running side by side; the slow ones begin first."""
    wanted = {item.callspec.params["label"] for item in request.session.items
              if getattr(item, "callspec", None) and "label" in item.callspec.params}
    pool = ThreadPoolExecutor(SCENARIOS_AT_ONCE)
    request.addfinalizer(lambda: pool.shutdown(cancel_futures=True))
    order = sorted(wanted, key=lambda label: (not label.startswith("slow"), label))
    return {label: pool.submit(run_on_both, SCENARIOS[label]) for label in order}


@pytest.mark.parametrize("label,step", CASES)
def test_etcdctl(label: str, step: Step, runs: dict[str, Future]) -> None:
    reference, tested = runs[label].result()
    found = explained.differences(
        f"{label}/{step.label}", reference[step.line].lines(), tested[step.line].lines(),
        explained.load())
    assert not found, "\n".join(found)
