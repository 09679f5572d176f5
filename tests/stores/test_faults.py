from __future__ import annotations

from proxy.stores.faults import Faults


def test_each_kind_of_fault_is_told_once_until_it_works_again() -> None:
    told: list[str] = []
    faults = Faults("disk", lambda name, what: told.append(f"{name}: {what}"))
    for _ in range(2):
        faults.failed("put", "full", "no space")
        faults.failed("put", "broken", "I/O error")
        faults.failed("get", "broken", "I/O error")
        faults.worked("delete")
    assert told == ["disk: put: no space", "disk: put: I/O error", "disk: get: I/O error"]
    assert faults.detail == "put: no space; put: I/O error; get: I/O error"
    faults.worked("put")
    faults.worked("put")
    faults.failed("put", "full", "no space")
    assert told[3:] == ["disk: put: works again", "disk: put: no space"]
