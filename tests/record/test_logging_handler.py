"""LoggingHandler: what a record says, and that whoever logs is never disturbed."""

import logging
import os
import sys
import threading

import judge
import pytest
import rings

import ringbuf


@pytest.fixture
def tracer():
    with rings.tracer() as tracer:
        yield tracer


@pytest.fixture
def logger(tracer):
    logger = logging.Logger("shop.pay")
    logger.addHandler(ringbuf.LoggingHandler(tracer))
    return logger


def logged(tracer):
    return [record.fields for record in rings.records(tracer.channel)]


def messages(tracer):
    return [fields["message"] for fields in logged(tracer)]


def test_a_log_record_has_all_its_parts(tracer, logger):
    logger.warning("order %d of %s", 17, "me")
    line = sys._getframe().f_lineno - 1
    assert logged(tracer) == [
        {
            "level": "WARNING",
            "logger": "shop.pay",
            "message": "order 17 of me",
            "file": __file__,
            "line": line,
            "function": "test_a_log_record_has_all_its_parts",
            "exception": "",
        }
    ]


def test_the_judge_reads_it(tracer, logger, tmp_path):
    logger.error("grüße %s", "x")
    tracer.snapshot(tmp_path)
    (event,) = judge.events(tmp_path)
    assert event["name"] == "log" and event["labels"] == {"level": ["ERROR"]}
    assert event["fields"]["level"] == 40 and event["fields"]["message"] == "grüße x"


@pytest.mark.parametrize("level", [0, 10, 20, 30, 40, 50])
def test_levels_have_their_names(tracer, level):
    handler = ringbuf.LoggingHandler(tracer)
    handler.handle(logging.makeLogRecord({"levelno": level, "msg": "x"}))
    assert logged(tracer)[0]["level"] == logging.getLevelName(level)


@pytest.mark.parametrize("level", [-1, 5, 25, 1000])
def test_levels_without_a_name_are_numbers(tracer, level):
    ringbuf.LoggingHandler(tracer).handle(logging.makeLogRecord({"levelno": level, "msg": "x"}))
    assert logged(tracer)[0]["level"] == level


def test_what_is_below_the_level_or_filtered_is_left_out(tracer, logger):
    logger.handlers[0].setLevel(logging.WARNING)
    logger.handlers[0].addFilter(lambda record: "secret" not in record.getMessage())
    logger.info("too low")
    logger.error("secret")
    logger.error("told")
    assert messages(tracer) == ["told"]


def test_an_exception_and_a_stack_are_text(tracer, logger):
    try:
        raise KeyError("what was sought")
    except KeyError:
        logger.exception("not found")
    logger.info("here", stack_info=True)
    first, second = logged(tracer)
    assert first["message"] == "not found"
    assert first["exception"].startswith("Traceback (most recent call last)")
    assert first["exception"].endswith("KeyError: 'what was sought'")
    assert second["exception"].startswith("Stack (most recent call last)")


def test_what_utf8_cannot_say_is_escaped(tracer, logger):
    logger.info("file %s", "\udcff.txt")
    assert messages(tracer) == ["file \\udcff.txt"]


def test_a_record_of_anything_is_taken(tracer):
    handler = ringbuf.LoggingHandler(tracer)
    handler.handle(logging.makeLogRecord({"levelno": 20, "msg": {"any": "object"}, "pathname": None}))
    (fields,) = logged(tracer)
    assert fields["message"] == "{'any': 'object'}" and fields["file"] == "" and fields["line"] == 0


def test_a_message_that_does_not_fit_is_counted(tracer, logger):
    logger.info("x" * tracer.channel.subbuf_size)
    logger.info("fits")
    assert tracer.stats().records_lost_big == 1
    assert messages(tracer) == ["fits"]


# ---- trouble ----


def test_trouble_is_told_as_logging_does_and_does_not_reach_who_logs(tracer, logger, capsys):
    logger.info("%d", "no number")
    tracer.close()
    logger.info("closed")
    told = capsys.readouterr().err
    assert told.count("--- Logging error ---") == 2
    assert "%d" in told and "a real number" in told and "the channel is closed" in told


def test_trouble_is_not_told_to_those_who_do_not_want_to_know(logger, capsys, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger.info("%d", "no number")
    assert capsys.readouterr().err == ""


def test_an_error_output_that_logs_is_no_loop(tracer, logger, monkeypatch):
    class Logs:
        def write(self, text):
            logger.error("%d", text)  # trouble again

    monkeypatch.setattr(sys, "stderr", Logs())
    logger.info("%d", "no number")
    logger.info("still here")
    assert messages(tracer) == ["still here"]


def test_a_context_that_logs_is_no_loop():
    logger = logging.Logger("contexts")

    def provide():
        logger.info("providing")
        return 1

    with rings.tracer(contexts=(("n", "u64", provide),)) as tracer:
        logger.addHandler(ringbuf.LoggingHandler(tracer))
        logger.info("outer")
        assert tracer.stats().records_lost_nesting == 1
        assert messages(tracer) == ["outer"]


def test_a_text_that_logs_comes_first(tracer, logger):
    class Talks:
        def __str__(self):
            logger.info("inner")
            return "outer"

    logger.info("%s", Talks())
    assert messages(tracer) == ["inner", "outer"]


# ---- threads and processes ----


def test_there_is_no_lock_to_wait_for(tracer):
    handler = ringbuf.LoggingHandler(tracer)
    handler.acquire()
    assert handler.lock is None
    handler.release()
    handler.close()


def test_a_forked_child_logs_on(tracer, logger):
    rings.in_fork(logger.info, "child %d", 1)
    logger.info("parent")
    assert messages(tracer) == ["child 1", "parent"]


def test_threads_log_at_the_same_time(logger):
    with rings.tracer(subbuf_size=1 << 16) as tracer:
        logger.handlers[:] = [ringbuf.LoggingHandler(tracer)]
        threads = [
            threading.Thread(target=lambda n=n: [logger.info("%d %d", n, i) for i in range(100)]) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(messages(tracer)) == sorted(f"{n} {i}" for n in range(4) for i in range(100))


def test_other_handlers_work_beside_it(logger, tmp_path):
    file = logging.FileHandler(tmp_path / "log")
    logger.addHandler(file)
    logger.info("both")
    file.close()
    assert (tmp_path / "log").read_text() == f"both{os.linesep}"
