"""Requests to stop."""

import signal

import pytest

from kdprobe.runtime import signals


def test_signals_of_one_moment_are_one_request_and_a_later_one_interrupts(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: clock[0])
    request = signals.StopRequest()
    for seconds in (0, 0.1):
        clock[0] += seconds
        request(signal.SIGTERM, None)
    assert request.reason == "SIGTERM"
    clock[0] += 1
    with pytest.raises(KeyboardInterrupt):
        request(signal.SIGINT, None)


def test_where_nothing_can_be_lost_one_request_interrupts_once():
    request = signals.StopRequest()
    with request.at_once():
        with pytest.raises(KeyboardInterrupt):
            request(signal.SIGTERM, None)
        request(signal.SIGTERM, None)  # while what was interrupted is put in order
