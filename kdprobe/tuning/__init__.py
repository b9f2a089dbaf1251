"""A fair comparison: every method is tuned alike on held-out images, trained anew as chosen, and tested once.

`plan` says what is trained, `chosen` which setting is best and `decisions` when that was decided, `comparing` runs
both sweeps, `budget` says beforehand what they take, and `result` puts what came out into one.
"""
