"""Run by Debian's Python: reads every record of a trace through babeltrace2's bindings, with its fields."""

import sys

import bt2

count = 0
for message in bt2.TraceCollectionMessageIterator(sys.argv[1]):
    if type(message) is bt2._EventMessageConst:
        event = message.event
        payload = {name: event.payload_field[name] for name in event.payload_field}
        count += 1
print(count)
