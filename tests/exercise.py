"""What the tests of every chapter's exercise checks share."""

import torch

# What a learner may hand in by mistake; no check may call it right or raise.
GARBAGE = [
    0,
    -1,
    3.5,
    "text",
    b"x",
    [],
    (),
    [None] * 3,
    (0.1, "a", None),
    {},
    {1},
    float("nan"),
    (float("nan"),) * 3,
    torch.zeros(3, 3),
    torch.tensor([]),
    object(),
    int,
    lambda: 0,
    lambda *a: 1 / 0,
    lambda *a: "text",
    lambda *a: [],
    lambda *a: torch.zeros(2),
    lambda *a: float("nan"),
    lambda *a: [[1], [1, 2]],
    lambda *a: object(),
    float("inf"),
    [None] * 4,
    (0.1, "a", None, 2),
    (float("nan"),) * 5,
    lambda *a: (None, None),
    lambda *a: ("a", "b"),
    lambda *a: [None, None, None],
    lambda *a: (float("nan"),) * 2,
    lambda *a: torch.zeros((), requires_grad=True),
    lambda *a: a[0] * float("nan"),
    lambda *a: a[0].sum(1) * float("nan"),
    lambda *a: a[0] * 7 - 3,
    lambda *a: a[0][:1],
    lambda *a: (torch.zeros(6000, 4), torch.zeros(6000)),
]


def said(capsys, check, answer) -> str:
    """The verdict that a check prints, its last line: a learner's function may print lines of its
    own."""
    check(answer)
    return capsys.readouterr().out.splitlines()[-1]
