"""Every loop is looked at where the page says."""

import re
from pathlib import Path


def after(run, block):
    if block.language != "python":
        return
    looks = re.findall(r"^step (\d+): ", "".join(run.last), re.MULTILINE)
    if "class Network" in block.text:
        assert looks == ["50", "100"]
        assert Path("out/mine/monitor.html").exists()
    else:
        assert [look.step for look in run.names["monitor"].looks] == [10, 20]
        assert looks.count("10") == 1
