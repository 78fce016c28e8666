"""Running means follow changing durations."""

import math

from services.processor.pace import RunningGeometricMean, RunningMean


def test_the_mean_follows_what_is_usual_now() -> None:
    mean = RunningMean(1.0)
    for _ in range(200):
        mean.add(0.010)
    assert math.isclose(mean.seconds, 0.010, rel_tol=0.01)


def test_a_mean_of_overheads_counts_the_rare_long_ones_in_full() -> None:
    mean = RunningMean(0.1)
    for _ in range(200):
        for seconds in (0.0, 0.0, 0.0, 0.4):
            mean.add(seconds)
    assert 0.09 < mean.seconds < 0.13


def test_one_long_file_does_not_hide_that_the_others_are_short() -> None:
    mean = RunningGeometricMean(0.010)
    mean.add(600.0)
    assert mean.seconds < 0.020
