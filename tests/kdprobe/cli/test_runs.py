"""How runs are listed."""

import random

from kdprobe.cli.runs import _listed, _table


def test_runs_are_listed_as_pandas_would_list_them():
    draw = random.Random(0)
    for n_rows in [1, 1, 1, *range(1, 20)]:
        shares = [None, 0.0, 1.0, 0.5, draw.randrange(361) / 360]
        rows = [
            {
                "run": "runs/" + draw.choice(["a", "digits-vit", "ö"]),
                "seed": draw.choice([0, 7, 2**60]),
                "epochs": f"{draw.randrange(20)}/20",
                "accuracy": draw.choice(shares[: draw.randrange(1, 6)]),
                "state": draw.choice(["finished", "damaged: its last.safetensors is missing"]),
            }
            for _ in range(n_rows)
        ]
        assert _listed(rows) == _table(rows)
