"""The record of other bodies: it goes on where it stopped."""

import bodies
import pandas as pd


def test_a_stopped_record_goes_on(tmp_path, monkeypatch):
    made = []

    def run(name, settings):
        def measured(*arguments, **named):
            made.append(name)
            return [{"setting": setting, "right": 0.5} for setting in settings]

        return measured

    monkeypatch.setattr(bodies, "padding", run("padding", (24, 48)))
    monkeypatch.setattr(bodies, "inserting", run("insertion", (0,)))
    out = tmp_path / "bodies.csv"
    common = ["--problems", "2", "--out", str(out)]
    bodies.main(["--bodies", "insertion", "--seeds", "0", *common])
    bodies.main(["--bodies", "padding", "insertion", "--seeds", "0", "1", *common])
    assert made == ["insertion"] + ["padding"] * 8 + ["insertion"]
    table = pd.read_csv(out)
    assert len(table) == 2 + 8 * 2
    assert not table.duplicated(["body", "seed", "setting"]).any()
