"""Methods beside their parents: the diff of their sources, the table of their answers."""

import pytest

from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.show import method_diffs, method_table, source_diff


@pytest.mark.parametrize("name", METHODS)
def test_a_diff_is_the_two_sources(name):
    """Kept and new lines, in order, are the method's record and functions; kept and gone ones the
    parent's."""
    method, lines = METHODS[name], method_diffs.diff(name)
    parent = METHODS.get(method.parent)
    mine = [method_diffs.record_source(name)]
    theirs = [method_diffs.record_source(method.parent)] if parent else []
    for question in method_diffs.FUNCTIONS:
        new = getattr(method, question, None) or getattr(method.objective, question, None)
        old = None
        if parent:
            old = getattr(parent, question, None) or getattr(parent.objective, question, None)
        if getattr(new, "function", None) is not getattr(old, "function", None):
            mine += [method_diffs.code(new)] if new else []
            theirs += [method_diffs.code(old)] if old else []
    assert [x[2:] for x in lines if x[:1] in "+ " and x] == "\n".join(mine).splitlines()
    assert [x[2:] for x in lines if x[:1] in "- " and x] == "\n".join(theirs).splitlines()
    page = source_diff(name)._repr_html_()
    assert page.count("<span") == len(lines)
    assert page.count("&lt;") == sum(line.count("<") for line in lines), (
        "source is shown, not read as HTML"
    )


def test_a_table_shows_what_differs_and_only_that():
    """Parent and child beside each other; a method without a parent is shown whole; unknown names
    are named."""
    text = method_table("gdpo")
    assert (
        "quadrature" in text
        and "one_step" in text
        and "inner_updates" not in text
        and "as in diffu-grpo: " in text
    )
    assert "inner_updates" in method_table("diffu-grpo")
    assert "visited" not in method_table("mdpo") and "mean_over_steps" in method_table("mdpo")
    assert "128" not in text and "3e-07" in method_table("gdpo", preset="paper")
    for call in (lambda: method_table("gdp"), lambda: source_diff("gdp")):
        with pytest.raises(ValueError, match="did you mean 'gdpo'"):
            call()
