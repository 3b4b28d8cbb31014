"""nbval reads this file only here or beside the notebooks: what a checked cell is not compared
on."""

IGNORED = ("stderr", "application/javascript", "image/svg+xml")


def pytest_collectstart(collector):
    if getattr(collector, "path", None) is not None and collector.path.suffix == ".ipynb":
        collector.skip_compare += IGNORED
