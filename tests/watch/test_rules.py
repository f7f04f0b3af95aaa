"""watch/rules.py: triggers, rates, sizes, as texts."""

import signal

import pytest

from ringbuf.watch import rules


def test_each_kind_of_trigger_is_read_from_its_text():
    on = "exception, signal=USR2,over=0.3,over=db*:50ms,over=p99*3,log,loop,main=2,heartbeat=1min,loss,memory=2G"
    found = rules.triggers_of(on)
    assert [one.kind for one in found] == [
        "exception", "signal", "over", "over", "over", "log", "loop", "main", "heartbeat", "loss", "memory"
    ]  # fmt: skip
    values = [one.value for one in found]
    assert values[0] is None and values[1] == signal.SIGUSR2
    assert [(one.pattern, one.ns, one.factor, one.quantile) for one in values[2:5]] == [
        ("*", 300_000_000, 0.0, 0.0), ("db*", 50_000_000, 0.0, 0.0), ("*", 0, 3.0, 0.99)
    ]  # fmt: skip
    assert values[5:] == [40, 1.0, 2.0, 60.0, None, 2 << 30]


def test_several_texts_and_one_with_commas_are_the_same():
    as_list = rules.triggers_of(["loss", "signal=SIGUSR1,log=WARNING"])
    assert [(one.kind, one.value) for one in as_list] == [("loss", None), ("signal", 10), ("log", 30)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no trigger; there are exception, signal"),
        ("crash", "'crash' is no trigger; there are exception"),
        ("exception=1", "exception takes no value"),
        ("signal", "signal needs a value: signal=USR2"),
        ("signal=USR3", "there is no signal 'USR3'"),
        ("signal=KILL", "KILL cannot be a trigger"),
        ("signal=SEGV", "SEGV cannot be a trigger"),
        ("over", "over needs a value"),
        ("over=fast", "'fast' is no duration"),
        ("over=0", "'0' is no duration"),
        ("over=nan", "'nan' is no duration"),
        ("over=:3", "no name before the colon"),
        ("over=p100*2", "no multiple of a quantile"),
        ("over=p99*x", "no multiple of a quantile"),
        ("log=LOUD", "'LOUD' is no level"),
        ("memory=lots", "'lots' is no size"),
        ("memory=0", "'0' is no size"),
        ("loop=-1", "'-1' is no duration"),
    ],
)
def test_what_is_no_trigger_is_refused_with_what_there_is(text, message):
    with pytest.raises(ValueError, match=message):
        rules.triggers_of(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1/min", (1, 60.0)),
        ("3/10min", (3, 600.0)),
        ("20/h", (20, 3600.0)),
        ("100/s", (100, 1.0)),
        ("1/day", (1, 86400.0)),
    ],
)
def test_rates(text, rate):
    assert rules.rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "1", "0/min", "-1/s", "1/", "x/min", "1/century", None])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="at_most: .* is no rate; 1/min"):
        rules.rate_of(text)


@pytest.mark.parametrize(("text", "size"), [("500M", 500 << 20), ("1G", 1 << 30), (4096, 4096), ("8KiB", 8192)])
def test_sizes(text, size):
    assert rules.size_of(text, "max_size") == size
