"""What results show, in sentences: none without a test, or an interval, behind it, but those on what to do next.

Each module makes the sentences of some kinds of results, from their numbers alone. They are the last to say more than
these bear: a difference is told where Holm's p value finds it, and where not, its interval, and for methods whose seeds
say how far trainings scatter, what difference could have been found.
"""
