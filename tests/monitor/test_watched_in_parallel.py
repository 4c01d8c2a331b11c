"""Under torchrun process 0 looks, and both processes stop at the same step with the same weights."""

import json

from parallel_watch import main

from diffuscope.monitor import read_looks
from launched import launch


def test_process_0_looks_and_both_stop(tmp_path):
    launch(main, tmp_path, 2)
    first, second = (json.loads((tmp_path / f"found{k}.json").read_text()) for k in range(2))
    assert first["asked"] == second["asked"] == [1, 2, 3, 4]
    assert first["weights"] == second["weights"]
    assert (first["looks"], second["looks"]) == ([2, 4], [])
    assert (tmp_path / "monitor.html").exists()
    # a look that fails in process 0 ends neither; at the first look both raise
    assert first["later"] == second["later"] == [False, False, True]
    assert [look.word for look in read_looks(tmp_path / "later" / "monitor.jsonl")][1:] == ["cannot-tell", "copies"]
    assert first["first"] == "KeyError: 'a mistake'"
    assert second["first"] == "CrashedElsewhereError: KeyError: 'a mistake'"
    assert [(look.word, look.stop) for look in read_looks(tmp_path / "monitor.jsonl")] == [
        ("not-detected", False), ("copies", True)
    ]  # fmt: skip
