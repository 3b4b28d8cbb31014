"""Every record of the families beside its parent: which answers and numbers are its own."""

from dataclasses import fields

import pytest

from dllm_rl_lite.methods import (
    BUDGETS,
    CORE,
    FAMILY,
    METHODS,
    NEWER,
    PATHS,
    PROBLEMS,
    STAGES,
    Numbers,
)

# The answers that each changes of its parent's; all else is the same.
CHANGED = {
    "grpo": {"views", "advantage", "weighted_penalty", "average"},
    # grpo family
    "dr-grpo": {"advantage", "average"},
    "rloo": {"advantage"},
    "dapo": {"surrogate", "average"},
    "cispo": {"surrogate"},
    "gspo": {"level", "ratio", "surrogate", "penalty", "average"},  # all of texts
    "sapo": {"surrogate"},
    "dcpo-clip": {"surrogate"},
    "sspo-style": {"ratio", "surrogate"},
    "guard-style": {"level", "surrogate"},
    "reg-grpo": {"level", "ratio", "surrogate", "penalty", "average"},
    "ngrpo": {"advantage"},
    "seed-grpo": {"advantage"},
    "xrpo-sharpening": {"advantage"},
    "pref-grpo": {"shape"},
    # path family
    "tempo": {"advantage"},
    "spo-chain": {"dice", "advantage"},
    "spo-tree": {"dice", "advantage"},
    "treepo": {"dice", "advantage"},
    "branch-grpo": {"dice", "advantage"},
    "s-grpo": {"dice", "shape", "advantage"},
    "path-loo": {"advantage"},
    "gtpo": {"token_credit", "ratio", "surrogate"},
    "tw-grpo": {"token_credit"},
    "rank-grpo-style": {"advantage", "ratio"},
    "mix-grpo-style": {"dice"},
    "tempflow-style": {"dice", "token_credit"},
    # problem family
    "dapo-sampling": {"groups"},
    "d3s": {"rows"},
    "xrpo-allocation": {"allocate"},
    "grpo-pool": {"problems"},
    "dcpo-smooth": {"remember", "advantage"},
    "spo-single": {"problems", "remember", "advantage"},
    "mt-grpo": {"problems", "remember", "groups"},
    # budget family
    "ada-grpo": {"shape"},
    "gated-grpo": set(),
    "grpo-lambda": {"shape"},
    "pass-penalty": {"shape"},
    "train-long-style": {"shape"},
    "xrpo-seeding": {"start", "remember"},
    "rest-grpo": {"start", "remember", "groups"},
    "hints": {"start", "remember"},
    "rgr-style": {"refine", "surrogate"},
    # stage family
    "ton": {"given"},
    "grao": {"given", "advantage", "ratio", "surrogate"},
    "dpo": {"advantage", "level", "to_reference", "surrogate", "penalty", "average"},
    "cdpo-style": {"token_credit"},
    "tgdpo-style": {"surrogate"},
    "rspo": {"shape", "advantage", "level", "ratio", "surrogate", "penalty", "average"},
    "rspo-forward": {"penalty"},
    "rspo-reverse": {"penalty"},
    "cpc-style": {"problems", "advantage", "token_credit"},
    # newer
    "d2-stepmerge": {"views"},
    "spg": {"views", "advantage", "average"},
}
# The numbers of the tiny world that are not the parent's.
NUMBERS = {
    "grpo": {"inner_updates"},
    "gspo": {"clip"},
    "dapo-sampling": {"rounds"},
    "spo-single": {"prompts", "group"},
    "mt-grpo": {"rounds"},
    "gated-grpo": {"gate"},
    "rgr-style": {"verify"},
    "rspo": {"kl"},
    "cpc-style": {"prompts", "group"},
    "d2-stepmerge": {"kl", "lr"},
}
PARENTS = {
    "grpo": "agrpo",
    "dapo-sampling": "dapo",
    "dcpo-smooth": "grpo-pool",
    "spo-single": "grpo-pool",
    "grpo-lambda": "gated-grpo",
    "pass-penalty": "gated-grpo",
    "train-long-style": "gated-grpo",
    "xrpo-seeding": "grpo-pool",
    "rest-grpo": "grpo-pool",
    "hints": "grpo-pool",
    "ton": "sft",
    "cdpo-style": "dpo",
    "tgdpo-style": "dpo",
    "rspo-forward": "rspo",
    "rspo-reverse": "rspo",
    "d2-stepmerge": "diffu-grpo",
    "spg": "wd1",
}
# The function that says what is reconstructed. The window of mix-grpo-style and the loss of
# tgdpo-style are the papers'; what is ours of them stands beside the record.
RECONSTRUCTED = {
    "sspo-style": "surrogate",
    "guard-style": "surrogate",
    "rank-grpo-style": "advantage",
    "tempflow-style": "token_credit",
    "train-long-style": "shape",
    "rgr-style": "refine",
    "cdpo-style": "token_credit",
    "cpc-style": "token_credit",
}


def answers(method):
    known = {**vars(method), **vars(method.objective)}
    for name in ("name", "parent", "source", "objective", "paper", "tiny"):
        del known[name]
    return known


@pytest.mark.parametrize("name", CHANGED)
def test_a_record_changes_what_the_table_says(name):
    method = METHODS[name]
    parent = METHODS[method.parent]
    mine, theirs = answers(method), answers(parent)
    assert method.parent == PARENTS.get(name, "grpo")
    assert {key for key in mine if mine[key] != theirs[key]} == CHANGED[name]
    numbers = [f.name for f in fields(Numbers)]
    own = {key for key in numbers if getattr(method.tiny, key) != getattr(parent.tiny, key)}
    assert own == NUMBERS.get(name, set())


def test_every_record_is_in_one_family_and_in_the_table():
    families = (CORE, FAMILY, PATHS, PROBLEMS, BUDGETS, STAGES, NEWER)
    listed = [name for family in families for name in family]
    assert len(listed) == len(set(listed)) and set(listed) | {"merged-path"} == METHODS.keys()
    assert CHANGED.keys() | {"sft"} == set(listed) - CORE.keys()
    n = METHODS["grpo"].tiny
    assert (n.prompts, n.group, n.inner_updates, n.kl, n.lr) == (32, 8, 2, 0.0, 2e-4)


def test_what_is_reconstructed_says_so():
    for name, method in METHODS.items():
        assert method.source.startswith("after ") == name.endswith("-style")
    for name, slot in RECONSTRUCTED.items():
        assert "Source: reconstructed" in answers(METHODS[name])[slot].function.__doc__
